//go:build linux

package rig

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParseMetrics(t *testing.T) {
	m, err := ParseMetrics("# HELP a b c\na{x=\"1\",y=\"two words\"} 3\na{x=\"2\"} 4.5\nab 7\n\n")
	if err != nil {
		t.Fatal(err)
	}
	got := []float64{m.Sum("a"), m.Sum("a", `x="1"`), m.Sum("a", `x="1"`, `y="one"`), m.Sum("ab"), m.Sum("none")}
	if diff := cmp.Diff([]float64{7.5, 3, 0, 7, 0}, got); diff != "" {
		t.Errorf("sums (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"novalue", "name x"} {
		if m, err := ParseMetrics(bad); err == nil {
			t.Errorf("%q gives %v", bad, m)
		}
	}
}

func TestParsePacket(t *testing.T) {
	v4 := []byte{
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, // IPv4, UDP
		0x04, 0xd2, 0, 7, 0, 8, 0, 0,
	}
	v6 := append([]byte{0x60, 0, 0, 0, 0, 8, 58, 64}, make([]byte, 32)...)
	v6[23], v6[39] = 1, 2 // ::1 to ::2
	echo, solicit := append(v6[:40:40], 128, 0, 0, 0, 0, 0, 0, 0), append(v6[:40:40], 135, 0, 0, 0, 0, 0, 0, 0)
	for _, tt := range []struct {
		name string
		b    []byte
		want Packet
		ok   bool
	}{
		{"UDP", v4, Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: 17, Sport: 1234, Dport: 7, Len: 28}, true},
		{"IPv4 without ports", v4[:20], Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Proto: 17, Len: 20}, true},
		{"ICMPv6 echo", echo, Packet{Src: netip.MustParseAddr("::1"), Dst: netip.MustParseAddr("::2"), Proto: 58, Len: 48}, true},
		{"neighbour solicitation", solicit, Packet{}, false},
		{"cut short", v4[:19], Packet{}, false},
		{"ARP", []byte{0, 1, 8, 0}, Packet{}, false},
	} {
		got, ok := parsePacket(tt.b)
		if !ok {
			got = Packet{}
		}
		if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" || ok != tt.ok {
			t.Errorf("%s: ok %v (-want +got):\n%s", tt.name, ok, diff)
		}
	}
}

// A mark stays right when the log outgrows what is kept.
func TestTailAfterMark(t *testing.T) {
	var log tail
	if _, err := log.Write(make([]byte, tailSize)); err != nil {
		t.Fatal(err)
	}
	mark := log.end()
	if _, err := log.Write([]byte("new")); err != nil {
		t.Fatal(err)
	}
	if text, _ := log.after(mark); text != "new" {
		t.Errorf("after the mark: %q", text)
	}
	if text, _ := log.after(0); len(text) != tailSize {
		t.Errorf("after a mark that is gone: %d bytes", len(text))
	}
}
