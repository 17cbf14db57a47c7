//go:build linux

package debug

import (
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/page/pagetest"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// engineSource is a real engine; the rest is as told.
type engineSource struct {
	*fakeSource
	engine *stitch.Engine
}

func (s engineSource) Report() stitch.Report                        { return s.engine.Snapshot() }
func (s engineSource) Inspect(id string) (joiner.Inspection, error) { return s.engine.Inspect(id) }

func newNS(t *testing.T, what string) stitch.NetNS {
	t.Helper()
	name := fmt.Sprintf("debug-%s-%d", what, os.Getpid())
	id, err := nstest.NewNamed(t, name).ID()
	if err != nil {
		t.Fatal(err)
	}
	return stitch.NetNS{Path: "/run/netns/" + name, ID: id}
}

// A member of a real engine: what was joined is shown, without a difference, and its join is counted once.
func TestRealEngine(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	m := NewMetrics(registry)
	joined := make(chan stitch.Status, 1)
	e := stitch.New(stitch.Options{Changed: func(s stitch.Status) {
		m.Joined(s)
		if s.State == stitch.Joined {
			select {
			case joined <- s:
			default: // told already
			}
		}
	}, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(e.Close)
	e.SetClusterCIDRs(prefixes("10.96.0.0/12"))
	e.SetGroup(stitch.Group{Name: "payments", Prefixes: prefixes("10.0.0.0/8")})
	e.SetGateway("payments", stitch.Gateway{NetNS: newNS(t, "gw"), Snapshot: &snapshot.Snapshot{BackendState: "Running", Ready: true}})
	e.Synced()
	e.SetMember(stitch.Member{ID: uidJoined, Name: "shop/api-0", NetNS: newNS(t, "pod"), Group: "payments"})
	select {
	case <-joined:
	case <-time.After(20 * time.Second):
		t.Fatalf("not joined: %+v", e.Snapshot())
	}
	p := New(Options{Source: engineSource{busySource(), e}, Registry: registry})
	h := p.Debug()

	member := get(t, h, "/debug/member?id="+uidJoined)
	for _, text := range []string{"shop/api-0", "no difference", "link ts0 type veth", "100.64.0.0/10", "tg1", "table inet tailgate"} {
		if !strings.Contains(member, text) {
			t.Errorf("the member's page lacks %q:\n%s", text, member)
		}
	}
	if text := get(t, h, "/debug/cluster"); !strings.Contains(text, "but for the CIDR, which it covers") {
		t.Errorf("the overlap is not told of:\n%s", text)
	}
	_, fs := pagetest.Scrape(t, p.Public())
	if got := pagetest.Value(t, fs, prefix+"members", "group", "payments", "state", string(stitch.Joined)); got != 1 {
		t.Errorf("joined members: %v", got)
	}
	if got := pagetest.Value(t, fs, prefix+"members_not_ready", "group", "payments"); got != 0 {
		t.Errorf("members that are not ready: %v", got)
	}
	join := pagetest.Series(t, fs, prefix+"join_seconds").GetHistogram()
	if join.GetSampleCount() != 1 || join.GetSampleSum() <= 0 || join.GetSampleSum() > 5 {
		t.Errorf("joins: %v", join)
	}
	for _, f := range pagetest.Everything(t, h) {
		if f.Text == "" {
			t.Errorf("%s is empty", f.URL)
		}
	}
}
