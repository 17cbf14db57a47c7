package config

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// FuzzLoad: Load never panics; it fails with an *Error that is a sentence and does
// not show the auth key; what it accepts, written out again, loads the same.
func FuzzLoad(f *testing.F) {
	for _, c := range errorCases {
		if len(c.content) < 1000 {
			f.Add([]byte(strings.ReplaceAll(c.content, secret, "@KEY@")))
		}
	}
	for _, field := range fields {
		f.Add([]byte(`{"Version": "alpha0", "AuthKey": "@KEY@", "` + field.name + `": ` + field.example + `}`))
	}
	f.Add([]byte(`{"VERSION": "alpha0", /* HuJSON */ "exitNode": "auto:any", "Locked": false,}`))
	path := filepath.Join(f.TempDir(), "config.json")
	f.Fuzz(func(t *testing.T, data []byte) {
		content := strings.ReplaceAll(string(data), "@KEY@", secret)
		must(t, os.WriteFile(path, []byte(content), 0o600))
		c, err := Load(path)
		if err != nil {
			checkError(t, err, content)
			return
		}
		again, err := json.Marshal(c.file())
		must(t, err, os.WriteFile(path, again, 0o600))
		c2, err := Load(path)
		if err != nil {
			t.Fatalf("%s is accepted, but not when written out: %v", content, err)
		}
		c2.Hash = c.Hash
		if diff := diffConfigs(c, c2); diff != "" {
			t.Errorf("%s written out differs (-first +second):\n%s", content, diff)
		}
		if shown, err := json.Marshal(c); err != nil || c.AuthKey == secret && strings.Contains(string(shown), secret) && strings.Count(content, secret) == 1 {
			t.Errorf("%s shows as %s, %v", content, shown, err)
		}
	})
}

// checkError says what holds for every error. A key that is where an auth key
// belongs must not be quoted from anywhere.
func checkError(t *testing.T, err error, content string) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatalf("%s: error %v is no *Error", content, err)
	}
	if e.Msg == "" || e.Path == "" || e.Hash == "" || strings.Contains(e.Msg, "\n") {
		t.Errorf("%s: error lacks something: %#v", content, e)
	}
	if strings.Contains(strings.ToLower(content), `"authkey": "`+secret) && strings.Contains(e.Msg, secret) {
		t.Errorf("%s: the error shows the auth key: %v", content, err)
	}
}

// FuzzParseExitNode: parsing is stable, and what resolves is a node that offers an
// exit and that the selector names; all else keeps traffic in.
func FuzzParseExitNode(f *testing.F) {
	for _, s := range []string{
		"", " ", ".", "..", "auto:", "auto:any", "AUTO:any", "100.64.0.1", "::ffff:100.64.0.1", "fe80::1%eth0", "nFRA1CNTRL", "nfra1cntrl",
		"exit-fra1", "EXIT-FRA1.your-org.ts.net.", "twin", "tailgate-unresolved", "\x00", "\u212a",
	} {
		f.Add(s, "name.your-org.ts.net.")
	}
	f.Fuzz(func(t *testing.T, s, name string) {
		e := ParseExitNode(s)
		if diff := cmp.Diff(e, ParseExitNode(e.String()), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			t.Errorf("%q parsed again differs:\n%s", s, diff)
		}
		peers := append([]Peer{{StableID: "nFUZZCNTRL", Name: name, OffersExit: true}}, tailnet...)
		r := e.Resolve(peers)
		mp := r.Prefs()
		switch {
		case e.Kind == ExitNone && strings.TrimSpace(s) != "":
			t.Errorf("%q asks for no exit node", s)
		case e.Kind == ExitNone || e.Kind == ExitAuto:
		case !mp.ExitNodeIDSet || mp.ExitNodeID == "":
			t.Errorf("%q lets traffic out: %+v", s, r)
		case r.ID == "" && (r.Msg == "" || mp.ExitNodeID != UnresolvedExitNode):
			t.Errorf("%q is neither resolved nor explained: %+v", s, r)
		case r.ID != "":
			for _, p := range peers {
				if p.StableID == r.ID && !p.OffersExit {
					t.Errorf("%q resolves to %s, which offers no exit", s, r.ID)
				}
			}
		}
	})
}
