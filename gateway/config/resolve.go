package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"tailscale.com/ipn"
	"tailscale.com/tailcfg"
)

// UnresolvedExitNode is the ID that [Resolution.Prefs] sets when the wanted exit
// node cannot be used. No node can have it (IDs are letters and digits). With an
// exit node set that is not there, the engine keeps both default routes on its TUN
// and has no peer for them: what members send there is dropped. With none set,
// it would leave by whatever other way there is.
//
// It is not ipnlocal's own such ID ("auto:any"), because LocalBackend.EditPrefs
// turns that one into no exit node as soon as AutoExitNode is cleared.
const UnresolvedExitNode tailcfg.StableNodeID = "tailgate-unresolved"

// Peer is what choosing an exit node takes of another node of the tailnet.
type Peer struct {
	StableID tailcfg.StableNodeID
	// Name is the node's full MagicDNS name, with or without the last dot.
	Name string
	// IPs are its tailnet addresses.
	IPs []netip.Addr
	// OffersExit says that it advertises both default routes and they are approved.
	OffersExit bool
	Online     bool
}

func (p Peer) hasIP(ip netip.Addr) bool { return slices.Contains(p.IPs, ip) }

// hasName reports whether name, which is bare, is the peer's full or base name.
func (p Peer) hasName(name string) bool {
	full := bareName(p.Name)
	base, _, _ := strings.Cut(full, ".")
	return name != "" && (name == full || name == base)
}

// label is how messages call the peer.
func (p Peer) label() string {
	if name := bareName(p.Name); name != "" {
		return name
	}
	return string(p.StableID)
}

// ExitReason is the outcome of a resolution in one word, for metrics and conditions.
type ExitReason string

// Outcomes of a resolution.
const (
	// ExitOff: no exit node is wanted.
	ExitOff ExitReason = "off"
	// ExitChosen: the node is there and offers an exit.
	ExitChosen ExitReason = "chosen"
	// ExitOffline: as ExitChosen, but the control plane says that it is offline.
	ExitOffline ExitReason = "offline"
	// ExitByEngine: the engine chooses among the nodes that offer an exit.
	ExitByEngine ExitReason = "auto"
	// ExitNotFound: no node has that ID, address or name.
	ExitNotFound ExitReason = "not_found"
	// ExitNotOffered: the node offers no exit, or its offer is not approved; with
	// an auto expression, this holds for every node.
	ExitNotOffered ExitReason = "not_offered"
	// ExitAmbiguous: several nodes have that name.
	ExitAmbiguous ExitReason = "ambiguous"
)

// Resolution is what became of a selector. It can be compared, to see whether the
// exit node must be set again.
type Resolution struct {
	Wanted ExitNode
	// ID is the node's; "" unless Reason is ExitChosen or ExitOffline.
	ID tailcfg.StableNodeID
	// Name is the node's full name without the last dot, or its ID if it has none.
	Name   string
	Reason ExitReason
	// Msg is a sentence for a person when something is amiss; else "".
	Msg string
}

// Resolve looks for the wanted exit node among peers, which are all the other
// nodes of the netmap, in any order. Call it again whenever they change; before
// there is a netmap nothing is known, so leave the engine as it is.
func (e ExitNode) Resolve(peers []Peer) Resolution {
	switch e.Kind {
	case ExitNone:
		return Resolution{Wanted: e, Reason: ExitOff}
	case ExitAuto:
		return e.auto(peers)
	}
	fail := func(reason ExitReason, format string, args ...any) Resolution {
		return Resolution{Wanted: e, Reason: reason, Msg: fmt.Sprintf(format, args...) + "; until then exit traffic is dropped"}
	}
	found := e.find(peers)
	switch {
	case len(found) == 0:
		return fail(ExitNotFound, "exit node %s is not in the tailnet, or the tailnet's policy hides it from this gateway; write one of %s",
			quote(e.Text, nil), offers(peers))
	case len(found) > 1:
		return fail(ExitAmbiguous, "exit node %s could be %s; write a full name or a StableNodeID", quote(e.Text, nil), labels(found, " or "))
	case !found[0].OffersExit:
		return fail(ExitNotOffered, "node %s offers no exit, or its offer is not approved; approve its exit node in the tailnet, or write one of %s",
			found[0].label(), offers(peers))
	}
	r := Resolution{Wanted: e, ID: found[0].StableID, Name: found[0].label(), Reason: ExitChosen}
	if !found[0].Online {
		r.Reason = ExitOffline
		r.Msg = fmt.Sprintf("exit node %s is offline; exit traffic is dropped until it is back", r.Name)
	}
	return r
}

