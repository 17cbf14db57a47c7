//go:build linux

package rig

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/topology"
)

const (
	// churnNamespaces take turns at being new pods.
	churnNamespaces = 100
	// churnAtOnce is how many an agent joins side by side.
	churnAtOnce = 16
)

// Churned is what [Gateway.Churn] measured: the times of all joins and of all leaves.
type Churned struct {
	Join, Leave time.Duration
}

// Churn joins that many members to the gateway and takes them out again, a hundred at a time, and fails when
// anything is left behind in the gateway or in a member.
func (g *Gateway) Churn(ctx context.Context, members int, spec joiner.Spec) (took Churned, err error) {
	before, err := observe(g.Handle(), everything)
	if err != nil {
		return took, err
	}
	pods := make([]*netns.Handle, min(churnNamespaces, members))
	for i := range pods {
		if pods[i], err = netns.NewAnonymous(); err != nil {
			return took, err
		}
		defer pods[i].Close()
	}
	for done := 0; done < members; done += len(pods) {
		batch := pods[:min(len(pods), members-done)]
		start := time.Now()
		err := each(ctx, batch, func(i int, pod *netns.Handle) error {
			s := spec
			s.ID = fmt.Sprintf("churn-%d", done+i)
			_, err := joiner.Join(pod, g.Target, s)
			return err
		})
		took.Join += time.Since(start)
		start = time.Now()
		err = errors.Join(err, each(ctx, batch, func(_ int, pod *netns.Handle) error { return joiner.Leave(pod) }))
		took.Leave += time.Since(start)
		if err != nil {
			return took, err
		}
	}
	for _, pod := range pods {
		left, err := observe(pod, topology.MemberScope())
		if err != nil {
			return took, err
		}
		if len(left.Links)+len(left.Routes)+len(left.Rules) > 0 {
			return took, fmt.Errorf("left behind in a member:\n%v", left)
		}
	}
	after, err := observe(g.Handle(), everything)
	if err == nil && !cmp.Equal(before.String(), after.String()) {
		err = fmt.Errorf("left behind in %s (-before +after):\n%s", g.Name, cmp.Diff(before.String(), after.String()))
	}
	return took, err
}

// everything of ours in a gateway.
var everything = netstate.Scope{
	Links:     []string{"lo", ident.GatewayLinkPrefix + "*"},
	Tables:    []int{ident.TableMain, ident.TableMember, ident.TableGateway},
	RuleFirst: ident.RuleFirst, RuleLast: ident.RuleLast,
}

func each(ctx context.Context, pods []*netns.Handle, do func(int, *netns.Handle) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(churnAtOnce)
	for i, pod := range pods {
		g.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return do(i, pod)
		})
	}
	return g.Wait()
}

func observe(ns *netns.Handle, scope netstate.Scope) (netstate.State, error) {
	k, err := kernel.Open(ns, kernel.Options{})
	if err != nil {
		return netstate.State{}, err
	}
	defer k.Close()
	return k.Observe(scope)
}
