//go:build linux

package kernel_test

import (
	"math/rand/v2"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/netstate/netstatetest"
)

var modelScope = netstate.Scope{
	Links: append([]string{"kv*"}, netstatetest.Existing...), Tables: netstatetest.Tables,
	RuleFirst: netstatetest.FirstPriority, RuleLast: netstatetest.LastPriority,
	Sysctls: []string{"net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/ipv4/conf/kd0/rp_filter"},
}

// TestModelMatchesKernel goes from one state to another and holds the kernel against
// what the model of package netstate says it will have.
func TestModelMatchesKernel(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 17))
	for range 40 {
		data := make([]byte, 1024)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		src := netstatetest.NewSource(data)
		ns := nstest.New(t)
		// Without lo there is no local table, and then no IPv4 next hop is any good.
		run(t, ns, "ip link set lo up; ip link add kd0 type veth peer name kd1; ip link set kd0 addrgenmode none up; ip link set kd1 addrgenmode none up")
		n := open(t, ns, nstest.New(t))
		for range 4 {
			have, want := observe(t, n, modelScope), src.State()
			plan := netstate.Diff(have, want)
			expected, err := plan.Apply(have)
			if err != nil {
				t.Fatal(err)
			}
			if err := n.Apply(plan); err != nil {
				t.Fatalf("%v\nhave\n%v\nwant\n%v\nplan\n%v", err, have, want, plan)
			}
			got := observe(t, n, modelScope)
			if diff := cmp.Diff(comparable(expected, got).String(), got.String()); diff != "" {
				t.Fatalf("(-model +kernel)\n%s\nhave\n%v\nplan\n%v", diff, have, plan)
			}
			if rest := netstate.Diff(got, want); !rest.Empty() {
				t.Fatalf("still to do\n%v", rest)
			}
			// A plan may be applied twice, as after a crash half-way.
			if err := n.Apply(plan); err != nil {
				t.Fatalf("once more: %v\nplan\n%v", err, plan)
			}
			if diff := cmp.Diff(got.String(), observe(t, n, modelScope).String()); diff != "" {
				t.Fatalf("the plan applied twice (-once +twice)\n%s\nplan\n%v", diff, plan)
			}
		}
	}
}

// comparable fills in what a model cannot know: what the kernel chose for a new link,
// and that it does not tell its peer.
func comparable(model, got netstate.State) netstate.State {
	chosen := map[string]netstate.Link{}
	for _, l := range got.Links {
		chosen[l.Name] = l
	}
	for i, l := range model.Links {
		c := chosen[l.Name]
		l.Peer = netstate.Peer{}
		if l.MTU == 0 {
			l.MTU = c.MTU
		}
		if l.TxQueueLen == 0 {
			l.TxQueueLen = c.TxQueueLen
		}
		if l.MAC == "" {
			l.MAC = c.MAC
		}
		model.Links[i] = l
	}
	return model
}
