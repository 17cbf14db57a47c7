//go:build linux

package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
	"github.com/rajsinghtech/tailgate/test/bench/internal/traffic"
)

// mostLabelled is the goal from the label to the first reply, in milliseconds: a label takes effect within a second.
const mostLabelled = 1000

// labels measures how soon a running pod reaches a peer once it is labelled.
func (b *bench) labels(ctx context.Context) error {
	pods := newPods(b.s.labels, namespaceLive, "labelled", nil)
	if err := b.startPods(ctx, pods...); err != nil {
		return err
	}
	var sinceSent, sinceAnswered []float64
	for _, p := range pods {
		sent, answered, err := b.labelOne(ctx, p)
		if err != nil {
			return fmt.Errorf("label %s: %w", p.Name, err)
		}
		sinceSent, sinceAnswered = append(sinceSent, sent.Seconds()*1e3), append(sinceAnswered, answered.Seconds()*1e3)
	}
	b.add("label", "label patched to the peer's first reply, median", "ms", stats.Median(sinceAnswered), sheet.AtMost(mostLabelled), sinceAnswered...)
	b.add("label/max", "… longest", "ms", slices.Max(sinceAnswered), sheet.AtMost(mostLabelled))
	b.add("label/sent", "… from the patch being sent, median", "ms", stats.Median(sinceSent), sheet.Goal{}, sinceSent...)
	b.add("label/sent/max", "… longest", "ms", slices.Max(sinceSent), sheet.Goal{})
	return nil
}

// labelOne labels a pod that pings the peer a thousand times a second, and returns how long after the patch was sent, and after it
// was answered, the first reply came. The reply may come before the answer.
func (b *bench) labelOne(ctx context.Context, pod *corev1.Pod) (sent, answered time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	h, err := b.host(ctx, pod)
	if err != nil {
		return 0, 0, err
	}
	probes, err := traffic.StartProbes(ctx, h, b.peer.Tail4, time.Millisecond)
	if err != nil {
		return 0, 0, err
	}
	defer probes.Stop()
	first := make(chan time.Time, 1)
	waited := make(chan error, 1)
	go func() {
		err := probes.Wait(ctx)
		first <- time.Now()
		waited <- err
	}()
	began := time.Now()
	if err := b.label(ctx, pod, memberLabel); err != nil {
		return 0, 0, err
	}
	patched := time.Now()
	select {
	case err = <-waited:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil {
		return 0, 0, err
	}
	at := <-first
	return at.Sub(began), at.Sub(patched), nil
}

// label sets labels of an object; those with the value "" are removed.
func (b *bench) label(ctx context.Context, o client.Object, labels map[string]string) error {
	before := o.DeepCopyObject().(client.Object)
	all := map[string]string{}
	for k, v := range o.GetLabels() {
		all[k] = v
	}
	for k, v := range labels {
		if v == "" {
			delete(all, k)
			continue
		}
		all[k] = v
	}
	o.SetLabels(all)
	if err := b.stage.Client.Patch(ctx, o, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("label %s: %w", o.GetName(), err)
	}
	return nil
}

// labelNamespace makes members of the labelled pods of a namespace, or no longer.
func (b *bench) labelNamespace(ctx context.Context, name string, on bool) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
	if err := b.stage.Client.Get(ctx, client.ObjectKeyFromObject(ns), ns); err != nil {
		return fmt.Errorf("find namespace %s: %w", name, err)
	}
	value := ""
	if on {
		value = "true"
	}
	return b.label(ctx, ns, map[string]string{namespaceLabel: value})
}
