//go:build linux

package stage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/deploy/helm"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet"
	"github.com/rajsinghtech/tailgate/test/tailnet/org"
)

// Where tailgate is, as the README installs it.
const (
	Namespace = "tailgate-system"
	Release   = "tailgate-operator"
	// Domain is the tailnet's, as in the manifests of deploy/examples.
	Domain = "your-org.ts.net"
)

// Options say what a stage has.
type Options struct {
	// Name is the lab's, and part of that of a tailnet in an organization. "": "stage".
	Name string
	// Family is the cluster's; CNI and Nodes are the lab's.
	Family lab.Family
	CNI    lab.CNI
	Nodes  int
	// Kind is to use the cluster of package kind instead of a lab: the one that is up, or one that lives as long as the stage.
	Kind bool
	// KindImage is what nodes of the latter are made of. "": what kind takes.
	KindImage string
	// Namespaces are made beside tailgate's.
	Namespaces []string
	// Roles are the hermetic tailnet's nodes; nil: all.
	Roles []rig.Role
	// Org is where to make a tailnet for the stage instead of a hermetic one, with nodes in this process. It needs a cluster that
	// reaches it, which a lab does not.
	Org *org.Options
	// Tags are those that the operator's OAuth client owns.
	Tags []string
	// Values are given to Helm beside what leads to the tailnet, as KEY=VALUE.
	Values []string
	// Out receives progress; nil: nobody.
	Out io.Writer
	// Brief leaves out of it what the lab says of its own start.
	Brief bool
}

// Stage is a cluster with tailgate on it and a tailnet beside it.
type Stage struct {
	// Cluster is the Kubernetes cluster; Lab is the same, nil when it is kind's.
	Cluster Cluster
	Lab     *lab.Lab
	// Plan is who has which address in the cluster.
	Plan *lab.Plan
	// Rig has the hermetic tailnet, its nodes and what is behind them; nil with another.
	Rig *rig.Rig
	// Org is the organization's tailnet and its nodes, nil without.
	Org *org.Scene
	// Config and Client reach the API server as its administrator, without a cache.
	Config *rest.Config
	Client client.WithWatch
	// OAuth is the operator's credential.
	OAuth tailnet.OAuthClient
	// Conflists are the nodes' network configurations from before tailgate, by the name of the node.
	Conflists map[string][]byte

	o    Options
	root string
	helm *helm.Tool
}

