//go:build linux

package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

const (
	// mostAdded is the goal for what the plugin adds to the ADD of a pod that is no member, in milliseconds, as the median.
	mostAdded = 5
	// addPods is how many pods the ADDs of each kind are for, in turn.
	addPods = 10
)

// adds measures ADD of the whole chain with our plugin, which the agent answers, and without it.
func (b *bench) adds(ctx context.Context) error {
	for _, k := range []struct {
		key, name string
		labels    map[string]string
		goal      sheet.Goal
	}{
		{"add/outside", "ADD, not a member", nil, sheet.Below(mostAdded)},
		{"add/member", "ADD, a member", memberLabel, sheet.Goal{}},
	} {
		pods, err := b.waitingPods(ctx, k.key[len("add/"):], k.labels)
		if err != nil {
			return err
		}
		p, err := b.callChain(ctx, chainJob{Pods: pods, Member: k.labels != nil, Pairs: b.s.adds})
		if err != nil {
			return err
		}
		b.add(k.key, k.name+": the plugin adds (median of pairs)", "ms", stats.Median(p.Differences()), k.goal, p.Differences()...)
		for _, side := range []struct {
			key, name string
			ms        []float64
		}{{"with", "with tailgate", p.Ours}, {"without", "without", p.Theirs}} {
			b.add(k.key+"/"+side.key, "… "+side.name+", median", "ms", stats.Median(side.ms), sheet.Goal{}, side.ms...)
			b.add(k.key+"/"+side.key+"/p99", "… "+side.name+", p99", "ms", stats.Quantile(side.ms, 0.99), sheet.Goal{})
		}
	}
	return nil
}

// waitingPods makes pods that the API server and the agent know, and for which no runtime makes a sandbox: the kubelet waits for a
// volume first, which never comes.
func (b *bench) waitingPods(ctx context.Context, prefix string, labels map[string]string) ([]chainPod, error) {
	var all []chainPod
	for _, p := range newPods(addPods, namespaceAdd, prefix, labels) {
		p.Spec.Volumes = []corev1.Volume{{Name: "never", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "never"}},
		}}}
		p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "never", MountPath: "/never"}}
		if err := b.stage.Client.Create(ctx, p); err != nil {
			return nil, fmt.Errorf("make pod %s: %w", p.Name, err)
		}
		all = append(all, chainPod{Namespace: p.Namespace, Name: p.Name, UID: string(p.UID)})
	}
	// What the plugin asks for is known from the watch, as it is in life: the kubelet hears of a pod no sooner than the agent.
	return all, await(ctx, time.Minute, often, "the agent to know the pods", func() (bool, error) {
		text, err := b.get(ctx, b.debugURL("pods.json"))
		for _, p := range all {
			if err == nil && !strings.Contains(text, p.UID) {
				return false, nil
			}
		}
		return err == nil, err
	})
}
