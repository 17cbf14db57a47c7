package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

const envPrefix = "TAILGATE_AGENT"

const intro = `tailgate-agent keeps the pods of one node that EgressGroups select linked to the node's gateways. It runs in the
node's own network namespace as root, with the capabilities NET_ADMIN and SYS_ADMIN, and sees these folders of the
node at the paths that they have there: the ones above the runtime's CNI folders and CNI cache, /run/netns (with
mount propagation) and /run/tailgate; and /proc/sys/net as /host/proc/sys/net.`

// settings are the command line.
type settings struct {
	options   daemon.Options
	logFormat string
	logLevel  slog.Level
	version   bool
}

func parse(args []string, getenv func(string) string) (settings, error) {
	var s settings
	o := &s.options
	var cidrs, nameservers, mode string
	fs := flag.NewFlagSet("tailgate-agent", flag.ContinueOnError)
	fs.SetOutput(os.Stdout)
	// Those that every manifest has, by their usual names.
	fs.StringVar(&o.Node, "node-name", getenv("NODE_NAME"), "`name` of the node; or $NODE_NAME. Needed")
	fs.StringVar(&o.Namespace, "namespace", cmp.Or(getenv("POD_NAMESPACE"), "tailgate-system"), "`namespace` of tailgate's own pods; or $POD_NAMESPACE")
	fs.StringVar(&cidrs, "cluster-cidrs", getenv("TAILGATE_CLUSTER_CIDRS"), "comma-separated `list` of the cluster's pod and service CIDRs, which stay on the pods' own interface;\nor $TAILGATE_CLUSTER_CIDRS. Empty: the nodes' pod CIDRs and the ServiceCIDRs. Nodes' addresses always stay there")
	fs.StringVar(&o.DaemonSet, "daemonset", getenv("DAEMONSET_NAME"), "`name` of the agent's own DaemonSet; or $DAEMONSET_NAME. When it is gone as the agent ends, the plugin is taken out; empty: it stays")
	fs.StringVar(&mode, "cni-mode", string(install.Chained), "`mode` of the CNI plugin. chained: binary and chain; binary: only the binary, for Multus; disabled: neither")
	fs.StringVar(&o.Install.BinDir, "cni-bin-dir", "/opt/cni/bin", "`folder` of the runtime's CNI plugins")
	fs.StringVar(&o.Install.ConfDir, "cni-conf-dir", "/etc/cni/net.d", "`folder` of the runtime's network configurations")
	fs.StringVar(&o.Install.Plugin, "cni-plugin", "/tailgate-cni", "`file` that is installed as the plugin")
	fs.BoolVar(&o.Install.KeepBinary, "cni-keep-binary", false, "leave the binary at an uninstall: CRI-O and Multus take a pod down by the configuration that it was started with")
	fs.DurationVar(&o.Install.Timeout, "cni-timeout", 5*time.Second, "how long the plugin waits for the agent, as a `duration` up to 1m")
	fs.StringVar(&o.Socket, "cni-socket", cnirpc.Socket, "`socket` at which the plugin asks, the same for agent and node")
	fs.StringVar(&o.Attachments.Dir, "cni-cache-dir", attachments.DefaultDir, "`folder` of the runtime's CNI result cache")
	fs.DurationVar(&o.JoinWait, "join-wait", 3*time.Second, "how long a member's start waits for its gateway, as a `duration` less than 30s; then it starts without, kept in")
	fs.DurationVar(&o.GatewayLinger, "gateway-linger", time.Minute, "how long a gateway stays after its last member on the node, as a `duration`")
	fs.StringVar(&nameservers, "resolvers", "", "comma-separated `list` of the cluster's resolvers, whose queries a group's magicDNS redirects; empty: those of "+resolvConf)
	fs.StringVar(&o.PublicAddr, "public-addr", ":9003", "`address` of /healthz, /readyz and /metrics; empty: none")
	fs.StringVar(&o.DebugAddr, "debug-addr", "127.0.0.1:9004", "`address` of the pages below /debug, on loopback; empty: none")
	fs.StringVar(&s.logFormat, "log-format", "text", "`format` of the log on stderr: text or json")
	fs.TextVar(&s.logLevel, "log-level", slog.LevelInfo, "least `level` that is logged: debug, info, warn, error")
	fs.BoolVar(&s.version, "version", false, "print the version and exit")
	fs.Usage = cli.Usage(fs, envPrefix, intro)
	if err := cli.Parse(fs, envPrefix, args, getenv); err != nil {
		return s, err
	}
	if s.version {
		return s, nil
	}
	s.logLevel = max(s.logLevel, slog.LevelDebug) // below it client-go logs what it sends and receives
	var errs [5]error
	o.ClusterCIDRs, errs[0] = list("--cluster-cidrs", cidrs, "10.244.0.0/16,10.96.0.0/12", netip.ParsePrefix)
	o.Resolvers, errs[1] = list("--resolvers", nameservers, "10.96.0.10", netip.ParseAddr)
	o.Install.Mode, errs[2] = install.ParseMode(mode)
	o.Install.Socket = o.Socket
	errs[3] = s.check()
	return s, errors.Join(errs[:]...)
}

// check says in a sentence each what is wrong.
func (s settings) check() error {
	var wrong cli.Refusals
	refuse := wrong.If
	o := s.options
	refuse(o.Node == "", "the node's name is not given; set --node-name or NODE_NAME, from spec.nodeName of the pod")
	refuse(o.Install.Timeout <= 0 || o.Install.Timeout > time.Minute, "--cni-timeout %v is not between 0 and 1m; write one such as 5s", o.Install.Timeout)
	refuse(o.JoinWait <= 0 || o.JoinWait >= cnirpc.MemberTimeout, "--join-wait %v is not between 0 and %v; write one such as 3s", o.JoinWait, cnirpc.MemberTimeout)
	refuse(o.GatewayLinger < 0, "--gateway-linger %v is no time to wait; write one such as 1m, or 0s", o.GatewayLinger)
	return errors.Join(wrong...)
}

// list returns the values of a comma-separated list.
func list[T any](flag, text, example string, parse func(string) (T, error)) ([]T, error) {
	var all []T
	for word := range strings.SplitSeq(text, ",") {
		if word = strings.TrimSpace(word); word == "" {
			continue
		}
		v, err := parse(word)
		if err != nil {
			return nil, fmt.Errorf("%s: %w; write values such as %s", flag, err, example)
		}
		all = append(all, v)
	}
	return all, nil
}
