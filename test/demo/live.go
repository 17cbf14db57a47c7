//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/test/demo/report"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

func (d *demo) live(ctx context.Context) error {
	before, err := d.gatewaysNow(ctx)
	if err != nil {
		return err
	}
	logged, err := d.logs()
	if err != nil {
		return err
	}
	l, err := rig.StartLoad(ctx, d.member.Host, d.Rig.Nodes[rig.Plain])
	if err != nil {
		l.Stop()
		return err
	}
	for _, e := range d.edits() {
		d.edit(ctx, e)
	}
	d.nothingLost(ctx, l, "over all these changes")
	d.check(ctx, "every 2 s a ping of each member meanwhile", quick, func(context.Context) (string, error) {
		return d.membersLost(logged)
	})
	d.check(ctx, "the gateways are the same", quick, func(ctx context.Context) (string, error) {
		return "pods, processes and node keys", d.sameGateways(ctx, before)
	})
	d.relabel(ctx)
	return nil
}

// edit is a patch of a group, and what must come of it.
type edit struct {
	group, patch, effect string
	is                   func(context.Context) error
}

func (d *demo) edits() []edit {
	n, m := d.Rig.Nodes, d.member.Host
	name := n[rig.Plain].Name + "." + d.Rig.Tailnet.Domain()
	route := netip.MustParsePrefix("192.168.0.0/16")
	exit := func(node *rig.Node) func(context.Context) error {
		return func(ctx context.Context) error {
			return errors.Join(d.seenFrom(ctx, m, 4, node.Host), d.seenFrom(ctx, m, 6, node.Host))
		}
	}
	return []edit{
		{payments, `{"spec":{"routes":["10.0.0.0/8","192.168.0.0/16"]}}`, "members send it to the gateway", func(context.Context) error {
			if !rig.HasRoute(m, route, ident.MemberLink) {
				return fmt.Errorf("%s has no route %v by %s", m.Name, route, ident.MemberLink)
			}
			return nil
		}},
		{
			payments, `{"spec":{"exitNode":{"nodeID":"exit-ams1.your-org.ts.net","allowLANAccess":true}}}`,
			"the internet sees exit-ams1", exit(n[rig.ExitB]),
		},
		{payments, `{"spec":{"acceptRoutes":false}}`, "the host behind the subnet router is not reached", func(ctx context.Context) error {
			return notReached(ctx, m, d.Rig.Backend.V4)
		}},
		{payments, `{"spec":{"acceptRoutes":true}}`, "and is reached again", func(ctx context.Context) error {
			return rig.Echo(ctx, m, "tcp", d.Rig.Backend.V4)
		}},
		{
			payments, `{"spec":{"exitNode":{"nodeID":"exit-fra1.your-org.ts.net","allowLANAccess":true}}}`,
			"the internet sees exit-fra1 again", exit(n[rig.ExitA]),
		},
		{peers, `{"spec":{"dns":{"magicDNS":true}}}`, "in its members " + name + " resolves", func(ctx context.Context) error {
			out, err := d.exec(ctx, d.other, "lookup", "-type", "a", "-timeout", "1s", name)
			if err == nil && out != n[rig.Plain].Tail4.String() {
				err = fmt.Errorf("%s is %q", name, out)
			}
			return err
		}},
	}
}

// edit makes one, and waits for what comes of it.
func (d *demo) edit(ctx context.Context, e edit) {
	d.check(ctx, fmt.Sprintf("kubectl patch eg %s -p '%s'", e.group, e.patch), slow, func(ctx context.Context) (string, error) {
		if _, err := d.Kubectl(ctx, "patch", "eg", e.group, "--type=merge", "-p", e.patch); err != nil {
			return "", err
		}
		patched := time.Now()
		err := rig.Retry(ctx, func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return e.is(ctx)
		})
		return fmt.Sprintf("%s, %s later", e.effect, report.Short(since(patched))), err
	})
}

// nothingLost ends a load, and wants that it noticed nothing.
func (d *demo) nothingLost(ctx context.Context, l *rig.Load, when string) {
	pings, stream := l.Stop()
	families(func(f int) {
		d.check(ctx, fmt.Sprintf("100 pings a second by IPv%d %s", f, when), quick, func(context.Context) (string, error) {
			if p := pings[f]; p.Lost > 0 {
				return "", fmt.Errorf("%d lost: %v", p.Lost, p)
			}
			return pings[f].String(), nil
		})
	})
	d.check(ctx, "a TCP stream "+when, quick, func(context.Context) (string, error) {
		if stream.Lost() > 0 {
			return "", fmt.Errorf("segments were lost: %v", stream)
		}
		return stream.String(), stream.Err
	})
}