// auto leaves the choice to the engine, and says so if there is none.
func (e ExitNode) auto(peers []Peer) Resolution {
	if slices.ContainsFunc(peers, func(p Peer) bool { return p.OffersExit }) {
		return Resolution{Wanted: e, Reason: ExitByEngine}
	}
	return Resolution{Wanted: e, Reason: ExitNotOffered, Msg: fmt.Sprintf(
		"no node of the tailnet offers an exit for %s; approve one in the tailnet; until then exit traffic is dropped", quote(e.Text, nil))}
}

// Lacking reports whether an exit node is wanted and there is none. One that is offline is there.
func (r Resolution) Lacking() bool {
	return r.Reason == ExitNotFound || r.Reason == ExitAmbiguous || r.Reason == ExitNotOffered
}

// Prefs returns the preferences that put the resolution into force, for
// LocalBackend.EditPrefs; for Start use [Resolution.ApplyTo]. They touch nothing
// else, so they can be applied with [Config.Prefs] or by themselves.
//
//   - None wanted: ExitNodeID, ExitNodeIP and AutoExitNode are cleared.
//   - A node: its ID is set and ExitNodeIP, which would win over it, is cleared.
//     AutoExitNode is left to EditPrefs, which clears it with the ID. To clear it
//     here would be a trap: with no automatic choice made yet, EditPrefs then
//     clears the ID as well (adjustEditPrefsLocked), and traffic would get out.
//   - Unresolved: the same with [UnresolvedExitNode].
//   - Auto: AutoExitNode is set and ExitNodeIP cleared. The ID stays: the engine
//     replaces it as soon as it has a choice, and drops traffic if there is none.
func (r Resolution) Prefs() ipn.MaskedPrefs {
	mp := ipn.MaskedPrefs{ExitNodeIPSet: true}
	switch {
	case r.Wanted.Kind == ExitNone:
		mp.ExitNodeIDSet, mp.AutoExitNodeSet = true, true
	case r.Wanted.Kind == ExitAuto:
		mp.AutoExitNode, mp.AutoExitNodeSet = r.Wanted.Auto, true
	case r.ID == "":
		mp.ExitNodeID, mp.ExitNodeIDSet = UnresolvedExitNode, true
	default:
		mp.ExitNodeID, mp.ExitNodeIDSet = r.ID, true
	}
	return mp
}

// ApplyTo writes the resolution into whole preferences, as LocalBackend.Start takes
// them. Prefs are not enough there: nobody would clear an AutoExitNode that an
// earlier process stored, and the engine would choose another exit than asked for.
func (r Resolution) ApplyTo(p *ipn.Prefs) {
	mp := r.Prefs()
	if mp.ExitNodeIDSet {
		mp.AutoExitNodeSet = true
	}
	p.ApplyEdits(&mp)
}

// offers names the peers that could be written instead.
func offers(peers []Peer) string {
	offering := filter(peers, func(p Peer) bool { return p.OffersExit })
	if len(offering) == 0 {
		return "the tailnet's exit nodes, of which there are none yet"
	}
	return labels(offering, ", ")
}

// labels joins the names of peers in order, a handful at most: a tailnet with
// Mullvad has hundreds of exit nodes.
func labels(peers []Peer, separator string) string {
	const most = 5
	names := make([]string, len(peers))
	for i, p := range peers {
		names[i] = p.label()
	}
	slices.Sort(names)
	if len(names) > most {
		names = append(names[:most], fmt.Sprintf("%d others", len(names)-most))
	}
	return strings.Join(names, separator)
}
