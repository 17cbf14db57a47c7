//go:build e2e && linux

package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/rig"
)

// outside returns the internet host's address of a family that pods have without tailgate.
func outside() netip.Addr {
	if lab.Family(*family) == lab.V6 {
		return s.Rig.Internet.V6
	}
	return s.Rig.Internet.V4
}

// eachOutside returns the internet host's addresses: members with an exit node have both families in every cluster.
func eachOutside() []netip.Addr { return []netip.Addr{s.Rig.Internet.V4, s.Rig.Internet.V6} }

// leaks knows who else than an exit node has spoken to the internet host, and what was sent to tailnet addresses
// through a node.
type leaks struct {
	capture *rig.Capture
	nodes   []*netns.Handle

	mu   sync.Mutex
	seen map[netip.Addr]int
	last map[netip.Addr]time.Time
}

// watchLeaks begins to watch.
func watchLeaks(t *testing.T) *leaks {
	t.Helper()
	w := &leaks{seen: map[netip.Addr]int{}, last: map[netip.Addr]time.Time{}}
	var others []netip.Addr // the exit nodes, and who sends what proves that the capture works
	for _, role := range []rig.Role{rig.ExitA, rig.ExitB, rig.Plain} {
		others = append(others, s.Rig.Nodes[role].V4, s.Rig.Nodes[role].V6)
	}
	own := eachOutside()
	var err error
	w.capture, err = rig.StartCapture(s.Rig.Internet, "eth0", func(p rig.Packet) bool {
		if p.Out || !slices.Contains(own, p.Dst) || slices.Contains(others, p.Src) {
			return false
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.seen[p.Src]++
		w.last[p.Src] = time.Now()
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.capture.Stop)
	for _, node := range []string{n1, n2} {
		ns := openNode(t, node)
		sh(t, ns, `nft 'table inet e2e {
			set v4 { type ipv4_addr . ipv4_addr; flags dynamic; size 4096; counter; }; set v6 { type ipv6_addr . ipv6_addr; flags dynamic; size 4096; counter; }
			chain prerouting { type filter hook prerouting priority raw;
				ip daddr 100.64.0.0/10 update @v4 { ip saddr . ip daddr }; ip6 daddr fd7a:115c:a1e0::/48 update @v6 { ip6 saddr . ip6 daddr }; }; }'`)
		w.nodes = append(w.nodes, ns)
	}
	t.Cleanup(func() {
		for _, ns := range w.nodes {
			if out, err := shell(context.WithoutCancel(t.Context()), ns, "nft delete table inet e2e"); err != nil {
				t.Error(err, out)
			}
		}
	})
	return w
}

// toTailnet counts the packets to tailnet addresses that came to nodes, which only pods without a tailnet send, by source
// and destination.
func (w *leaks) toTailnet(t *testing.T) map[string]int {
	t.Helper()
	all := map[string]int{}
	for _, ns := range w.nodes {
		for element := range strings.FieldsFuncSeq(sh(t, ns, "nft list table inet e2e"), func(r rune) bool { return strings.ContainsRune("{},\n", r) }) {
			way, counted, ok := strings.Cut(strings.TrimSpace(element), " counter packets ")
			var packets int
			if _, err := fmt.Sscan(counted, &packets); ok && err == nil {
				all[strings.Replace(way, " . ", " to ", 1)] += packets
			}
		}
	}
	return all
}

// toInternet counts the packets that others than exit nodes sent to the internet host, by source.
func (w *leaks) toInternet(t *testing.T) map[string]int {
	t.Helper()
	w.of(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	all := map[string]int{}
	for a, n := range w.seen {
		all[a.String()+" to the internet"] = n
	}
	return all
}

// of counts the packets that pods sent to the internet host as themselves, after all that is under way is there.
func (w *leaks) of(t *testing.T, pods ...*corev1.Pod) (n int, last time.Time) {
	t.Helper()
	if err := w.capture.SyncFrom(within(t, 10*time.Second), s.Rig.Nodes[rig.Plain].Host, s.Rig.Internet.V4); err != nil {
		t.Fatal(err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range pods {
		for _, ip := range p.Status.PodIPs {
			a := netip.MustParseAddr(ip.IP)
			n += w.seen[a]
			if w.last[a].After(last) {
				last = w.last[a]
			}
		}
	}
	return n, last
}

// more returns what was counted since before.
func more(before, after map[string]int) []string {
	var grown []string
	for way, n := range after {
		if n > before[way] {
			grown = append(grown, fmt.Sprintf("%d from %s", n-before[way], way))
		}
	}
	slices.Sort(grown)
	return grown
}

// proves checks that what a pod without a tailnet sends is seen.
func (w *leaks) proves(t *testing.T, p *lifePod) {
	t.Helper()
	internet, tailnet := w.toInternet(t), w.toTailnet(t)
	if err := rig.Ping(within(t, 10*time.Second), p.host, outside()); err != nil {
		t.Fatal(err)
	}
	to := s.Rig.Nodes[rig.Plain].Tail4
	if lab.Family(*family) == lab.V6 {
		to = s.Rig.Nodes[rig.Plain].Tail6
	}
	if err := rig.SprayPings(t.Context(), p.host, to, 3, 10*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if len(more(internet, w.toInternet(t))) == 0 || len(more(tailnet, w.toTailnet(t))) == 0 {
		t.Fatalf("what leaves in the open is not seen: %v, %v", w.toInternet(t), w.toTailnet(t))
	}
}

// keptIn checks that nothing leaves in another way than by the gateways while do runs.
func (w *leaks) keptIn(t *testing.T, what string, do func()) {
	t.Helper()
	internet, tailnet := w.toInternet(t), w.toTailnet(t)
	do()
	if left := append(more(internet, w.toInternet(t)), more(tailnet, w.toTailnet(t))...); len(left) > 0 {
		t.Errorf("%s: packets left by another way than the gateway: %s", what, strings.Join(left, "; "))
	}
}
