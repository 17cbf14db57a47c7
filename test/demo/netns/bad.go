//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"tailscale.com/ipn"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
)

// fault is a configuration that must not be put into force.
type fault struct {
	what  string
	write func() error
	// reason is the label of the metric; words must be in the sentence.
	reason string
	words  []string
}

func (d *demo) faults() ([]fault, error) {
	good, err := json.Marshal(ipn.ConfigVAlpha{Version: "alpha0", Hostname: new("gateway"), ExitNode: new(string(rig.ExitB))})
	if err != nil {
		return nil, err
	}
	raw := func(s string) func() error {
		return func() error {
			_, err := d.gw.WriteRawConfig([]byte(s))
			return err
		}
	}
	return []fault{
		{"truncated JSON", raw(string(good[:len(good)/2])), "syntax", []string{"line 1"}},
		{"unknown version", raw(`{"Version": "beta7"}`), "version", []string{"beta7", "alpha0"}},
		{"unknown key", raw(`{"Version": "alpha0", "acceptRoute": false}`), "unknown_key", []string{"acceptRoute", "acceptRoutes"}},
		{"bad CIDR", raw(`{"Version": "alpha0", "AdvertiseRoutes": ["10.0.0.0/33"]}`), "invalid_value", []string{"AdvertiseRoutes", "10.0.0.0/33"}},
		{"bad endpoint", raw(`{"Version": "alpha0", "StaticEndpoints": ["198.51.100.1"]}`), "invalid_value", []string{"StaticEndpoints", "198.51.100.1"}},
		{"a folder in the file's place", d.gw.WriteUnreadableConfig, "unreadable", []string{"is a directory"}},
	}, nil
}

func (d *demo) bad(ctx context.Context) error {
	faults, err := d.faults()
	if err != nil {
		return err
	}
	good, err := d.gw.Snapshot(ctx)
	if err != nil {
		return err
	}
	for _, f := range faults {
		d.faulty(ctx, f, good)
	}
	d.check(ctx, line{"member", "peer", "TCP", 4, "the last good configuration is in force"}, quick, func(ctx context.Context) (string, error) {
		return "and the exit node is used", errors.Join(rig.Echo(ctx, d.member.Host, "tcp", d.rig.Nodes[rig.Plain].Tail4),
			d.seenFrom(ctx, d.exitMember.Host, 4, d.rig.Nodes[rig.ExitA].Host))
	})
	d.check(ctx, line{"demo", "gateway", "file", 0, "a good file again"}, quick, func(ctx context.Context) (string, error) {
		_, took, err := d.gw.Apply(ctx, func() (string, error) { return d.gw.WriteConfig(useExit(string(rig.ExitA))) })
		return fmt.Sprintf("applied %v after the file changed", short(took)), err
	})
	d.unknownExit(ctx)
	return errors.Join(d.badKeys(ctx), d.badState(ctx))
}

// faulty writes one and looks for its sentence everywhere.
func (d *demo) faulty(ctx context.Context, f fault, good snapshot.Snapshot) {
	d.check(ctx, line{"demo", "gateway", "file", 0, f.what}, quick, func(ctx context.Context) (string, error) {
		mark := d.gw.LogEnd()
		before, err := d.gw.Metrics(ctx)
		if err != nil {
			return "", err
		}
		if err := f.write(); err != nil {
			return "", err
		}
		s, err := d.gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return hasAll(s.Config.Error, f.words) })
		if err != nil {
			return "", err
		}
		if s.Config.Hash != good.Config.Hash || s.NodeKey != good.NodeKey || !s.Ready {
			return "", fmt.Errorf("the configuration in force was %+v and is %+v", good.Config, s.Config)
		}
		if _, err := d.gw.WaitLog(ctx, mark, append(f.words, "level=ERROR")...); err != nil {
			return "", err
		}
		if _, err := d.gw.WaitPage(ctx, "/debug/config.json", f.words...); err != nil {
			return "", err
		}
		after, err := d.gw.Metrics(ctx)
		if err != nil {
			return "", err
		}
		const name = "tailgate_gateway_config_errors_total"
		label := fmt.Sprintf("reason=%q", f.reason)
		if a, b := before.Sum(name, label), after.Sum(name, label); b <= a {
			return "", fmt.Errorf("%s{%s} was %v and is %v", name, label, a, b)
		}
		return strings.ReplaceAll(s.Config.Error, d.gw.ConfigFile(), "config.json"), nil
	})
}

func hasAll(text string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(text, w) {
			return false
		}
	}
	return true
}

