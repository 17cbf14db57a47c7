package cnirpc

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var netips = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

// full is a request that has a value in every field.
func full() Request {
	zero, one := 0, 1
	return Request{
		Version: Version, Verb: Add, TimeoutMillis: 4750, Plugin: "v1.2.3", Network: "kindnet",
		ContainerID: "c0ffee", IfName: "eth0", Netns: "/var/run/netns/cni-1",
		Pod:        Pod{Namespace: "payments", Name: "web-0", UID: "f81d4fae", InfraContainerID: "c0ffee"},
		Interfaces: []Interface{{Name: "veth1"}, {Name: "eth0", MAC: "02:00:00:00:00:01", Sandbox: "/var/run/netns/cni-1"}},
		IPs: []IP{
			{Address: netip.MustParsePrefix("10.244.0.7/24"), Gateway: netip.MustParseAddr("10.244.0.1"), Interface: &one},
			{Address: netip.MustParsePrefix("fd00::7/64"), Interface: &zero},
			{Address: netip.MustParsePrefix("192.0.2.1/32")},
		},
		ValidAttachments: []Attachment{{ContainerID: "c0ffee", IfName: "eth0"}, {ContainerID: "line\nend", IfName: "\u2028"}},
	}
}

func TestRoundTrip(t *testing.T) {
	for _, want := range []Request{full(), {Version: Version, Verb: Status}, {Version: Version}} {
		var b bytes.Buffer
		if err := WriteRequest(&b, want); err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(b.Bytes(), []byte("\n")); n != 1 || !bytes.HasSuffix(b.Bytes(), []byte("\n")) {
			t.Errorf("%q is not one line", b.Bytes())
		}
		// What follows the line is not the request's.
		got, err := ReadRequest(iotest.OneByteReader(io.MultiReader(&b, strings.NewReader("more"))))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got, netips); diff != "" {
			t.Errorf("request (-want +got):\n%s", diff)
		}
	}
	want := Reply{Version: Version, Member: true, Error: &Error{Kind: TryAgain, Message: "no way out is closed yet"}}
	var b bytes.Buffer
	if err := WriteReply(&b, want); err != nil {
		t.Fatal(err)
	}
	got, err := ReadReply(&b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("reply (-want +got):\n%s", diff)
	}
}

