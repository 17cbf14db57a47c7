package daemon

import (
	"cmp"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
	"github.com/rajsinghtech/tailgate/internal/ident"
)

// FieldManager is the name under which agents write (server-side apply).
const FieldManager = "tailgate-agent"

// Options are the settings of a [Daemon].
type Options struct {
	// Config reaches the API server. Needed.
	Config *rest.Config
	// Node is the name of the node, Namespace the one that tailgate runs in. Both are needed.
	Node, Namespace string
	// DaemonSet is the name of the agent's own: when it is gone as the agent ends, the plugin is taken out. "": it is
	// left in.
	DaemonSet string
	// ClusterCIDRs stay on the pods' own interface, with the nodes' addresses. None: they are found, from the nodes' pod CIDRs
	// and the ServiceCIDRs.
	ClusterCIDRs []netip.Prefix
	// Resolvers are the cluster's: members' queries to them are those that a group with MagicDNS redirects.
	Resolvers []netip.Addr
	// Install says how the plugin is put into the node. The daemon sets OnChange and Logger.
	Install install.Options
	// Socket is where the plugin asks; "": [cnirpc.Socket].
	Socket string
	// Attachments says where the runtime's cache is. The daemon sets OnChange and Logger.
	Attachments attachments.Options
	// GatewayFolders has the gateways' sockets; "": [ident.GatewayFolders].
	GatewayFolders string
	// JoinWait is how long an ADD waits for a member's gateway. 0: 3 seconds.
	JoinWait time.Duration
	// GatewayLinger is how long a gateway stays when its last member on the node has gone, so that a rollout or a CronJob
	// does not cost a device each time. 0: it goes at once.
	GatewayLinger time.Duration
	// PublicAddr serves /healthz, /readyz and /metrics, DebugAddr the pages below /debug; "": nobody does.
	PublicAddr, DebugAddr string
	// Registry gets the metrics; nil: one of its own.
	Registry *prometheus.Registry
	// Version is the build's.
	Version string
	// Logger; nil: slog.Default().
	Logger *slog.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Config == nil || o.Node == "" || o.Namespace == "" {
		return o, errors.New("start agent: the API server's address, the node's name and tailgate's namespace are needed")
	}
	o.Socket = cmp.Or(o.Socket, cnirpc.Socket)
	o.GatewayFolders = cmp.Or(o.GatewayFolders, ident.GatewayFolders)
	o.JoinWait = cmp.Or(o.JoinWait, 3*time.Second)
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o, nil
}
