package main

import (
	"cmp"
	"errors"
	"flag"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

const envPrefix = "TAILGATE_OPERATOR"

// credentialsSecret is the Secret that users make at install.
const credentialsSecret = "tailgate-tailnet-creds"

const intro = `tailgate-operator makes gateways of EgressGroups (kubectl explain eg). For each it mints a tagged auth
key, renders the gateways' configuration, runs a gateway on every node that has members, and
deletes the gateways' devices from the tailnet when the group or a node goes.

It needs a Secret ` + credentialsSecret + ` in its namespace, with an OAuth client of the tailnet
(scopes auth_keys and devices:core, and a tag that owns the gateways' tags); it is read again when it changes:

  kubectl -n tailgate-system create secret generic ` + credentialsSecret + ` \
    --from-literal=` + tailnet.KeyTailnet + `=- \
    --from-literal=` + tailnet.KeyClientID + `=… --from-literal=` + tailnet.KeyClientSecret + `=…

Two may run: one works, the other waits. Gateways go on without either.`

// settings are the command line.
type settings struct {
	options                 controller.Options
	apiURL                  string
	metricsAddr, healthAddr string
	leaderElect             bool
	logFormat               string
	logLevel                slog.Level
	version                 bool
}

// The longest that Tailscale makes auth keys, and the shortest that kubelets and a tailnet that is slow
// leave time to renew.
const (
	longestKey  = 90 * 24 * time.Hour
	shortestKey = time.Hour
)

func parse(args []string, getenv func(string) string) (settings, error) {
	var s settings
	o := &s.options
	var pullPolicy, pullSecrets string
	fs := flag.NewFlagSet("tailgate-operator", flag.ContinueOnError)
	fs.SetOutput(os.Stdout)
	// Two that every manifest has, by their usual names.
	fs.StringVar(&o.Render.Namespace, "namespace", cmp.Or(getenv("POD_NAMESPACE"), "tailgate-system"), "`namespace` of the operator, the credentials and the gateways; or $POD_NAMESPACE")
	fs.StringVar(&o.Render.Image, "gateway-image", getenv("GW_IMAGE"), "`image` of the gateways; or $GW_IMAGE. Needed")
	fs.StringVar(&s.apiURL, "tailnet-api-url", tailnet.DefaultBaseURL, "`URL` of the tailnet's API")
	fs.StringVar(&o.Render.LoginServer, "login-server", "", "`URL` of the control plane that gateways log in to; empty: Tailscale's")
	fs.DurationVar(&o.KeyLifetime, "auth-key-lifetime", 24*time.Hour, "how long an auth key lasts, as a `duration` from 1h to 2160h; it is renewed at half of that")
	fs.DurationVar(&o.CleanupTimeout, "cleanup-timeout", time.Hour, "how long a deletion waits for a tailnet API or a node that does not answer, as a `duration`;\nafter it, an event says which device is left to delete by hand")
	fs.StringVar(&o.Render.PriorityClass, "gateway-priority-class", "system-node-critical", "priority `class` of gateway pods; empty: the cluster's default")
	fs.StringVar(&pullPolicy, "gateway-pull-policy", "", "when nodes pull the gateway image, a `policy` of Always, IfNotPresent or Never; empty: Kubernetes' default for its tag")
	fs.StringVar(&pullSecrets, "gateway-pull-secrets", "", "comma-separated `list` of Secrets in the namespace to pull the gateway image with")
	fs.IntVar(&o.Workers, "workers", 4, "how many groups, gateways and nodes are worked on at a time, a `number` each")
	fs.StringVar(&s.metricsAddr, "metrics-addr", ":8080", "`address` of /metrics; empty: none")
	fs.StringVar(&s.healthAddr, "health-addr", ":8081", "`address` of /healthz and /readyz; empty: none")
	fs.BoolVar(&s.leaderElect, "leader-elect", true, "work only while holding the Lease "+controller.LeaseName+" of the namespace, so that several operators may run")
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
	// Below debug, client-go logs what it sends and receives, Secrets included.
	s.logLevel = max(s.logLevel, slog.LevelDebug)
	o.CredentialsSecret = credentialsSecret
	o.Render.PullPolicy = corev1.PullPolicy(pullPolicy)
	for name := range strings.SplitSeq(pullSecrets, ",") {
		if name = strings.TrimSpace(name); name != "" {
			o.Render.PullSecrets = append(o.Render.PullSecrets, name)
		}
	}
	return s, s.check()
}

// check says in a sentence each what is wrong.
func (s settings) check() error {
	var wrong cli.Refusals
	refuse := wrong.If
	o := s.options
	refuse(o.Render.Image == "", "no gateway image is given; set --gateway-image or GW_IMAGE, as in ghcr.io/your-org/tailgate-gateway:v1.2.3")
	refuse(!webURL(s.apiURL), "--tailnet-api-url %q is no http or https URL; write one such as %s", s.apiURL, tailnet.DefaultBaseURL)
	refuse(o.Render.LoginServer != "" && !webURL(o.Render.LoginServer), "--login-server %q is no http or https URL; write one such as https://controlplane.tailscale.com, or nothing", o.Render.LoginServer)
	refuse(o.KeyLifetime < shortestKey || o.KeyLifetime > longestKey, "--auth-key-lifetime %v is not between %v and %v (90 days); write one such as 24h", o.KeyLifetime, shortestKey, longestKey)
	refuse(o.CleanupTimeout <= 0, "--cleanup-timeout %v is no time to wait; write one such as 1h", o.CleanupTimeout)
	refuse(o.Workers < 1 || o.Workers > 100, "--workers %d is not between 1 and 100; write one such as 4", o.Workers)
	refuse(!slices.Contains([]corev1.PullPolicy{"", corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}, o.Render.PullPolicy),
		"--gateway-pull-policy %q is not known; write Always, IfNotPresent, Never, or nothing", o.Render.PullPolicy)
	return errors.Join(wrong...)
}

func webURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}