// Up makes a stage. Programs that call it call peer.MaybeRun first of all.
func Up(ctx context.Context, o Options) (_ *Stage, err error) {
	if o.Name == "" {
		o.Name = "stage"
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	s := &Stage{o: o}
	if s.root, err = moduleRoot(); err != nil {
		return nil, err
	}
	if o.Org != nil && !o.Kind {
		return nil, errors.New("a tailnet of a Tailscale organization needs a cluster that reaches the internet, which a lab does not: use --cluster=kind, " +
			"or unset TS_ORG_OAUTH_CLIENT_ID and TS_ORG_OAUTH_CLIENT_SECRET for a hermetic tailnet")
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Down(context.WithoutCancel(ctx)))
		}
	}()
	began := time.Now()
	said := func(what string) { fmt.Fprintf(o.Out, "%6.1f s  %s\n", time.Since(began).Seconds(), what) }
	var archives []string
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.startCluster(ctx) }) // what is started lives as long as ctx
	g.Go(func() error { return s.startTailnet(gctx) })
	g.Go(func() (err error) { // a compiler's work, while the others wait most of the time
		if archives, err = s.images(gctx); err == nil {
			s.helm, err = helm.Build(gctx, s.root)
		}
		return err
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if s.Rig != nil {
		if err := s.Cluster.Attach(ctx, s.Rig.World); err != nil {
			return nil, err
		}
	}
	said("cluster and tailnet are up, images built")
	if err := s.Cluster.Load(ctx, archives...); err != nil {
		return nil, err
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	if err := s.install(ctx); err != nil {
		return nil, err
	}
	said("tailgate installed")
	return s, nil
}

func (s *Stage) startCluster(ctx context.Context) error {
	if s.o.Kind {
		c, err := startKind(ctx, s.root, s.o)
		if c != nil {
			s.Cluster, s.Plan = c, &c.plan
		}
		return err
	}
	out := s.o.Out
	if s.o.Brief {
		out = nil
	}
	l, err := lab.Up(ctx, lab.Options{Name: s.o.Name, Family: s.o.Family, CNI: s.o.CNI, Nodes: s.o.Nodes, Out: out})
	if err != nil {
		return err
	}
	s.Lab, s.Cluster, s.Plan = l, labCluster{l}, &l.Plan
	return nil
}

func (s *Stage) startTailnet(ctx context.Context) (err error) {
	if s.o.Org != nil {
		if s.Org, err = org.Open(ctx, *s.o.Org, "tailgate "+s.o.Name, s.o.Tags); err != nil {
			return err
		}
		s.OAuth = tailnet.OAuthClient{ID: s.Org.OperatorID, Secret: s.Org.OperatorSecret}
		return nil
	}
	s.Rig, err = rig.New(ctx, rig.Options{
		Prefix: "tg" + s.o.Name, Roles: s.o.Roles, Domain: Domain, ControlV6: s.o.Family == lab.V6,
	})
	if err != nil {
		return fmt.Errorf("start tailnet: %w", err)
	}
	s.OAuth = s.Rig.Tailnet.CreateOAuthClient(tailnet.OAuthOptions{
		Scopes: []string{"auth_keys", "devices:core"}, Tags: []string{"tag:tailgate"}, Owns: s.o.Tags,
	})
	return nil
}

// connect makes the clients.
func (s *Stage) connect() (err error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme, apiextensionsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if s.Config, err = s.Cluster.Config(); err != nil {
		return err
	}
	s.Client, err = client.NewWithWatch(s.Config, client.Options{Scheme: scheme})
	return err
}

// images makes the images as users do, and returns the archives.
func (s *Stage) images(ctx context.Context) ([]string, error) {
	out := filepath.Join(s.root, ".cache", "stage", "images")
	c := exec.CommandContext(ctx, "go", "run", "./deploy/images", "--platform=local", "--out="+out)
	c.Dir = s.root
	if text, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("make images: %w\n%s", err, text)
	}
	archives, err := filepath.Glob(filepath.Join(out, "*-linux-*.tar"))
	if err == nil && len(archives) == 0 {
		err = errors.New("no archive was made")
	}
	if err != nil {
		return nil, fmt.Errorf("make images: %w", err)
	}
	return archives, nil
}

// install does what deploy/README.md says.
func (s *Stage) install(ctx context.Context) (err error) {
	if err := s.prepareNamespace(ctx); err != nil {
		return err
	}
	if s.Conflists, err = s.ReadConflists(ctx); err != nil {
		return err
	}
	args := []string{
		"install", Release, s.Chart(), "--namespace", Namespace, "--wait", "--timeout", "2m",
	}
	_, err = s.Helm(ctx, append(args, s.HelmValues()...)...)
	return err
}

// ReadConflists returns the nodes' network configurations, those that the runtime uses, by the name of the node.
func (s *Stage) ReadConflists(ctx context.Context) (map[string][]byte, error) {
	all := make(map[string][]byte)
	for _, n := range s.Cluster.Nodes() {
		b, err := readConflist(ctx, n)
		if err != nil {
			return nil, fmt.Errorf("read network configuration of %s: %w", n.Name(), err)
		}
		all[n.Name()] = b
	}
	return all, nil
}

// readConflist reads the first in lexical order, as the runtime does.
func readConflist(ctx context.Context, n Node) ([]byte, error) {
	pid, err := n.PID(ctx)
	if err != nil {
		return nil, err
	}
	dir := fmt.Sprintf("/proc/%d/root/etc/cni/net.d", pid)
	entries, err := os.ReadDir(dir) // sorted
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) == ".conflist" {
			return os.ReadFile(filepath.Join(dir, e.Name()))
		}
	}
	return nil, fmt.Errorf("there is no .conflist in %s", dir)
}

