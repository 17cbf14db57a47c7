//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/test/demo/report"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/stage"
)

// The kubelet looks for containers that have ended once a second, and then starts them again.
const killLimit = 5 * time.Second

func (d *demo) failures(ctx context.Context) error {
	return errors.Join(d.killGateway(ctx), d.replaceAgents(ctx))
}

// killGateway kills the process of the member's gateway under load.
func (d *demo) killGateway(ctx context.Context) error {
	before, err := d.gatewaysNow(ctx)
	if err != nil {
		return err
	}
	pods, err := d.gatewayPods(ctx, payments)
	if err != nil {
		return err
	}
	l, err := rig.StartLoad(ctx, d.member.Host, d.Rig.Nodes[rig.Plain])
	if err != nil {
		l.Stop()
		return err
	}
	d.check(ctx, "kill -9 of the gateway of payments on n1: all goes on", quick, func(ctx context.Context) (string, error) {
		if err := d.kill(ctx, pods[n1]); err != nil {
			return "", err
		}
		return "the kubelet starts it again", errors.Join(rig.Pause(ctx, 100*time.Millisecond), l.WaitAll(ctx))
	})
	d.check(ctx, "it is ready again", slow, func(ctx context.Context) (string, error) {
		return "", until(ctx, func(ctx context.Context) (string, error) {
			pods, err := d.gatewayPods(ctx, payments)
			if err == nil && (!ready(pods[n1]) || restarts(pods[n1]) == before[payments+"-n1"].restarts) {
				return "it has not been started again", nil
			}
			return "", err
		})
	})
	pings, stream := l.Stop()
	families(func(f int) {
		d.check(ctx, fmt.Sprintf("pings by IPv%d meanwhile", f), quick, func(context.Context) (string, error) {
			return within(pings[f].Gap, killLimit, fmt.Sprintf("%d lost", pings[f].Lost))
		})
	})
	d.check(ctx, "a TCP stream meanwhile", quick, func(context.Context) (string, error) {
		// TCP's own timer doubles with each try (RFC 6298), so it finds the end of an interruption up to as much later.
		note, err := within(stream.Stall, 2*killLimit, "the connection lives")
		return note, errors.Join(err, stream.Err)
	})
	d.check(ctx, "it is the same device", quick, func(ctx context.Context) (string, error) {
		after, err := d.gatewaysNow(ctx)
		if err != nil {
			return "", err
		}
		a, b := after[payments+"-n1"], before[payments+"-n1"]
		if a.key != b.key || a.uid != b.uid || a.restarts != b.restarts+1 {
			return "", fmt.Errorf("it was %+v and is %+v", b, a)
		}
		return a.key[:len("nodekey:")+8] + "…, in the same pod", d.wantDevices(allDevices)
	})
	return nil
}

func within(gap, limit time.Duration, note string) (string, error) {
	note = fmt.Sprintf("interrupted for %s, %s", report.Short(gap), note)
	if gap > limit {
		return "", fmt.Errorf("%s: the limit is %v", note, limit)
	}
	return note, nil
}

// kill ends the first process of a pod's container, as the kernel does when memory is short.
func (d *demo) kill(ctx context.Context, p corev1.Pod) error {
	if len(p.Status.ContainerStatuses) == 0 {
		return fmt.Errorf("pod %q has no container", p.Name)
	}
	_, id, _ := strings.Cut(p.Status.ContainerStatuses[0].ContainerID, "://")
	return d.onNode(ctx, p.Spec.NodeName, "ctr", "--namespace=k8s.io", "task", "kill", "--signal=SIGKILL", id)
}

// replaceAgents replaces both nodes' agents under load.
func (d *demo) replaceAgents(ctx context.Context) error {
	l, err := rig.StartLoad(ctx, d.member.Host, d.Rig.Nodes[rig.Plain])
	if err != nil {
		l.Stop()
		return err
	}
	const agents = "daemonset/tailgate-agent"
	d.check(ctx, "kubectl rollout restart "+agents, slow, func(ctx context.Context) (string, error) {
		if _, err := d.Kubectl(ctx, "rollout", "restart", "-n", stage.Namespace, agents); err != nil {
			return "", err
		}
		_, err := d.Kubectl(ctx, "rollout", "status", "-n", stage.Namespace, agents, "--timeout=1m")
		return "both nodes have a new one", err
	})
	d.nothingLost(ctx, l, "meanwhile")
	return nil
}
