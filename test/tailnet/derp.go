package tailnet

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"tailscale.com/derp/derpserver"
	"tailscale.com/net/stun"
	"tailscale.com/tailcfg"
	"tailscale.com/types/key"

	"github.com/rajsinghtech/tailgate/test/tailnet/internal/selfsigned"
)

// derpRegion is the only region's ID.
const derpRegion = 1

func derpMap(addr netip.Addr, derpPort, stunPort int) *tailcfg.DERPMap {
	n := &tailcfg.DERPNode{
		Name: "1a", RegionID: derpRegion, HostName: addr.String(), IPv4: "none", IPv6: "none",
		DERPPort: derpPort, STUNPort: stunPort, STUNTestIP: addr.String(), InsecureForTests: true,
	}
	if addr.Is4() {
		n.IPv4 = addr.String()
	} else {
		n.IPv6 = addr.String()
	}
	return &tailcfg.DERPMap{
		OmitDefaultRegions: true,
		Regions: map[int]*tailcfg.DERPRegion{derpRegion: {
			RegionID: derpRegion, RegionCode: "test", RegionName: "Test", Nodes: []*tailcfg.DERPNode{n},
		}},
	}
}

// derpFor returns the relay as a node is told of it that came to this address, host or host:port.
func (t *Tailnet) derpFor(hostport string) *tailcfg.DERPMap {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if host == t.opts.Addr.String() {
		return t.local
	}
	return t.derp
}

// serveDERP starts the relay, over TLS with a certificate made for it: nodes are told
// InsecureForTests.
func (t *Tailnet) serveDERP() (port int, err error) {
	cert, err := selfsigned.Certificate(t.opts.Told.String())
	if err != nil {
		return 0, err
	}
	ln, err := t.tcp(t.opts.DERPPort)
	if err != nil {
		return 0, err
	}
	relay := derpserver.New(key.NewNode(), func(format string, args ...any) { t.opts.Logf("derp: "+format, args...) })
	t.closers = append(t.closers, func() { _ = relay.Close() })
	// DERP hijacks the connection, which HTTP/2 does not allow.
	conf := &tls.Config{Certificates: []tls.Certificate{cert}, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}
	mux := http.NewServeMux()
	mux.Handle("/derp", derpserver.Handler(relay))
	mux.HandleFunc("/derp/probe", derpserver.ProbeHandler)
	mux.HandleFunc("/derp/latency-check", derpserver.ProbeHandler)
	mux.HandleFunc("/generate_204", derpserver.ServeNoContent)
	t.serve(tls.NewListener(ln, conf), mux)
	return ln.Addr().(*net.TCPAddr).Port, nil
}

// serveSTUN answers binding requests (RFC 8489). Tailscale's stuntest wants a testing.TB.
func (t *Tailnet) serveSTUN() (port int, err error) {
	pc, err := t.opts.ListenPacket("udp", net.JoinHostPort(t.opts.Addr.String(), strconv.Itoa(t.opts.STUNPort)))
	if err != nil {
		return 0, err
	}
	local, ok := pc.LocalAddr().(*net.UDPAddr)
	if !ok {
		_ = pc.Close()
		return 0, fmt.Errorf("ListenPacket gave a %T, not a UDP socket", pc)
	}
	t.closers = append(t.closers, func() { _ = pc.Close() })
	t.wg.Go(func() { t.answerSTUN(pc) })
	return local.Port, nil
}

func (t *Tailnet) answerSTUN(pc net.PacketConn) {
	buf := make([]byte, 2048)
	for {
		n, from, err := pc.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// An ICMP error for an earlier answer; the socket is fine.
			continue
		}
		id, err := stun.ParseBindingRequest(buf[:n])
		if err != nil {
			continue
		}
		addr := from.(*net.UDPAddr).AddrPort()
		_ = pc.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := pc.WriteTo(stun.Response(id, netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())), from); err != nil {
			t.opts.Logf("stun: answer %v: %v", from, err)
		}
	}
}