// Node returns the node of that name.
func (s *Stage) Node(name string) (Node, error) {
	var names []string
	for _, n := range s.Cluster.Nodes() {
		if n.Name() == name {
			return n, nil
		}
		names = append(names, n.Name())
	}
	return nil, fmt.Errorf("the cluster has no node %q: it has %s", name, strings.Join(names, ", "))
}

// Chart is the committed chart.
func (s *Stage) Chart() string { return filepath.Join(s.root, "deploy/chart/tailgate-operator") }

// Root is the folder of the module.
func (s *Stage) Root() string { return s.root }

// HelmValues are the flags that lead an installation to the tailnet.
func (s *Stage) HelmValues() []string {
	var api, login string
	if s.Rig != nil {
		api, login = s.Rig.Tailnet.APIURL(), s.Rig.Tailnet.ControlURL()
	} else {
		api, login = s.o.Org.APIURL, s.o.Org.LoginServer
	}
	var values []string
	if api != "" {
		values = append(values, "tailnet.apiURL="+api)
	}
	if login != "" {
		values = append(values, "tailnet.loginServer="+login)
	}
	values = append(values, s.o.Values...)
	if cidrs := s.Cluster.CIDRs(); len(cidrs) > 0 {
		values = append(values, "clusterCIDRs={"+strings.Join(cidrs, ",")+"}")
	}
	var args []string
	for _, v := range values {
		args = append(args, "--set", v)
	}
	return args
}

// Helm runs Helm on the cluster, and returns what it prints.
func (s *Stage) Helm(ctx context.Context, args ...string) (out []byte, err error) {
	tool := s.helm.With(s.Cluster.Kubeconfig())
	err = s.Cluster.Do(func() error {
		out, err = tool.Run(ctx, args...)
		return err
	})
	return out, err
}

// Kubectl runs kubectl on the cluster, and returns what it prints.
func (s *Stage) Kubectl(ctx context.Context, args ...string) (string, error) {
	out, err := s.Cluster.Kubectl(ctx, args...)
	if err != nil {
		return string(out), fmt.Errorf("kubectl %s: %w", strings.Join(args, " "), err)
	}
	return string(out), nil
}

// Keep lets the cluster outlive this process. A hermetic tailnet cannot, and ends.
func (s *Stage) Keep() error {
	err := s.Cluster.Keep()
	if s.Rig != nil {
		err = errors.Join(err, s.Rig.Close())
	}
	return err
}

// Down ends all of it.
func (s *Stage) Down(ctx context.Context) error {
	var errs []error
	if k, ok := s.Cluster.(*kindCluster); ok && !k.made && s.helm != nil {
		errs = append(errs, s.uninstall(ctx))
	}
	if s.Org != nil {
		errs = append(errs, s.Org.Close(ctx))
	}
	if s.Cluster != nil {
		errs = append(errs, s.Cluster.Down(ctx))
	}
	if s.Rig != nil {
		errs = append(errs, s.Rig.Close())
	}
	return errors.Join(errs...)
}

// uninstall takes tailgate from a cluster that stays, as deploy/README.md says.
func (s *Stage) uninstall(ctx context.Context) error {
	var errs []error
	for _, args := range [][]string{
		{"delete", "egressgroups.tailscale.rajsingh.info", "--all", "--timeout=1m"},
		nil,
		{"delete", "crd", "egressgroups.tailscale.rajsingh.info", "egressgateways.tailscale.rajsingh.info", "--ignore-not-found", "--timeout=1m"},
	} {
		var err error
		if args == nil {
			_, err = s.Helm(ctx, "uninstall", Release, "--namespace", Namespace, "--ignore-not-found", "--wait", "--timeout", "2m")
		} else {
			_, err = s.Kubectl(ctx, args...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// moduleRoot is the folder with the module's go.mod, at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module's folder: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "deploy", "chart")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("find the module's folder: run this in a clone of the repository")
		}
	}
}
