//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
)

// observer watches groups and their ConfigMaps as a user would.
type observer struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at every change
	groups  map[string]groupSeen
	configs map[string]configSeen // by the ConfigMap's name
	err     error

	// ended is closed when who is waited for has gone; nil: never.
	ended <-chan struct{}
}

// groupSeen is what a group's status says.
type groupSeen struct {
	hash  string
	first bool // reconciled: the key is minted, the configuration written, and this is of the newest spec
	ready bool // and every gateway runs
}

// configSeen is a ConfigMap's content, and since when.
type configSeen struct {
	text string
	at   time.Time
}

// watchAll watches until ctx ends.
func watchAll(ctx context.Context, c client.WithWatch) *observer {
	o := &observer{changed: make(chan struct{}), groups: map[string]groupSeen{}, configs: map[string]configSeen{}}
	go o.follow(ctx, c, &v1alpha1.EgressGroupList{})
	go o.follow(ctx, c, &corev1.ConfigMapList{}, client.InNamespace(namespace), client.HasLabels{v1alpha1.LabelGroup})
	return o
}

// follow begins again when the server ends a watch, which it does now and then.
func (o *observer) follow(ctx context.Context, c client.WithWatch, list client.ObjectList, which ...client.ListOption) {
	for ctx.Err() == nil {
		w, err := c.Watch(ctx, list, which...)
		if err != nil {
			o.fail(ctx, err)
			return
		}
		for e := range w.ResultChan() {
			if e.Type == watch.Error {
				o.fail(ctx, fmt.Errorf("watch: %v", e.Object))
				return
			}
			o.note(e)
		}
	}
}

func (o *observer) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // the bench ends
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = errors.Join(o.err, err)
	o.wake()
}

func (o *observer) wake() {
	close(o.changed)
	o.changed = make(chan struct{})
}

func (o *observer) note(e watch.Event) {
	now := time.Now()
	o.mu.Lock()
	defer o.mu.Unlock()
	switch v := e.Object.(type) {
	case *v1alpha1.EgressGroup:
		o.groups[v.Name] = groupSeenOf(v)
	case *corev1.ConfigMap:
		if text := v.Data[render.ConfigKey]; o.configs[v.Name].text != text {
			o.configs[v.Name] = configSeen{text: text, at: now}
		}
	}
	o.wake()
}

func groupSeenOf(g *v1alpha1.EgressGroup) groupSeen {
	s := &g.Status
	seen := groupSeen{hash: s.ConfigHash}
	seen.first = s.ObservedGeneration == g.Generation && s.ConfigHash != "" &&
		meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionAuthKeyReady) &&
		meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionConfigRendered)
	ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady)
	seen.ready = seen.first && ready != nil && ready.Status == metav1.ConditionTrue && s.Gateways.Ready == s.Gateways.Desired
	return seen
}

// wait waits until done, which is called with what was seen, and returns when that was.
func (o *observer) wait(ctx context.Context, what string, done func() bool) (time.Time, error) {
	for {
		o.mu.Lock()
		changed, err, ok := o.changed, o.err, done()
		o.mu.Unlock()
		switch {
		case err != nil:
			return time.Time{}, fmt.Errorf("wait until %s: %w", what, err)
		case ok:
			return time.Now(), nil
		}
		select {
		case <-changed:
		case <-o.ended:
			return time.Time{}, fmt.Errorf("wait until %s: tailgate-operator ended", what)
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("wait until %s: %w", what, ctx.Err())
		}
	}
}

// waitGroups waits until at least n groups are as match says.
func (o *observer) waitGroups(ctx context.Context, n int, what string, match func(groupSeen) bool) (time.Time, error) {
	return o.wait(ctx, what, func() bool {
		count := 0
		for _, g := range o.groups {
			if match(g) {
				count++
			}
		}
		return count >= n
	})
}

// hashes returns the configuration hash of each group.
func (o *observer) hashes() map[string]string {
	o.mu.Lock()
	defer o.mu.Unlock()
	out := map[string]string{}
	for name, g := range o.groups {
		out[name] = g.hash
	}
	return out
}

// snapshot returns the ConfigMaps as they are now.
func (o *observer) snapshot() map[string]configSeen {
	o.mu.Lock()
	defer o.mu.Unlock()
	return maps.Clone(o.configs)
}

// waitConfigs waits until all of these ConfigMaps have another content than before, and returns when the last got it.
func (o *observer) waitConfigs(ctx context.Context, before map[string]configSeen) (last time.Time, err error) {
	_, err = o.wait(ctx, "edits are in the ConfigMaps", func() bool {
		last = time.Time{}
		for name, was := range before {
			now := o.configs[name]
			if now.text == was.text {
				return false
			}
			if now.at.After(last) {
				last = now.at
			}
		}
		return true
	})
	return last, err
}