// membersLost wants that no member has lost a ping since before.
func (d *demo) membersLost(before map[string]*pinged) (string, error) {
	after, err := d.logs()
	if err != nil {
		return "", err
	}
	sent, lost := 0, 0
	for name, p := range after {
		b := before[name]
		if b == nil {
			return "", fmt.Errorf("pod %s is new", name)
		}
		sent, lost = sent+p.sent-b.sent, lost+p.lost-b.lost
	}
	if lost > 0 || len(after) != d.s.members {
		return "", fmt.Errorf("of %d pings of %d members %d were lost", sent, len(after), lost)
	}
	return fmt.Sprintf("%d pings of %d members, none lost", sent, len(after)), nil
}

// gatewayNow is what must not change of a gateway.
type gatewayNow struct {
	uid, key string
	restarts int32
}

// gatewaysNow returns the gateways of both groups by the name of their device.
func (d *demo) gatewaysNow(ctx context.Context) (map[string]gatewayNow, error) {
	now := map[string]gatewayNow{}
	for _, group := range []string{payments, peers} {
		pods, err := d.gatewayPods(ctx, group)
		if err != nil {
			return nil, err
		}
		for node, p := range pods {
			device, ok := d.Rig.Tailnet.Node(group + "-" + node)
			if !ok {
				return nil, fmt.Errorf("there is no device of %s on %s", group, node)
			}
			now[device.Name] = gatewayNow{uid: string(p.UID), restarts: restarts(p), key: device.NodeKey.String()}
		}
	}
	return now, nil
}

func (d *demo) sameGateways(ctx context.Context, before map[string]gatewayNow) error {
	after, err := d.gatewaysNow(ctx)
	if err != nil {
		return err
	}
	for name, b := range before {
		if after[name] != b {
			return fmt.Errorf("%s was %+v and is %+v", name, b, after[name])
		}
	}
	return nil
}

// relabel: pods leave and join by their label, while they run.
func (d *demo) relabel(ctx context.Context) {
	n, f := d.Rig.Nodes, 4
	in := func(p *pod, as *world.Host) func(context.Context) error {
		return func(ctx context.Context) error {
			return errors.Join(rig.Echo(ctx, p.Host, "tcp", n[rig.Plain].Tail4), d.seenFrom(ctx, p.Host, f, as))
		}
	}
	out := func(p *pod) func(context.Context) error {
		return func(ctx context.Context) error {
			if rig.HasLink(p.Host, ident.MemberLink) {
				return fmt.Errorf("%s still has its link", p.Host.Name)
			}
			return d.seenFrom(ctx, p.Host, f, p.Host)
		}
	}
	for _, t := range []struct {
		pod   *pod
		label string
		what  string
		is    func(context.Context) error
	}{
		{d.member, "", "a member loses its label: it is an ordinary pod", out(d.member)},
		{d.member, "true", "and gets it back: it is a member", in(d.member, n[rig.ExitA].Host)},
		{d.outsider, "true", "a pod that never was one gets the label: it is a member", in(d.outsider, n[rig.ExitA].Host)},
		{d.outsider, "", "and loses it: it is an ordinary pod", out(d.outsider)},
	} {
		d.check(ctx, t.what, quick, func(ctx context.Context) (string, error) {
			if err := d.label(ctx, t.pod, t.label); err != nil {
				return "", err
			}
			labelled := time.Now()
			// A connection that begins in between is lost, and would be tried again after a second only.
			err := rig.Retry(ctx, func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				return t.is(ctx)
			})
			took := time.Since(labelled)
			if err == nil && took > time.Second {
				err = errors.New("more than a second")
			}
			return fmt.Sprintf("%s later, and the pod is the same", report.Short(took)), errors.Join(err, d.samePod(ctx, t.pod))
		})
	}
}

// label sets or removes the label that groups select, and returns when the API server has it.
func (d *demo) label(ctx context.Context, p *pod, value string) error {
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%q}}}`, egress, value)
	if value == "" {
		patch = fmt.Sprintf(`{"metadata":{"labels":{%q:null}}}`, egress)
	}
	return d.Client.Patch(ctx, p.Pod.DeepCopy(), client.RawPatch(types.MergePatchType, []byte(patch)))
}

// samePod wants that the pod's containers were not started again.
func (d *demo) samePod(ctx context.Context, p *pod) error {
	var now corev1.Pod
	if err := d.Client.Get(ctx, client.ObjectKeyFromObject(&p.Pod), &now); err != nil {
		return err
	}
	if now.UID != p.UID || restarts(now) != restarts(p.Pod) {
		return fmt.Errorf("%s is another pod, or was started again %d times", p.Pod.Name, restarts(now))
	}
	return nil
}