// unknownExit: an exit node that does not exist lets nothing out.
func (d *demo) unknownExit(ctx context.Context) {
	const name = "no-such-exit"
	mark := d.gw.LogEnd()
	d.check(ctx, line{"demo", "gateway", "file", 0, "an exit node that does not exist"}, quick, func(ctx context.Context) (string, error) {
		if _, err := d.gw.WriteConfig(useExit(name)); err != nil {
			return "", err
		}
		s, err := d.gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
			return strings.Contains(s.ExitNode.Message, name) && s.ExitNode.ID == ""
		})
		if err != nil {
			return "", err
		}
		if _, err := d.gw.WaitLog(ctx, mark, name, "level=WARN"); err != nil {
			return "", err
		}
		if _, err := d.gw.WaitPage(ctx, "/debug/snapshot", name); err != nil {
			return "", err
		}
		m, err := d.gw.Metrics(ctx)
		if err == nil && m.Sum("tailgate_gateway_exit_node_in_use") != 0 {
			err = errors.New("tailgate_gateway_exit_node_in_use is not 0")
		}
		return s.ExitNode.Message, err
	})
	families(func(f int) {
		d.check(ctx, line{"exit-member", "internet", "ICMP,UDP", f, "lets nothing out"}, quick, func(ctx context.Context) (string, error) {
			in, cluster := underlay(d.rig.Internet, f), underlay(d.rig.Cluster, f)
			return packets(ctx, func(ctx context.Context) error { return sprays(ctx, d.exitMember.Host, in) },
				watched{host: d.gw.Host, link: d.exitMember.GatewayLink(), keep: toAddr(in), seen: true},
				watched{host: d.gw.Host, link: "eth0", keep: toAddr(in), to: cluster},
				watched{host: d.exitMember.Host, link: "eth0", keep: toAddr(in), to: cluster},
				watched{host: d.rig.Internet, link: "eth0", keep: toAddr(in), from: d.rig.Cluster, to: in})
		})
	})
	d.check(ctx, line{"member", "peer", "TCP", 4, "and the tailnet is reached as before"}, quick, func(ctx context.Context) (string, error) {
		return "", rig.Echo(ctx, d.member.Host, "tcp", d.rig.Nodes[rig.Plain].Tail4)
	})
}

// badKeys starts a second gateway with keys that the tailnet refuses.
func (d *demo) badKeys(ctx context.Context) error {
	tn := d.rig.Tailnet
	expired := tn.CreateKey(tailnet.KeyOptions{Reusable: true, Tags: []string{rig.Tag}, Expiry: -time.Minute})
	revoked := tn.CreateKey(tailnet.KeyOptions{Reusable: true, Tags: []string{rig.Tag}})
	tn.RevokeKey(revoked.ID)
	gw, err := d.rig.AddGateway(ctx, rig.GatewayOptions{Name: "gateway-2", AuthKey: expired.Secret})
	if err != nil {
		return err
	}
	d.check(ctx, line{"gateway-2", "control", "-", 0, "expired auth key"}, quick, func(ctx context.Context) (string, error) {
		mark := gw.LogEnd()
		if err := gw.Start(ctx); err != nil {
			return "", err
		}
		return d.keyRefused(ctx, gw, mark)
	})
	d.check(ctx, line{"gateway-2", "control", "-", 0, "revoked auth key"}, quick, func(ctx context.Context) (string, error) {
		mark := gw.LogEnd()
		if err := gw.SetAuthKey(revoked.Secret); err != nil {
			return "", err
		}
		return d.keyRefused(ctx, gw, mark)
	})
	d.check(ctx, line{"gateway-2", "control", "-", 0, "a good key in its place: it logs in by itself"}, quick, func(ctx context.Context) (string, error) {
		if err := gw.SetAuthKey(tn.CreateKey(tailnet.KeyOptions{Tags: []string{rig.Tag}}).Secret); err != nil {
			return "", err
		}
		_, err := gw.WaitReady(ctx)
		return "", errors.Join(err, gw.Stop())
	})
	return gw.Kill()
}

// keyRefused looks for the refusal that was logged after the mark.
func (d *demo) keyRefused(ctx context.Context, gw *rig.Gateway, mark rig.LogMark) (string, error) {
	const words = "refused the auth key"
	if _, err := gw.WaitLog(ctx, mark, "level=ERROR", "invalid key"); err != nil {
		return "", err
	}
	s, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool {
		return s.AuthKeyRefused && hasAll(strings.Join(s.Problems, "\n"), []string{words})
	})
	if err != nil {
		return "", err
	}
	if _, err := gw.WaitPage(ctx, "/debug/snapshot", words); err != nil {
		return "", err
	}
	m, err := gw.Metrics(ctx)
	if err == nil && m.Sum("tailgate_gateway_auth_key_refused") != 1 {
		err = errors.New("tailgate_gateway_auth_key_refused is not 1")
	}
	return s.Problems[0], err
}

// badState starts a gateway whose state folder cannot be written, and then mends that.
func (d *demo) badState(ctx context.Context) error {
	dir, unlock, err := d.rig.ReadOnlyDir()
	if err != nil {
		return err
	}
	gw, err := d.rig.AddGateway(ctx, rig.GatewayOptions{Name: "gateway-3", StateDir: dir})
	if err != nil {
		return err
	}
	d.check(ctx, line{"gateway-3", "disk", "-", 0, "a state folder that cannot be written"}, quick, func(ctx context.Context) (string, error) {
		if err := gw.Start(ctx); err != nil {
			return "", err
		}
		s, err := gw.WaitSnapshot(ctx, func(s snapshot.Snapshot) bool { return len(s.Problems) > 0 })
		if err != nil {
			return "", err
		}
		if _, err := gw.WaitLog(ctx, 0, "level=ERROR", "state folder", "read-only"); err != nil {
			return "", err
		}
		if _, err := gw.WaitPage(ctx, "/debug/snapshot", "state folder"); err != nil {
			return "", err
		}
		m, err := gw.Metrics(ctx)
		if err == nil && (m.Sum("tailgate_gateway_ready") != 0 || m.Sum("tailgate_gateway_problems") == 0) {
			err = errors.New("tailgate_gateway_ready is not 0, or tailgate_gateway_problems is")
		}
		return strings.ReplaceAll(s.Problems[0], dir, "DIR"), err
	})
	d.check(ctx, line{"gateway-3", "disk", "-", 0, "the folder made writable: it starts by itself"}, quick, func(ctx context.Context) (string, error) {
		if err := unlock(); err != nil {
			return "", err
		}
		_, err := gw.WaitReady(ctx)
		return "", errors.Join(err, gw.Stop())
	})
	return gw.Kill()
}
