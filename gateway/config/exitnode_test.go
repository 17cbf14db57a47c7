package config

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"tailscale.com/ipn"
)

// tailnet is a netmap with every difficulty.
var tailnet = []Peer{
	{StableID: "nFRA1CNTRL", Name: "exit-fra1.your-org.ts.net.", IPs: ips("100.64.0.1", "fd7a:115c:a1e0::1"), OffersExit: true, Online: true},
	{StableID: "nAMS1CNTRL", Name: "exit-ams1.your-org.ts.net.", IPs: ips("100.64.0.2"), OffersExit: true},
	{StableID: "nWEB1CNTRL", Name: "web.your-org.ts.net.", IPs: ips("100.64.0.3"), Online: true},
	{StableID: "nTWIN1CNTRL", Name: "twin.your-org.ts.net.", IPs: ips("100.64.0.4"), OffersExit: true, Online: true},
	{StableID: "nTWIN2CNTRL", Name: "twin.their-org.ts.net.", IPs: ips("100.64.0.5"), Online: true},
	// Named as another's ID, to be taken for it.
	{StableID: "nEVILCNTRL", Name: "nfra1cntrl.your-org.ts.net.", IPs: ips("100.64.0.6"), OffersExit: true, Online: true},
	{StableID: "nEVIL2CNTRL", Name: "nFRA1CNTRL", IPs: ips("100.64.0.7"), OffersExit: true, Online: true},
	{StableID: "nNAMELESSCNTRL", IPs: ips("100.64.0.8"), OffersExit: true, Online: true},
}

