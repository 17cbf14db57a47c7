//go:build linux

package traffic

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

var loopback = netip.MustParseAddr("127.0.0.1")

// served returns a namespace with a server in it.
func served(t *testing.T) *netns.Handle {
	t.Helper()
	ns := nstest.New(t)
	err := ns.Do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(lo); err != nil {
			return err
		}
		return serve(t.Context())
	})
	if err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestJobs(t *testing.T) {
	ns := served(t)
	for _, tc := range []struct {
		name  string
		job   Job
		check func(Result) bool
	}{
		{"up", Job{Op: Transfer, ID: 1, Streams: 1, Bytes: 10<<20 + 1}, func(r Result) bool { return r.Took > 0 }},
		{"down", Job{Op: Transfer, ID: 2, Streams: 1, Bytes: 10<<20 + 1, Down: true}, func(r Result) bool { return r.Took > 0 }},
		{"up4", Job{Op: Transfer, ID: 3, Streams: 4, Bytes: 10<<20 + 1}, func(r Result) bool { return r.Took > 0 }},
		{"down4", Job{Op: Transfer, ID: 4, Streams: 4, Bytes: 10<<20 + 1, Down: true}, func(r Result) bool { return r.Took > 0 }},
		{"less than a chunk", Job{Op: Transfer, ID: 5, Streams: 4, Bytes: 1}, func(r Result) bool { return r.Took > 0 }},
		{"blast", Job{Op: Blast, ID: 6, Rate: 10000, Lasting: 200 * time.Millisecond}, func(r Result) bool {
			// On loopback nothing is lost, and the rate is kept from above.
			return r.Received == r.Sent && r.Sent > 0 && r.Sent <= 2000 && r.Took >= 200*time.Millisecond
		}},
		{"ping", Job{Op: Ping, Count: 20, Interval: time.Millisecond}, func(r Result) bool {
			for _, d := range r.RoundTrips {
				if d <= 0 || d > time.Second {
					return false
				}
			}
			return r.Sent == 20 && r.Received == 20 && len(r.RoundTrips) == 20
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.job.To, tc.job.Limit = loopback, 20*time.Second
			var r Result
			err := ns.Do(func() (err error) {
				r, err = tc.job.do(t.Context())
				return err
			})
			if err != nil || !tc.check(r) {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

// TestLimit shows that a job whose answers do not come ends.
func TestLimit(t *testing.T) {
	ns := served(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	// Nothing was ever sent under this ID.
	silent := Job{Op: Blast, ID: 7, To: loopback, Lasting: 0, Limit: 300 * time.Millisecond}
	err := ns.Do(func() error {
		_, err := silent.do(ctx)
		return err
	})
	if err == nil || ctx.Err() != nil {
		t.Errorf("the job ended with %v, the test's context with %v", err, ctx.Err())
	}
}

// TestWork shows that a worker answers each job and goes on after one that failed.
func TestWork(t *testing.T) {
	ns := served(t)
	var in, out bytes.Buffer
	enc := json.NewEncoder(&in)
	for _, j := range []Job{{Op: "dance"}, {Op: Transfer, ID: 8, To: loopback, Streams: 2, Bytes: 1000, Limit: 20 * time.Second}} {
		if err := enc.Encode(j); err != nil {
			t.Fatal(err)
		}
	}
	if err := ns.Do(func() error { return work(t.Context(), &in, &out) }); err != nil {
		t.Fatal(err)
	}
	var bad, good Result
	dec := json.NewDecoder(&out)
	if err := dec.Decode(&bad); err != nil || !strings.Contains(bad.Error, "dance") {
		t.Errorf("an unknown job was answered with %+v, %v", bad, err)
	}
	if err := dec.Decode(&good); err != nil || good.Error != "" || good.Took <= 0 {
		t.Errorf("a transfer was answered with %+v, %v", good, err)
	}
}

func TestShare(t *testing.T) {
	s := new(share)
	s.left.Store(2*chunk + 5)
	var got []int
	for range 5 {
		got = append(got, s.take())
	}
	if want := []int{chunk, chunk, 5, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("the share was taken in %v, want %v", got, want)
	}
}
