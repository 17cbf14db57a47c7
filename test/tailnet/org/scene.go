//go:build linux

package org

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/userspace"
)

// Scene is a tailnet with nodes in this process, as those of package rig by name and by what they route.
type Scene struct {
	*Tailnet
	// Nodes are there by role.
	Nodes map[rig.Role]*userspace.Node
	// OperatorID and OperatorSecret are the OAuth client of tailgate's operator.
	OperatorID, OperatorSecret string
}

// Tags of the nodes, and the operator's own.
const (
	nodeTag      = "tag:node"
	routerTag    = "tag:router"
	exitTag      = "tag:exit"
	connectorTag = "tag:connector"
	operatorTag  = "tag:tailgate"
)

// roles are the nodes, with the tag that lets each do what it does.
func roles() map[rig.Role]struct {
	tag  string
	node userspace.Config
} {
	return map[rig.Role]struct {
		tag  string
		node userspace.Config
	}{
		rig.Plain:        {nodeTag, userspace.Config{}},
		rig.SubnetRouter: {routerTag, userspace.Config{Routes: []netip.Prefix{rig.SubnetV4, rig.SubnetV6}}},
		rig.ExitA:        {exitTag, userspace.Config{ExitNode: true}},
		rig.ExitB:        {exitTag, userspace.Config{ExitNode: true}},
		rig.AppConnector: {connectorTag, userspace.Config{AppConnector: true}},
	}
}

// Policy is the policy file for groups with these tags: their gateways reach the nodes, the subnets by way of their router, the
// app and the internet; what routers advertise is approved.
func Policy(groups []string) (string, error) {
	nobody, subnets := []string{}, []string{rig.SubnetV4.String(), rig.SubnetV6.String()}
	owners := map[string][]string{operatorTag: nobody, nodeTag: nobody, routerTag: nobody, exitTag: nobody, connectorTag: nobody}
	for _, tag := range groups {
		owners[tag] = []string{operatorTag}
	}
	routes := map[string][]string{rig.AppV4.String(): {connectorTag}}
	for _, s := range subnets {
		routes[s] = []string{routerTag}
	}
	type object = map[string]any
	all := []string{"*"}
	text, err := json.MarshalIndent(object{
		"tagOwners": owners,
		"grants": []object{
			{"src": groups, "dst": []string{nodeTag, routerTag, exitTag, connectorTag}, "ip": all},
			{"src": groups, "dst": subnets, "ip": all, "via": []string{routerTag}},
			{"src": groups, "dst": []string{rig.AppV4.String(), "autogroup:internet"}, "ip": all},
		},
		"autoApprovers": object{"routes": routes, "exitNode": []string{exitTag}},
		"nodeAttrs": []object{
			{"target": []string{"*"}, "app": object{"tailscale.com/app-connectors": []object{{
				"name": "saas", "connectors": []string{connectorTag}, "domains": []string{rig.AppName}, "routes": []string{rig.AppV4.String()},
			}}}},
		},
	}, "", "  ")
	return string(text), err
}

// Open makes a tailnet of that name, its policy, the nodes and the operator's credential. What there is of it when something
// fails is deleted.
func Open(ctx context.Context, o Options, name string, groups []string) (_ *Scene, err error) {
	t, err := Create(ctx, o, name)
	if t == nil {
		return nil, err
	}
	s := &Scene{Tailnet: t, Nodes: map[rig.Role]*userspace.Node{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}()
	if err != nil {
		return nil, err
	}
	policy, err := Policy(groups)
	if err != nil {
		return nil, err
	}
	if err := t.SetPolicy(ctx, policy); err != nil {
		return nil, err
	}
	s.OperatorID, s.OperatorSecret, err = t.OAuthClient(ctx, []string{"auth_keys", "devices:core"}, []string{operatorTag})
	if err != nil {
		return nil, err
	}
	return s, s.startNodes(ctx)
}

func (s *Scene) startNodes(ctx context.Context) error {
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	for role, r := range roles() {
		g.Go(func() error {
			key, err := s.Key(ctx, r.tag)
			if err != nil {
				return err
			}
			c := r.node
			c.Name, c.AuthKey, c.ControlURL = string(role), key, s.o.LoginServer
			n, err := userspace.Start(ctx, c)
			if err != nil {
				return fmt.Errorf("tailnet %q: %w", s.Name, err)
			}
			mu.Lock()
			defer mu.Unlock()
			s.Nodes[role] = n
			return nil
		})
	}
	return g.Wait()
}

// Close ends the nodes and deletes the tailnet.
func (s *Scene) Close(ctx context.Context) error {
	err := s.Delete(ctx) // first, since it is what costs when this process is killed now
	for _, n := range s.Nodes {
		err = errors.Join(err, n.Close())
	}
	return err
}
