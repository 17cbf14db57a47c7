package node

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/tailscale/wireguard-go/conn/bindtest"
	wireguard "github.com/tailscale/wireguard-go/device"
	"github.com/tailscale/wireguard-go/tun/tuntest"
	"tailscale.com/types/key"
	"tailscale.com/wgengine"
	"tailscale.com/wgengine/wgint"
)

// resetter is an engine with the peers of a WireGuard device, which only notes what it is to reset.
type resetter struct {
	wgengine.Engine
	dev   *wireguard.Device
	reset []key.NodePublic
}

func (r *resetter) PeerByKey(k key.NodePublic) (wgint.Peer, bool) {
	p, ok := r.dev.LookupActivePeer(raw(k))
	return wgint.PeerOf(p), ok
}

func (r *resetter) ResetDevicePeer(k key.NodePublic) { r.reset = append(r.reset, k) }

// raw is a key as WireGuard has it.
func raw(k key.NodePublic) [32]byte { return [32]byte(k.AppendTo(nil)) }

// TestGiveUp: what is told of a peer may be told late, of a handshake before the one that was answered. Only a peer without a session is reset.
func TestGiveUp(t *testing.T) {
	private := [2]key.NodePrivate{key.NewNode(), key.NewNode()}
	silent, unknown := key.NewNode().Public(), key.NewNode().Public()
	addr := [2]netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")}
	var tuns [2]*tuntest.ChannelTUN
	var devs [2]*wireguard.Device
	for i, bind := range bindtest.NewChannelBinds() {
		tuns[i] = tuntest.NewChannelTUN()
		devs[i] = wireguard.NewDevice(tuns[i].TUN(), bind, wireguard.NewLogger(wireguard.LogLevelSilent, ""))
		t.Cleanup(devs[i].Close)
		// The bind knows its other end by this port.
		config := fmt.Sprintf("private_key=%s\npublic_key=%x\nendpoint=127.0.0.1:%d\nallowed_ip=%v/32\npublic_key=%x\nallowed_ip=100.64.0.3/32\n",
			private[i].UntypedHexString(), raw(private[1-i].Public()), i+1, addr[1-i], raw(silent))
		if err := devs[i].IpcSet(config); err != nil {
			t.Fatal(err)
		}
		if err := devs[i].Up(); err != nil {
			t.Fatal(err)
		}
	}
	tuns[0].Outbound <- tuntest.Ping(addr[1], addr[0])
	<-tuns[1].Inbound // says that there is a session

	e := &resetter{dev: devs[0]}
	h := newHaste(e, nil, t.Logf)
	for _, peer := range []key.NodePublic{private[1].Public(), unknown, silent} {
		h.giveUp(peer)
	}
	if want := []key.NodePublic{silent}; !slices.Equal(e.reset, want) {
		t.Errorf("reset %v, want %v", e.reset, want)
	}
}