func ips(ss ...string) (out []netip.Addr) {
	for _, s := range ss {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func TestResolve(t *testing.T) {
	const fra, ams = "exit-fra1.your-org.ts.net", "exit-ams1.your-org.ts.net"
	const all = "exit-ams1.your-org.ts.net, exit-fra1.your-org.ts.net, nNAMELESSCNTRL, nfra1cntrl, nfra1cntrl.your-org.ts.net, 1 others"
	const dropped = "; until then exit traffic is dropped"
	notFound := func(name string) Resolution {
		return Resolution{Reason: ExitNotFound, Msg: `exit node "` + name + `" is not in the tailnet, or the tailnet's policy hides it from this gateway; write one of ` + all + dropped}
	}
	web := Resolution{
		Reason: ExitNotOffered,
		Msg:    "node web.your-org.ts.net offers no exit, or its offer is not approved; approve its exit node in the tailnet, or write one of " + all + dropped,
	}
	chosen := Resolution{ID: "nFRA1CNTRL", Name: fra, Reason: ExitChosen}
	offline := Resolution{ID: "nAMS1CNTRL", Name: ams, Reason: ExitOffline, Msg: "exit node " + ams + " is offline; exit traffic is dropped until it is back"}
	for selector, want := range map[string]Resolution{
		"":                            {Reason: ExitOff},
		"  ":                          {Reason: ExitOff},
		"nFRA1CNTRL":                  chosen,
		" nFRA1CNTRL ":                chosen,
		"100.64.0.1":                  chosen,
		"::ffff:100.64.0.1":           chosen,
		"FD7A:115C:A1E0::1":           chosen,
		"exit-fra1":                   chosen,
		"Exit-FRA1":                   chosen,
		"exit-fra1.":                  chosen,
		"exit-fra1.your-org.ts.net":   chosen,
		"EXIT-fra1.your-org.ts.net.":  chosen,
		"exit-ams1":                   offline,
		"nAMS1CNTRL":                  offline,
		"nNAMELESSCNTRL":              {ID: "nNAMELESSCNTRL", Name: "nNAMELESSCNTRL", Reason: ExitChosen},
		"nfra1cntrl.your-org.ts.net":  {ID: "nEVILCNTRL", Name: "nfra1cntrl.your-org.ts.net", Reason: ExitChosen},
		"twin.your-org.ts.net":        {ID: "nTWIN1CNTRL", Name: "twin.your-org.ts.net", Reason: ExitChosen},
		"twin":                        {Reason: ExitAmbiguous, Msg: `exit node "twin" could be twin.their-org.ts.net or twin.your-org.ts.net; write a full name or a StableNodeID` + dropped},
		"web":                         web,
		"nWEB1CNTRL":                  web,
		"100.64.0.3":                  web,
		"exit-lon1":                   notFound("exit-lon1"),
		"exit-fra1.your-org":          notFound("exit-fra1.your-org"),
		"exit-fra1.your-org.ts.net..": notFound("exit-fra1.your-org.ts.net.."),
		"100.64.0.99":                 notFound("100.64.0.99"),
		".":                           notFound("."),
		"auto:":                       notFound("auto:"),
		"auto:any":                    {Reason: ExitByEngine},
	} {
		e := ParseExitNode(selector)
		want.Wanted = e
		if diff := cmp.Diff(want, e.Resolve(tailnet), compare); diff != "" {
			t.Errorf("%q (-want +got):\n%s", selector, diff)
		}
		if there := want.Reason == ExitOff || want.Reason == ExitByEngine || want.ID != ""; want.Lacking() == there {
			t.Errorf("%q: there is none: %v", selector, want.Lacking())
		}
	}
}

func TestResolveWithoutExitNodes(t *testing.T) {
	peers := tailnet[2:3]
	for selector, want := range map[string]string{
		"auto:any": `no node of the tailnet offers an exit for "auto:any"; approve one in the tailnet; until then exit traffic is dropped`,
		"web":      "node web.your-org.ts.net offers no exit, or its offer is not approved; approve its exit node in the tailnet, or write one of the tailnet's exit nodes, of which there are none yet; until then exit traffic is dropped",
	} {
		got := ParseExitNode(selector).Resolve(peers)
		if got.Reason != ExitNotOffered || got.Msg != want {
			t.Errorf("%q: %s, %s\nwant %s", selector, got.Reason, got.Msg, want)
		}
	}
}

// TestResolutionPrefs applies each resolution to each state that the engine can be
// in, the way EditPrefs does, and says what must come of it.
func TestResolutionPrefs(t *testing.T) {
	states := []ipn.Prefs{
		{},
		{ExitNodeID: "nOLDCNTRL"},
		{ExitNodeIP: netip.MustParseAddr("100.64.0.9")},
		{ExitNodeID: "nOLDCNTRL", AutoExitNode: "any"},
		{ExitNodeID: "auto:any", AutoExitNode: "any"}, // no choice made yet
		{ExitNodeID: UnresolvedExitNode},
	}
	for selector, want := range map[string]ipn.Prefs{
		"":           {},
		"nFRA1CNTRL": {ExitNodeID: "nFRA1CNTRL"},
		"exit-ams1":  {ExitNodeID: "nAMS1CNTRL"},
		"web":        {ExitNodeID: UnresolvedExitNode},
		"nowhere":    {ExitNodeID: UnresolvedExitNode},
	} {
		mp := ParseExitNode(selector).Resolve(tailnet).Prefs()
		for _, state := range states {
			got := editPrefs(state, mp)
			if diff := cmp.Diff(want, got, compare); diff != "" {
				t.Errorf("%q after %+v (-want +got):\n%s", selector, state.Pretty(), diff)
			}
			ParseExitNode(selector).Resolve(tailnet).ApplyTo(&state)
			if diff := cmp.Diff(want, state, compare); diff != "" {
				t.Errorf("ApplyTo for %q (-want +got):\n%s", selector, diff)
			}
		}
	}
	mp := ParseExitNode("auto:any").Resolve(nil).Prefs()
	for _, state := range states {
		got := editPrefs(state, mp)
		want := ipn.Prefs{ExitNodeID: state.ExitNodeID, AutoExitNode: "any"}
		if diff := cmp.Diff(want, got, compare); diff != "" {
			t.Errorf("auto after %+v (-want +got):\n%s", state.Pretty(), diff)
		}
		ParseExitNode("auto:any").Resolve(nil).ApplyTo(&state)
		if diff := cmp.Diff(want, state, compare); diff != "" {
			t.Errorf("ApplyTo for auto (-want +got):\n%s", diff)
		}
	}
}

// editPrefs is what ipnlocal's LocalBackend.EditPrefs does about exit nodes
// (adjustEditPrefsLocked, then ApplyEdits), which is the contract of Prefs.
func editPrefs(p ipn.Prefs, mp ipn.MaskedPrefs) ipn.Prefs {
	if mp.AutoExitNodeSet && mp.AutoExitNode == "" && p.ExitNodeID == "auto:any" {
		mp.ExitNodeIDSet, mp.ExitNodeID = true, ""
	}
	if (mp.ExitNodeIDSet || mp.ExitNodeIPSet) && !mp.AutoExitNodeSet {
		mp.AutoExitNodeSet, mp.AutoExitNode = true, ""
	}
	p.ApplyEdits(&mp)
	return p
}
