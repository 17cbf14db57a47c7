//go:build linux

package stitch

import (
	"testing"

	"github.com/rajsinghtech/tailgate/agent/joiner"
)

// TestMadeMeanwhile: a link that was made while something else was set is a new one nevertheless, when it is told of.
func TestMadeMeanwhile(t *testing.T) {
	for _, made := range []bool{true, false} {
		l := newLab(t)
		m := newMember(l.Engine, Member{ID: "a", Group: "payments"})
		gw := newGateway(l.Engine, "payments", NetNS{}, nil)
		old := intent{gen: m.gen}
		m.gen++ // something was set
		m.report(old, gw, joiner.Result{Slot: 7, Made: made}, nil)
		if !m.status.Joined.IsZero() {
			t.Error("what was worked out for an intent that is not the newest was told")
		}
		m.report(intent{gen: m.gen}, gw, joiner.Result{Slot: 7}, nil)
		if m.status.State != Joined || m.status.Found == made {
			t.Errorf("link made: %v; status %+v", made, m.status)
		}
	}
}