// Each message here was written by another version than the one that reads it.
func TestVersions(t *testing.T) {
	t.Run("newer plugin", func(t *testing.T) {
		got, err := ReadRequest(strings.NewReader(
			`{"version":9,"verb":"TUNE","containerID":"c","pod":{"name":"p","node":"n"},"qos":{"class":["a"]},"ips":[{"address":"10.0.0.1/8","scope":3}]}` + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		want := Request{
			Version: 9, Verb: "TUNE", ContainerID: "c", Pod: Pod{Name: "p"},
			IPs: []IP{{Address: netip.MustParsePrefix("10.0.0.1/8")}},
		}
		if diff := cmp.Diff(want, got, netips); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("newer agent", func(t *testing.T) {
		got, err := ReadReply(strings.NewReader(`{"version":9,"member":true,"links":["ts0"],"error":{"kind":"cosmic","message":"m","ray":1}}` + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		want := Reply{Version: 9, Member: true, Error: &Error{Kind: "cosmic", Message: "m"}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("older plugin", func(t *testing.T) {
		got, err := ReadRequest(strings.NewReader(`{"verb":"DEL","containerID":"c"}` + "\n"))
		if diff := cmp.Diff(Request{Verb: Del, ContainerID: "c"}, got, netips); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
	t.Run("older agent", func(t *testing.T) {
		got, err := ReadReply(strings.NewReader("{}\n"))
		if diff := cmp.Diff(Reply{}, got); diff != "" || err != nil {
			t.Errorf("%v\n%s", err, diff)
		}
	})
}

func TestBadRequests(t *testing.T) {
	broken := errors.New("broken pipe")
	for _, tt := range []struct {
		name string
		from io.Reader
		want error
	}{
		{"nothing", strings.NewReader(""), io.EOF},
		{"half", strings.NewReader(`{"verb":"ADD"`), io.ErrUnexpectedEOF},
		{"whole but for the line's end", strings.NewReader(`{"verb":"ADD"}`), io.ErrUnexpectedEOF},
		{"no JSON", strings.NewReader("ADD\n"), ErrMalformed},
		{"another type", strings.NewReader(`{"verb":7}` + "\n"), ErrMalformed},
		{"a list", strings.NewReader("[]\n"), ErrMalformed},
		{"bad address", strings.NewReader(`{"ips":[{"address":"10.0.0.1"}]}` + "\n"), ErrMalformed},
		{"line too long", strings.NewReader(`{"verb":"` + strings.Repeat("A", MaxRequest) + `"}` + "\n"), ErrTooLarge},
		{"endless line", endless{}, ErrTooLarge},
		{"reader fails", io.MultiReader(strings.NewReader("{"), iotest.ErrReader(broken)), broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := ReadRequest(tt.from); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
}

// endless is a line that never ends.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = ' '
	}
	return len(p), nil
}

func TestLimits(t *testing.T) {
	// The longest line that may be written may be read, and one byte more may be neither.
	long := func(n int) Request { return Request{Network: strings.Repeat("n", n)} }
	var b bytes.Buffer
	if err := WriteRequest(&b, long(0)); err != nil {
		t.Fatal(err)
	}
	room := MaxRequest - b.Len() - len(`,"network":""`)
	b.Reset()
	if err := WriteRequest(&b, long(room)); err != nil {
		t.Fatal(err)
	}
	if b.Len() != MaxRequest {
		t.Fatalf("the line has %d bytes, want %d", b.Len(), MaxRequest)
	}
	if _, err := ReadRequest(&b); err != nil {
		t.Error(err)
	}
	if err := WriteRequest(&b, long(room+1)); !errors.Is(err, ErrTooLarge) || b.Len() > 0 {
		t.Errorf("error %v and %d bytes written, want %v and none", err, b.Len(), ErrTooLarge)
	}
	if err := WriteReply(&b, Reply{Error: &Error{Message: strings.Repeat("m", MaxReply)}}); !errors.Is(err, ErrTooLarge) {
		t.Errorf("error %v, want %v", err, ErrTooLarge)
	}
}

// FuzzRequest: whatever was understood once is understood the same way again.
func FuzzRequest(f *testing.F) {
	var b bytes.Buffer
	if err := WriteRequest(&b, full()); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"verb":"ADD","ips":[{"address":"::ffff:10.0.0.1/100","gateway":"fe80::1%eth0","interface":-1}]}` + "\n"))
	f.Add([]byte("{\"network\":\"\xff\",\"VERB\":\"DEL\",\"verb\":\"GC\",\"validAttachments\":[]}\n"))
	f.Add([]byte("null\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		first, err := ReadRequest(bytes.NewReader(line))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteRequest(&b, first); errors.Is(err, ErrTooLarge) {
			return // escapes are longer than what they stand for
		} else if err != nil {
			t.Fatal(err)
		}
		second, err := ReadRequest(&b)
		if err != nil {
			t.Fatal(err)
		}
		first.Version = Version
		if diff := cmp.Diff(first, second, netips, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("second reading (-first +second):\n%s", diff)
		}
	})
}

// FuzzReply does the same for replies.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"version":1,"member":true,"error":{"kind":"try-again","message":"m"}}` + "\n"))
	f.Add([]byte(`{"error":{}}` + "\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		first, err := ReadReply(bytes.NewReader(line))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := WriteReply(&b, first); errors.Is(err, ErrTooLarge) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		second, err := ReadReply(&b)
		if err != nil {
			t.Fatal(err)
		}
		first.Version = Version
		if diff := cmp.Diff(first, second); diff != "" {
			t.Errorf("second reading (-first +second):\n%s", diff)
		}
	})
}
