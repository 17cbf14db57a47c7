package tailnet

import (
	"net/netip"
	"testing"
)

// TestRelayIsToldAsItIsReached: who logs in where the control plane listens hears of the relay there; everybody else hears
// the address that is for them.
func TestRelayIsToldAsItIsReached(t *testing.T) {
	tn, err := Start(t.Context(), Options{Told: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	defer tn.Close()
	for hostport, want := range map[string]string{
		"127.0.0.1:8080": "127.0.0.1", "127.0.0.1": "127.0.0.1", "192.0.2.1:8080": "192.0.2.1", "[fd00::1]:8080": "192.0.2.1",
		"tailnet.example": "192.0.2.1",
	} {
		n := tn.derpFor(hostport).Regions[derpRegion].Nodes[0]
		if n.IPv4 != want || n.STUNTestIP != want || n.HostName != want {
			t.Errorf("at %s: the relay is at %s, %s, %s, want %s", hostport, n.IPv4, n.STUNTestIP, n.HostName, want)
		}
	}
}
