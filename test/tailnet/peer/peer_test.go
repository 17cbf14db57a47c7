package peer

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestVia(t *testing.T) {
	v, err := ParseVia("7:10.1.0.0/16")
	if err != nil {
		t.Fatal(err)
	}
	p, err := v.Prefix()
	if err != nil {
		t.Fatal(err)
	}
	got := []string{p.String(), v.Addr(netip.MustParseAddr("10.1.2.3")).String()}
	if diff := cmp.Diff([]string{"fd7a:115c:a1e0:b1a:0:7:a01:0/112", "fd7a:115c:a1e0:b1a:0:7:a01:203"}, got); diff != "" {
		t.Errorf("4via6 (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "7", "x:10.0.0.0/8", "7:10.0.0.1/8", "7:fd00::/8", "70000:10.0.0.0/8"} {
		if v, err := ParseVia(bad); err == nil {
			t.Errorf("%q was taken as %v", bad, v)
		}
	}
}

func TestAdvertised(t *testing.T) {
	c := Config{
		Routes: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/16")}, ExitNode: true,
		Via: []Via{{Site: 1, V4: netip.MustParsePrefix("10.0.0.0/8")}},
	}
	routes, err := c.advertised()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range routes {
		got = append(got, r.String())
	}
	want := []string{"10.2.0.0/16", "0.0.0.0/0", "::/0", "fd7a:115c:a1e0:b1a:0:1:a00:0/104"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
}

// answerWriter collects an answer.
type answerWriter struct {
	strings.Builder
	code int
}

func (*answerWriter) Header() http.Header { return http.Header{} }
func (w *answerWriter) WriteHeader(c int) { w.code = c }
func (w *answerWriter) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(&w.Builder, r)
}

func TestHandler(t *testing.T) {
	for _, tt := range []struct {
		path string
		code int
		want string
	}{
		{"/", 0, "from=192.0.2.1:5 via=b\n"},
		{"/bytes?n=3", 0, "\x00\x00\x00"},
		{"/bytes?n=-1", 400, "n must be a number of bytes up to 4294967296\n"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, tt.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.RemoteAddr = "192.0.2.1:5"
		w := &answerWriter{}
		Handler("b").ServeHTTP(w, req)
		if w.code != tt.code || w.String() != tt.want {
			t.Errorf("%s: %d %q, want %d %q", tt.path, w.code, w.String(), tt.code, tt.want)
		}
	}
}
