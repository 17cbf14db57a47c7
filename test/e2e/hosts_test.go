//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/internal/topology"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// families are both: members have both on the tailnet, whatever the cluster has.
var families = []int{4, 6}

// clusterFamilies are those of the cluster's pods and Services.
func clusterFamilies() (fs []int) {
	for _, p := range s.Plan.PodNets {
		fs = append(fs, familyOf(p.Addr()))
	}
	return fs
}

func familyOf(a netip.Addr) int {
	if a.Is4() {
		return 4
	}
	return 6
}

// pick returns the address of a family.
func pick(f int, addrs ...netip.Addr) netip.Addr {
	if i := slices.IndexFunc(addrs, func(a netip.Addr) bool { return a.IsValid() && familyOf(a) == f }); i >= 0 {
		return addrs[i]
	}
	return netip.Addr{}
}

// addr returns a host's own address.
func addr(h *world.Host, f int) netip.Addr { return pick(f, h.V4, h.V6) }

// group other selects the pods with this label.
const other = "other"

var otherMember = map[string]string{"group": other}

// makeOther makes the group other, whose members are those with the label of otherMember. It goes with the test.
func makeOther(t *testing.T, edit func(*v1alpha1.EgressGroupSpec)) {
	t.Helper()
	g := &v1alpha1.EgressGroup{ObjectMeta: metav1.ObjectMeta{Name: other}}
	g.Spec.Selector.PodSelector = &v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{"group": other}}
	edit(&g.Spec)
	if err := s.Client.Create(within(t, time.Minute), g); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
		defer cancel()
		if err := client.IgnoreNotFound(s.Client.Delete(ctx, g)); err != nil {
			t.Error(err)
		}
		if err := waitFor(ctx, leftOf(other), &v1alpha1.EgressGroupList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.NodeList{}); err != nil {
			t.Errorf("left of %s: %v", other, err)
		}
	})
	t.Cleanup(func() { explain(t) })
}

// patchOther merges a patch of its spec into the group other.
func patchOther(t *testing.T, spec string) {
	t.Helper()
	kubectl(t, "patch", "eg", other, "--type=merge", "-p", `{"spec":`+spec+`}`)
}

// enter opens a pod's network namespace: what is done in the host is done as by a program in the pod.
func enter(t *testing.T, p *corev1.Pod) *world.Host {
	t.Helper()
	ns, err := s.Cluster.PodNetNS(within(t, time.Minute), p)
	if err != nil {
		t.Fatal(err)
	}
	var ips []netip.Addr
	for _, ip := range p.Status.PodIPs {
		a, err := netip.ParseAddr(ip.IP)
		if err != nil {
			t.Fatal(err)
		}
		ips = append(ips, a)
	}
	return adopt(t, p.Name, ns, ips...)
}

