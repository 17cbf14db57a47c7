package ident

import "testing"

func TestSlots(t *testing.T) {
	for _, slot := range []int{1, 2, 253, 254, 255, 256, MaxSlot} {
		v4, v6 := MemberAddrs(slot)
		if !MemberV4.Contains(v4) || !MemberV6.Contains(v6) || v4 == GatewayV4 || v6 == GatewayV6 {
			t.Errorf("slot %d: %v %v are not usable member addresses", slot, v4, v6)
		}
		if got := MemberSlot(MemberMAC(slot)); got != slot {
			t.Errorf("MemberSlot(%q) = %d", MemberMAC(slot), got)
		}
		if got, ok := Slot(GatewayLink(slot)); !ok || got != slot {
			t.Errorf("Slot(%q) = %d, %v", GatewayLink(slot), got, ok)
		}
	}
	if v4, _ := MemberAddrs(MaxSlot); v4.String() != "169.254.127.254" {
		t.Errorf("last slot is %v, want the last host of %v", v4, MemberV4)
	}
	for _, name := range []string{"", "tg", "tg0", "tg01", "tg-1", "tg16382", "tgx", "eth0", "ts0", "tg1x"} {
		if n, ok := Slot(name); ok {
			t.Errorf("Slot(%q) = %d, want none", name, n)
		}
	}
	for _, mac := range []string{"", "02:74:67:01:00:00", "02:74:67:01:ff:ff", "02:74:67:02:00:01", "02:74:67:01:00:01:00"} {
		if n := MemberSlot(mac); n != 0 {
			t.Errorf("MemberSlot(%q) = %d, want none", mac, n)
		}
	}
	if len(GatewayLink(MaxSlot)) > 15 {
		t.Error("gateway link names exceed IFNAMSIZ")
	}
}
