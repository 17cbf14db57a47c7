package tailnet

import (
	"net/http"
	"slices"
	"time"

	"tailscale.com/tailcfg"
	"tailscale.com/types/key"
)

// The tailnet has two users: its owner, and the one to whom tagged nodes belong.
const (
	ownerID  tailcfg.UserID = 1
	taggedID tailcfg.UserID = 2
)

func (t *Tailnet) userProfiles() []tailcfg.UserProfile {
	return []tailcfg.UserProfile{
		{ID: ownerID, LoginName: "owner@" + t.opts.Domain, DisplayName: "Owner"},
		{ID: taggedID, LoginName: "tagged-devices", DisplayName: "Tagged Devices"},
	}
}

func (n *node) user() tailcfg.UserID {
	if len(n.tags) > 0 {
		return taggedID
	}
	return ownerID
}

func (t *Tailnet) serveRegister(w http.ResponseWriter, r *http.Request, machine key.MachinePublic) {
	var req tailcfg.RegisterRequest
	if !decode(w, r, &req) {
		return
	}
	if req.NodeKey.IsZero() || req.Hostinfo == nil {
		http.Error(w, "register request without a node key or host information", http.StatusBadRequest)
		return
	}
	if req.Followup != "" {
		// Nobody visits the login page here; a real one keeps the node waiting, too.
		select {
		case <-r.Context().Done():
		case <-t.ctx.Done():
		}
		return
	}
	res := t.register(&req, machine)
	t.opts.Logf("control: register %q %v: error=%q expired=%v login=%v",
		req.Hostinfo.Hostname, req.NodeKey.ShortString(), res.Error, res.NodeKeyExpired, res.AuthURL != "")
	answer(w, res)
}

// register logs a node in, out, or finds that it is.
func (t *Tailnet) register(req *tailcfg.RegisterRequest, machine key.MachinePublic) tailcfg.RegisterResponse {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.byKeyLocked(req.NodeKey)
	if n != nil && n.machine != machine {
		return tailcfg.RegisterResponse{Error: "node key belongs to another machine"}
	}
	if !req.Expiry.IsZero() && req.Expiry.Before(time.Now()) {
		return t.logoutLocked(n)
	}
	if n != nil {
		// A node that is logged in stays so, whatever became of the key it
		// logged in with.
		return t.loggedIn(n)
	}
	if req.Auth == nil || req.Auth.AuthKey == "" {
		return tailcfg.RegisterResponse{AuthURL: t.controlURL + "/a/" + newID("")}
	}
	k, err := t.useKeyLocked(req.Auth.AuthKey)
	if err != nil {
		return tailcfg.RegisterResponse{Error: err.Error()}
	}
	// The same machine logging in again, with a fresh node key: the same node.
	if n = t.byKeyLocked(req.OldNodeKey); !machineOf(n, machine) {
		n = t.findLocked(func(o *node) bool { return o.machine == machine })
	}
	if n == nil {
		t.lastID++
		n = &node{id: t.lastID, stable: tailcfg.StableNodeID(newID("n")), machine: machine, created: time.Now(), gone: make(chan struct{})}
		t.nodes = append(t.nodes, n)
	}
	n.key, n.expired, n.tags, n.ephemeral = req.NodeKey, false, k.Tags, k.Ephemeral || req.Ephemeral
	n.version, n.lastSeen = req.Version, time.Now()
	t.setHostinfoLocked(n, req.Hostinfo)
	t.changedLocked()
	return t.loggedIn(n)
}

func (t *Tailnet) loggedIn(n *node) tailcfg.RegisterResponse {
	i := slices.IndexFunc(t.userProfiles(), func(u tailcfg.UserProfile) bool { return u.ID == n.user() })
	u := t.userProfiles()[i]
	return tailcfg.RegisterResponse{
		User:              tailcfg.User{ID: u.ID, DisplayName: u.DisplayName, Created: n.created},
		Login:             tailcfg.Login{ID: tailcfg.LoginID(u.ID), LoginName: u.LoginName, DisplayName: u.DisplayName},
		MachineAuthorized: true,
		NodeKeyExpired:    n.expired,
	}
}

func (t *Tailnet) logoutLocked(n *node) tailcfg.RegisterResponse {
	switch {
	case n == nil:
	case n.ephemeral:
		t.deleteLocked(n)
	default:
		n.expired = true
		t.changedLocked()
	}
	return tailcfg.RegisterResponse{NodeKeyExpired: true}
}

// setHostinfoLocked takes what a node says of itself.
func (t *Tailnet) setHostinfoLocked(n *node, hi *tailcfg.Hostinfo) {
	n.hostinfo = hi
	t.renameLocked(n, hi.Hostname)
	if hi.NetInfo != nil && hi.NetInfo.PreferredDERP != 0 {
		n.homeDERP = hi.NetInfo.PreferredDERP
	}
	t.autoApproveLocked(n)
}
