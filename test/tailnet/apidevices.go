package tailnet

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"
)

// deviceJSON is a node as the API shows it; the last three only with fields=all.
type deviceJSON struct {
	Addresses          []netip.Addr `json:"addresses"`
	ID                 string       `json:"id"`
	NodeID             string       `json:"nodeId"`
	User               string       `json:"user"`
	Name               string       `json:"name"`
	Hostname           string       `json:"hostname"`
	ClientVersion      string       `json:"clientVersion"`
	UpdateAvailable    bool         `json:"updateAvailable"`
	OS                 string       `json:"os"`
	Created            time.Time    `json:"created"`
	ConnectedToControl bool         `json:"connectedToControl"`
	LastSeen           *time.Time   `json:"lastSeen,omitempty"`
	KeyExpiryDisabled  bool         `json:"keyExpiryDisabled"`
	Expires            time.Time    `json:"expires"`
	Authorized         bool         `json:"authorized"`
	IsExternal         bool         `json:"isExternal"`
	IsEphemeral        bool         `json:"isEphemeral"`
	MachineKey         string       `json:"machineKey"`
	NodeKey            string       `json:"nodeKey"`
	BlocksIncoming     bool         `json:"blocksIncomingConnections"`
	Tags               []string     `json:"tags,omitempty"`

	EnabledRoutes      []netip.Prefix `json:"enabledRoutes,omitempty"`
	AdvertisedRoutes   []netip.Prefix `json:"advertisedRoutes,omitempty"`
	ClientConnectivity *connectivity  `json:"clientConnectivity,omitempty"`
}

type connectivity struct {
	Endpoints []netip.AddrPort `json:"endpoints"`
	DERP      string           `json:"derp"`
}

func (t *Tailnet) device(n Node, all bool) deviceJSON {
	d := deviceJSON{
		Addresses: n.Addresses, ID: strconv.FormatInt(int64(n.ID), 10), NodeID: string(n.StableID),
		Name: n.FQDN, Hostname: n.Hostname, Created: wireTime(n.Created),
		ConnectedToControl: n.Online, KeyExpiryDisabled: len(n.Tags) > 0 && !n.Expired, Authorized: true, IsEphemeral: n.Ephemeral,
		MachineKey: n.Machine.String(), NodeKey: n.NodeKey.String(), Tags: n.Tags,
		User: "owner@" + t.opts.Domain,
	}
	if len(n.Tags) > 0 {
		d.User = "tagged-devices"
	}
	if !n.Online {
		seen := wireTime(n.LastSeen)
		d.LastSeen = &seen
	}
	if n.Expired {
		d.Expires = d.Created
	}
	if hi := n.Hostinfo; hi != nil {
		d.ClientVersion, d.OS, d.BlocksIncoming = hi.IPNVersion, hi.OS, hi.ShieldsUp
	}
	if all {
		d.EnabledRoutes, d.AdvertisedRoutes = n.Approved, n.Advertised
		d.ClientConnectivity = &connectivity{Endpoints: n.Endpoints, DERP: strconv.Itoa(n.HomeDERP)}
	}
	return d
}

// deviceOf finds the node that a request is about, by either of its identifiers.
func (t *Tailnet) deviceOf(r *http.Request) (Node, *apiError) {
	id := r.PathValue("device")
	nodes := t.Nodes()
	i := slices.IndexFunc(nodes, func(n Node) bool {
		return string(n.StableID) == id || strconv.FormatInt(int64(n.ID), 10) == id
	})
	if i < 0 {
		return Node{}, notFound("no manageable device matching ID found")
	}
	return nodes[i], nil
}

func (t *Tailnet) listDevices(_ *token, r *http.Request) (any, *apiError) {
	q := r.URL.Query()
	out := []deviceJSON{}
	for _, n := range t.Nodes() {
		if d := t.device(n, q.Get("fields") == "all"); d.matches(q) {
			out = append(out, d)
		}
	}
	return map[string]any{"devices": out}, nil
}

// matches applies the filters of a listing: all keys, and of each key any value.
func (d deviceJSON) matches(q url.Values) bool {
	have := map[string][]string{
		"tags": d.Tags, "hostname": {d.Hostname}, "name": {d.Name}, "os": {d.OS}, "user": {d.User},
		"nodeId": {d.NodeID}, "isEphemeral": {strconv.FormatBool(d.IsEphemeral)},
	}
	for key, want := range q {
		if values, ok := have[key]; ok && !slices.ContainsFunc(want, func(w string) bool { return slices.Contains(values, w) }) {
			return false
		}
	}
	return true
}

func (t *Tailnet) getDevice(_ *token, r *http.Request) (any, *apiError) {
	n, err := t.deviceOf(r)
	if err != nil {
		return nil, err
	}
	return t.device(n, r.URL.Query().Get("fields") == "all"), nil
}

func (t *Tailnet) deleteDevice(_ *token, r *http.Request) (any, *apiError) {
	n, err := t.deviceOf(r)
	if err != nil {
		return nil, err
	}
	if !t.DeleteNode(n.StableID) {
		return nil, notFound("no manageable device matching ID found")
	}
	return nil, nil
}

// postTags replaces a device's tags, if the client may give them.
func (t *Tailnet) postTags(tok *token, r *http.Request) (any, *apiError) {
	n, err := t.deviceOf(r)
	if err != nil {
		return nil, err
	}
	var req struct {
		Tags []string `json:"tags"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if !t.mayTag(tok.client, req.Tags) {
		return nil, tagsRefused(req.Tags)
	}
	if !t.SetTags(n.StableID, req.Tags...) {
		return nil, notFound("no manageable device matching ID found")
	}
	return nil, nil
}

type routesJSON struct {
	Advertised []netip.Prefix `json:"advertisedRoutes"`
	Enabled    []netip.Prefix `json:"enabledRoutes"`
}

func (t *Tailnet) getRoutes(_ *token, r *http.Request) (any, *apiError) {
	n, err := t.deviceOf(r)
	if err != nil {
		return nil, err
	}
	return routesJSON{Advertised: notNil(n.Advertised), Enabled: notNil(n.Approved)}, nil
}

func (t *Tailnet) postRoutes(tok *token, r *http.Request) (any, *apiError) {
	n, err := t.deviceOf(r)
	if err != nil {
		return nil, err
	}
	var req struct {
		Routes []netip.Prefix `json:"routes"`
	}
	if err := readJSON(r, &req); err != nil {
		return nil, err
	}
	if err := t.ApproveRoutes(n.Name, req.Routes...); err != nil {
		return nil, &apiError{http.StatusBadRequest, fmt.Sprintf("invalid routes: %v", err)}
	}
	return t.getRoutes(tok, r)
}

// notNil makes JSON say [] for nothing.
func notNil(p []netip.Prefix) []netip.Prefix {
	if p == nil {
		return []netip.Prefix{}
	}
	return p
}
