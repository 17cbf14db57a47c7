//go:build linux

package stitch

import (
	"net"
	"testing"
	"time"
)

// callIn connects to the pod from outside of the cluster.
func (n node) callIn(t *testing.T, network, from, to string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: 3 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	if network == "udp" {
		d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
	}
	var c net.Conn
	err := n.cluster.Do(func() (err error) {
		c, err = d.DialContext(t.Context(), network, net.JoinHostPort(to, "53"))
		return err
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

// TestOutside: who asks an exit member from outside of the cluster is answered the way that the question came, whether there
// is a link or not, and however strictly the kernel looks at where packets come from.
func TestOutside(t *testing.T) {
	for _, strict := range []string{"0", "1", "2"} {
		t.Run("rp_filter "+strict, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			serve(t, n.pod, "pod")
			run(t, n.pod, "sysctl -qw net.ipv4.conf.eth0.rp_filter="+strict)
			// A node asks for a pod's hardware address in its own name, not in that of who is behind it.
			run(t, n.cluster, "sysctl -qw net.ipv4.conf.all.arp_announce=2")
			n.SetGroup(Group{Name: "payments", Exit: &Exit{}})
			n.SetMember(pod("a", n.podWhere))
			n.await(t, "closed", func(r Report) bool { s, _ := r.member("a"); return s.Closed })
			answered := func(when, network string) {
				t.Helper()
				for from, to := range map[string]string{worldV4: podV4, worldV6: podV6} {
					c, err := n.callIn(t, network, from, to)
					if err != nil {
						t.Errorf("%s, %s from %s: %v", when, network, from, err)
						continue
					}
					if got, err := ask(c, 3); got != "pod "+from {
						t.Errorf("%s, %s from %s: %q, %v", when, network, from, got, err)
					}
				}
			}
			answered("no link yet", "tcp")
			n.SetGateway("payments", Gateway{NetNS: n.gwWhere, Snapshot: ready()})
			n.wait(t, "a")
			answered("joined", "tcp")
			answered("joined", "udp")
			// What came in while there was a link is answered when there is none.
			c, err := n.callIn(t, "tcp", worldV4, podV4)
			if err != nil {
				t.Fatal(err)
			}
			n.RemoveGateway("payments")
			n.awaitState(t, Waiting)
			if got, err := ask(c, 3); got != "pod "+worldV4 {
				t.Errorf("link gone: %q, %v", got, err)
			}
			answered("link gone", "tcp")
		})
	}
}
