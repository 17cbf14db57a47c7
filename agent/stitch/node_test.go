//go:build linux

package stitch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

// Addresses of a node: a pod's eth0 leads to the cluster, where a resolver and, behind it, the world are.
const (
	podV4, podV6           = "10.244.0.2", "fd00:10:244::2"
	resolverV4, resolverV6 = "10.96.0.10", "fd00:10:96::a"
	worldV4, worldV6       = "198.51.100.7", "2001:db8:51::7"
)

// node is a cluster, a pod in it and a gateway that is only a resolver.
type node struct {
	*lab
	cluster, pod, gateway *netns.Handle
	podWhere, gwWhere     NetNS
}

func newNode(t *testing.T) node {
	t.Helper()
	n := node{lab: newLab(t)}
	n.cluster, _ = newNS(t)
	n.pod, n.podWhere = newNS(t)
	n.gateway, n.gwWhere = newNS(t)
	run(t, n.cluster, fmt.Sprintf(`
		ip link add pod type veth peer name eth0 netns /proc/%d/fd/%d
		ip link set lo up; ip link set pod up
		ip addr add 10.244.0.1/24 dev pod; ip addr add fd00:10:244::1/64 dev pod nodad
		for a in %s/32 %s/32; do ip addr add $a dev lo; done
		for a in %s/128 %s/128; do ip addr add $a dev lo nodad; done`,
		unix.Getpid(), n.pod.FD(), resolverV4, worldV4, resolverV6, worldV6))
	run(t, n.pod, `
		ip link set lo up; ip link set eth0 up
		ip addr add `+podV4+`/24 dev eth0; ip addr add `+podV6+`/64 dev eth0 nodad
		ip route add default via 10.244.0.1; ip -6 route add default via fd00:10:244::1`)
	run(t, n.gateway, fmt.Sprintf("ip link set lo up; ip addr add %v/32 dev lo; ip addr add %v/128 dev lo nodad", topology.ResolverV4, topology.ResolverV6))
	for ns, what := range map[*netns.Handle]string{n.cluster: "cluster", n.gateway: "gateway"} {
		serve(t, ns, what)
	}
	n.SetClusterCIDRs(prefixes("10.96.0.0/12", "10.244.0.0/16", "fd00:10:96::/112", "fd00:10:244::/64"))
	n.Synced()
	return n
}

// serve answers on port 53, UDP and TCP, with its name and the caller's address.
func serve(t *testing.T, ns *netns.Handle, what string) {
	t.Helper()
	err := ns.Do(func() error {
		pc, err := net.ListenUDP("udp", &net.UDPAddr{Port: 53})
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", ":53")
		if err != nil {
			return errors.Join(err, pc.Close())
		}
		t.Cleanup(func() { _, _ = pc.Close(), ln.Close() })
		// The address that was asked must be the one that answers.
		raw, err := pc.SyscallConn()
		if err != nil {
			return err
		}
		err = errors.Join(raw.Control(func(fd uintptr) {
			err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1), unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1))
		}), err)
		go answerUDP(pc, what)
		go answerTCP(ln, what)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func answerUDP(pc *net.UDPConn, what string) {
	buf, oob := make([]byte, 512), make([]byte, 512)
	for {
		_, n, _, from, err := pc.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return // closed
		}
		_, _, _ = pc.WriteMsgUDPAddrPort(fmt.Appendf(nil, "%s %v", what, from.Addr().Unmap()), oob[:n], from)
	}
}

func answerTCP(ln net.Listener, what string) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return // closed
		}
		go func() {
			defer c.Close()
			if _, err := c.Read(make([]byte, 512)); err == nil {
				_, _ = fmt.Fprintf(c, "%s %v", what, c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap())
			}
		}()
	}
}

// dial connects from the pod; link is the one that the socket is bound to, "" for none.
func (n node) dial(t *testing.T, network, to, link string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if link == "" {
			return nil
		}
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), link) }), err)
	}}
	var c net.Conn
	err := n.pod.Do(func() (err error) {
		c, err = d.DialContext(t.Context(), network, net.JoinHostPort(to, "53"))
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, nil
}

// ask sends a query and returns the answer. Over UDP it asks again, as resolvers do.
func ask(c net.Conn, tries int) (string, error) {
	buf := make([]byte, 512)
	for {
		if _, err := io.WriteString(c, "?"); err != nil {
			return "", err
		}
		if err := c.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
			return "", err
		}
		m, err := c.Read(buf)
		if tries--; err == nil || tries <= 0 {
			return string(buf[:m]), err
		}
	}
}

func (n node) mustAsk(t *testing.T, network, to string) string {
	t.Helper()
	c, err := n.dial(t, network, to, "")
	if err != nil {
		t.Fatalf("%s to %s: %v", network, to, err)
	}
	answer, err := ask(c, 5)
	if err != nil {
		t.Fatalf("%s to %s: %v", network, to, err)
	}
	return answer
}
