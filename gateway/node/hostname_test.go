package node

import (
	"strings"
	"testing"
	"testing/quick"

	"tailscale.com/ipn"
	"tailscale.com/util/dnsname"
)

func TestHostLabel(t *testing.T) {
	const node = "ip-10-0-12-7.eu-central-1.compute.internal"
	for name, want := range map[string]string{
		"":                                  "",
		"-.-":                               "",
		"payments-node-1":                   "payments-node-1",
		"Pay.Ments-NODE_1":                  "pay-ments-node-1",
		".payments-näher.":                  "payments-n-her",
		"payments-" + node:                  "payments-ip-10-0-12-7-eu-central-1-compute-internal",
		strings.Repeat("x", 63):             strings.Repeat("x", 63),
		strings.Repeat("x", 64):             strings.Repeat("x", 54) + "-7ce10097",
		"payments-in-europe-" + node:        "payments-in-europe-ip-10-0-12-7-eu-central-1-compute-internal",
		"payments-in-all-of-europe-" + node: "payments-in-all-of-europe-ip-10-0-12-7-eu-central-1-co-0eca2dc9",
	} {
		if got := HostLabel(name); got != want {
			t.Errorf("%q: %q (%d), want %q", name, got, len(got), want)
		}
	}
}

// TestHostLabelTellsApart two long names whose beginnings are the same, such as one group's on two nodes.
func TestHostLabelTellsApart(t *testing.T) {
	group := strings.Repeat("payments.", 28)
	if a, b := HostLabel(group+"-node-1"), HostLabel(group+"-node-2"); a == b {
		t.Errorf("both are %q", a)
	}
}

// TestHostLabelIsOne whatever it is made of; and a label stays as it is.
func TestHostLabelIsOne(t *testing.T) {
	err := quick.Check(func(any, near []byte, n uint8) bool {
		for i := range near {
			near[i] = "aZ0-._ "[near[i]%7] // what names are made of, or nearly
		}
		for _, name := range []string{string(any), string(near), strings.Repeat(string(near), int(n))} {
			got := HostLabel(name)
			if got != "" && dnsname.ValidLabel(got) != nil || HostLabel(got) != got {
				t.Errorf("%q gives %q", name, got)
			}
		}
		return !t.Failed()
	}, &quick.Config{MaxCount: 2000})
	if err != nil {
		t.Error(err)
	}
}

func TestHostnameOfTheFileWins(t *testing.T) {
	for _, tt := range []struct{ file, flag, want string }{
		{"file", "Flag", "file"},
		{"", "Flag", "flag"},
		{"", "", ""}, // the machine's
	} {
		edits := ipn.MaskedPrefs{Prefs: ipn.Prefs{Hostname: tt.file}, HostnameSet: true}
		if addHostname(&edits, tt.flag); edits.Hostname != tt.want || !edits.HostnameSet {
			t.Errorf("file %q and flag %q give %q", tt.file, tt.flag, edits.Hostname)
		}
	}
}