// enterNode is [enter] for a node.
func enterNode(t *testing.T, name string) *world.Host {
	t.Helper()
	n, err := s.Node(name)
	if err != nil {
		t.Fatal(err)
	}
	ns, err := n.NetNS(within(t, time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return adopt(t, name, ns, s.Plan.Node(name).Addrs...)
}

func adopt(t *testing.T, name string, ns *netns.Handle, addrs ...netip.Addr) *world.Host {
	t.Helper()
	t.Cleanup(func() {
		if err := ns.Close(); err != nil {
			t.Error(err)
		}
	})
	h := s.Rig.World.Adopt(name, ns)
	h.V4, h.V6 = pick(4, addrs...), pick(6, addrs...)
	return h
}

// tailnetAddrs are those of the group's gateway on a node, as it says itself.
func tailnetAddrs(t *testing.T, group, node string) []netip.Addr {
	t.Helper()
	sn, _ := awaitSnapshot(t, group, node, "gateway is ready", 30*time.Second, func(sn snapshot.Snapshot) bool { return sn.Ready })
	if len(sn.Addrs) != 2 {
		t.Fatalf("the gateway of %s on %s has the addresses %v, not one a family", group, node, sn.Addrs)
	}
	return sn.Addrs
}

// Limits of single tries, which answer in milliseconds when all is well.
const (
	quick = 2 * time.Second
	slow  = 20 * time.Second
	// atOnce is how soon a connection is refused. An ICMP error that finds its socket locked is dropped
	// (TcpExtLockDroppedIcmps), as one on the same machine often does: then the second SYN, after a second (RFC 6298,
	// section 2), brings the next.
	atOnce = 1500 * time.Millisecond
)

// seen checks that an HTTP service at to is reached from h, and sees from.
func seen(ctx context.Context, h *world.Host, to, from netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, quick/2)
	defer cancel()
	a, err := rig.Get(ctx, h, to)
	if err == nil && a.From != from {
		err = fmt.Errorf("%s at %v sees %s as %v, not as %v", a.Via, to, h.Name, a.From, from)
	}
	return err
}

// eventually tries until there is no error, for as long as may be, and returns the last that came in time.
func eventually(t *testing.T, try func(context.Context) error) (took time.Duration, err error) {
	t.Helper()
	began, ctx := time.Now(), within(t, slow)
	var last error
	err = rig.Retry(ctx, func(ctx context.Context) error {
		err := try(ctx)
		if ctx.Err() == nil {
			last = err
		}
		return err
	})
	if err != nil && last != nil {
		err = last
	}
	return time.Since(began).Round(time.Millisecond), err
}

// awaitSeen waits for [seen] and tells how long it took.
func awaitSeen(t *testing.T, what string, h *world.Host, to, from netip.Addr) {
	t.Helper()
	took, err := eventually(t, func(ctx context.Context) error { return seen(ctx, h, to, from) })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: %s seen by %v as %v after %v", what, h.Name, to, from, took)
}

// carries checks the protocols one by one, and a download of many full segments.
func carries(t *testing.T, h *world.Host, to netip.Addr) {
	t.Helper()
	for what, do := range map[string]func(context.Context) error{
		"TCP":  func(ctx context.Context) error { return rig.Echo(ctx, h, "tcp", to) },
		"UDP":  func(ctx context.Context) error { return rig.Echo(ctx, h, "udp", to) },
		"ICMP": func(ctx context.Context) error { return rig.Ping(ctx, h, to) },
		"HTTP, 16 MiB": func(ctx context.Context) error {
			const size = 16 << 20
			body, err := rig.GetPage(ctx, h, netip.AddrPortFrom(to, 80), fmt.Sprintf("/bytes?n=%d", size))
			if err == nil && len(body) != size {
				err = fmt.Errorf("got %d bytes", len(body))
			}
			return err
		},
		"TLS, 1 MiB":              func(ctx context.Context) error { return rig.TLS(ctx, h, to, 1<<20) },
		"a stream both ways":      func(ctx context.Context) error { return streamed(ctx, h, to) },
		"a datagram in fragments": func(ctx context.Context) error { return datagram(ctx, h, to, 4000) },
	} {
		if err := do(within(t, slow)); err != nil {
			t.Errorf("%s from %s to %v: %v", what, h.Name, to, err)
		}
	}
}

// streamed sends 2 MB and has them sent back.
func streamed(ctx context.Context, h *world.Host, to netip.Addr) error {
	st, err := rig.StartStream(ctx, h, to, 8<<20)
	if err != nil {
		return err
	}
	for err == nil && st.Stats().Bytes < 2e6 {
		err = st.WaitMoved(ctx)
	}
	return errors.Join(err, st.Stop().Err)
}

// datagram sends one of that size to an echo service, and wants it back.
func datagram(ctx context.Context, h *world.Host, to netip.Addr, size int) error {
	return rig.Retry(ctx, func(ctx context.Context) error {
		c, err := h.Dial(ctx, "udp", netip.AddrPortFrom(to, 7).String())
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		if _, err := c.Write(make([]byte, size)); err != nil {
			return err
		}
		_, err = io.ReadFull(c, make([]byte, size))
		return err
	})
}

// refusedBy returns why a connection from h is not refused by a route that leads nowhere, at once; nil: it is.
func refusedBy(ctx context.Context, h *world.Host, to netip.Addr) error {
	ctx, cancel := context.WithTimeout(ctx, atOnce)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", netip.AddrPortFrom(to, 80).String())
	switch {
	case err == nil:
		return errors.Join(fmt.Errorf("%s was let in at %v", h.Name, to), c.Close())
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return nil
	}
	return fmt.Errorf("%s is not refused at once at %v, but: %w", h.Name, to, err)
}

// awaitRefused waits until connections from h are refused at once.
func awaitRefused(t *testing.T, what string, h *world.Host, to netip.Addr) {
	t.Helper()
	took, err := eventually(t, func(ctx context.Context) error { return refusedBy(ctx, h, to) })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	t.Logf("%s: %s refused at %v after %v", what, h.Name, to, took)
}

// closed checks that h does not get through to a port of an address, one way or another.
func closed(t *testing.T, h *world.Host, to netip.AddrPort) {
	t.Helper()
	if c, err := h.Dial(within(t, 500*time.Millisecond), "tcp", to.String()); err == nil {
		t.Errorf("%s was let in at %v: %v", h.Name, to, c.Close())
	}
}

// onlyTunnel reports whether a packet is one that only the tunnel may carry.
func onlyTunnel(p rig.Packet) bool {
	for _, dst := range append(topology.TailnetPrefixes(),
		rig.SubnetV4, rig.SubnetV6, rig.AppV4, world.InternetV4.Masked(), world.InternetV6.Masked()) {
		if dst.Contains(p.Dst) {
			return true
		}
	}
	return false
}

// watchEth0 looks for packets that leave a pod by its own interface and should not. Its end says so, and
// proves that it would have seen one.
func watchEth0(t *testing.T, h *world.Host, bad func(rig.Packet) bool) (end func()) {
	t.Helper()
	c, err := rig.StartCapture(h, "eth0", func(p rig.Packet) bool { return p.Out && bad(p) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return func() {
		t.Helper()
		defer c.Stop()
		if err := c.Sync(within(t, slow), s.Plan.DNS[0]); err != nil {
			t.Error(err)
		}
		if n, first := c.Count(); n > 0 {
			t.Errorf("%d packets left %s by eth0, such as %v", n, h.Name, first)
		}
	}
}

// spray sends pings and datagrams from h whatever becomes of them: what may slip through now and then is seen.
func spray(t *testing.T, h *world.Host, to netip.Addr) {
	t.Helper()
	const n, every = 20, 5 * time.Millisecond
	ctx := within(t, slow)
	if err := rig.SprayPings(ctx, h, to, n, every); err != nil {
		t.Error(err)
	}
	// That the kernel refuses a datagram is as good as any other way of not letting it out.
	_ = rig.Spray(ctx, h, netip.AddrPortFrom(to, 7), "", n, every)
}

// boundIsRefused checks that a socket which insists on eth0 cannot send to an address.
func boundIsRefused(t *testing.T, h *world.Host, to netip.Addr) {
	t.Helper()
	err := rig.Spray(within(t, slow), h, netip.AddrPortFrom(to, 7), "eth0", 5, time.Millisecond)
	// Without an address of that family on eth0 the kernel knows no way at all.
	if !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("from %s, a socket bound to eth0 and sending to %v: %v, want %v", h.Name, to, err, syscall.EPERM)
	}
}

// askTool asks the web server of a pod of the test image whom it sees, from h.
func askTool(ctx context.Context, h *world.Host, to netip.AddrPort) (host string, remote netip.Addr, err error) {
	ctx, cancel := context.WithTimeout(ctx, quick)
	defer cancel()
	body, err := rig.GetPage(ctx, h, to, "/")
	if err != nil {
		return "", remote, err
	}
	var from string
	if _, err := fmt.Sscanf(string(body), "host %s remote %s", &host, &from); err != nil {
		return "", remote, fmt.Errorf("%v answered %q: %w", to, body, err)
	}
	ap, err := netip.ParseAddrPort(from)
	return host, ap.Addr().Unmap(), err
}

// asks checks that h reaches a pod of the test image, which sees from.
func asks(t *testing.T, what string, h *world.Host, to netip.AddrPort, pod string, from netip.Addr) {
	t.Helper()
	host, remote, err := askTool(within(t, slow), h, to)
	if err != nil || host != pod || remote != from {
		t.Errorf("%s: %s at %v is answered by %q, which sees %v, want %q, which sees %v; %v", what, h.Name, to, host, remote, pod, from, err)
	}
}

// serveIn runs an HTTP service as package peer's at an address of a host.
func serveIn(t *testing.T, h *world.Host, at netip.AddrPort, handler http.Handler) {
	t.Helper()
	ln, err := h.Listen("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	t.Cleanup(func() { _ = srv.Close() })
	go func() { _ = srv.Serve(ln) }() // ends with srv
}

// ip shows what iproute2 knows in a host.
func ip(t *testing.T, h *world.Host, args ...string) string {
	t.Helper()
	out, err := h.Command(within(t, slow), "ip", args...).CombinedOutput()
	if err != nil {
		t.Fatalf("in %s, ip %s: %v\n%s", h.Name, strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}
