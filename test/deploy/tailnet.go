package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
	"tailscale.com/types/key"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/tailnet"
)

// Where the hermetic tailnet is; the manifests have the same.
const (
	tailnetNamespace = "tailgate-tailnet"
	tailnetName      = "tailnet" // of the Service, the Deployment and the Secret
	controlPort      = 8080
	apiPort          = 8081
	// domain is the one that the manifests of deploy/examples have.
	domain = "your-org.ts.net"
)

// peers are the nodes of the hermetic tailnet, in the order in which they get their addresses. The exit nodes are those of
// deploy/examples and of what the README patches there.
var peers = []struct{ name, routes, try, about string }{
	{name: "peer", try: "100.64.0.1", about: "a member of any group"},
	{name: "router", routes: "10.20.0.0/24,fd20:20::/64", try: "10.20.0.10", about: "of a group with its routes, as payments; any address there"},
	{name: "exit-fra1", routes: "exit", try: "198.51.100.7", about: "of a group with this exit node, as payments; any address"},
	{name: "exit-ams1", routes: "exit", try: "198.51.100.7", about: "of a group with this exit node; any address"},
}

var (
	//go:embed manifests/service.yaml
	serviceManifest []byte
	//go:embed manifests/tailnet.yaml
	tailnetManifest string
)

// address is the tailnet's Service.
type address struct{ netip.Addr }

func (a address) url(port uint16) string {
	return "http://" + netip.AddrPortFrom(a.Addr, port).String()
}

// deployTailnet deploys the tailnet, or another image of it, and waits until it is up.
func (d *deployment) deployTailnet(ctx context.Context, imgs images) (a address, c credentials, err error) {
	if err := d.apply(ctx, serviceManifest); err != nil {
		return a, c, err
	}
	var svc corev1.Service
	if err := d.client.Get(ctx, client.ObjectKey{Namespace: tailnetNamespace, Name: tailnetName}, &svc); err != nil {
		return a, c, fmt.Errorf("look for its Service: %w", err)
	}
	if a.Addr, err = netip.ParseAddr(svc.Spec.ClusterIP); err != nil {
		return a, c, fmt.Errorf("its Service has the address %q", svc.Spec.ClusterIP)
	}
	if c, err = d.identity(ctx); err != nil {
		return a, c, err
	}
	tags, err := exampleTags(d.root)
	if err != nil {
		return a, c, err
	}
	text, err := render(manifest{
		Image: imgs.all[tailnetImage].String(), PullPolicy: imgs.pullPolicy, Address: a.Addr, Domain: domain, Tags: append(tags, d.tags...),
	})
	if err != nil {
		return a, c, err
	}
	if err := d.apply(ctx, text); err != nil {
		return a, c, err
	}
	return a, c, d.awaitTailnet(ctx)
}

// manifest is what the Deployment's has to be told.
type manifest struct {
	Image, PullPolicy, Domain string
	Address                   netip.Addr
	Tags, Peers               []string
}

func render(m manifest) ([]byte, error) {
	for _, p := range peers {
		arg := p.name
		if p.routes != "" {
			arg += "=" + p.routes
		}
		m.Peers = append(m.Peers, arg)
	}
	quote := func(v any) (string, error) {
		b, err := json.Marshal(v)
		return string(b), err
	}
	t, err := template.New("tailnet").Funcs(template.FuncMap{"json": quote, "join": strings.Join}).Parse(tailnetManifest)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, m); err != nil {
		return nil, fmt.Errorf("fill in manifest: %w", err)
	}
	return b.Bytes(), nil
}

// What the tailnet's program reads; see "tailnet serve --help".
const (
	machineKeyVar    = "TAILNET_MACHINE_KEY"
	tailnetIDVar     = "TAILNET_OAUTH_CLIENT_ID"
	tailnetSecretVar = "TAILNET_OAUTH_CLIENT_SECRET"
)

// identity returns the credentials of the tailnet's OAuth client, which are made once and kept in the cluster with the key of
// its control plane.
func (d *deployment) identity(ctx context.Context) (c credentials, err error) {
	var s corev1.Secret
	err = d.client.Get(ctx, client.ObjectKey{Namespace: tailnetNamespace, Name: tailnetName}, &s)
	if err == nil {
		c = credentials{tailnet: "-", id: string(s.Data[tailnetIDVar]), secret: string(s.Data[tailnetSecretVar])}
		if c.id == "" || c.secret == "" || len(s.Data[machineKeyVar]) == 0 {
			return c, fmt.Errorf("the Secret %s in namespace %s lacks keys; delete it and deploy again", tailnetName, tailnetNamespace)
		}
		return c, nil
	}
	if !apierrors.IsNotFound(err) {
		return c, fmt.Errorf("look for its identity: %w", err)
	}
	machine, err := key.NewMachine().MarshalText()
	if err != nil {
		return c, err
	}
	oauth := tailnet.NewOAuthClient()
	return credentials{tailnet: "-", id: oauth.ID, secret: oauth.Secret}, d.applySecret(ctx, tailnetNamespace, tailnetName, map[string]string{
		machineKeyVar: string(machine), tailnetIDVar: oauth.ID, tailnetSecretVar: oauth.Secret,
	})
}

// exampleTags returns the tags of the groups in deploy/examples, sorted: those that the policy file of deploy/README.md lets the
// operator own.
func exampleTags(root string) ([]string, error) {
	files, err := filepath.Glob(filepath.Join(root, "deploy/examples/*.yaml"))
	if err == nil && len(files) == 0 {
		err = errors.New("there is none")
	}
	if err != nil {
		return nil, fmt.Errorf("read the examples: %w", err)
	}
	tags := map[string]bool{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var g v1alpha1.EgressGroup
		if err := yaml.Unmarshal(text, &g); err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		if len(g.Spec.Tags) == 0 {
			tags[v1alpha1.DefaultTag(g.Name)] = true
		}
		for _, t := range g.Spec.Tags {
			tags[t] = true
		}
	}
	return slices.Sorted(maps.Keys(tags)), nil
}

// tailnetTime is how long the tailnet may take to come up, image and peers included.
const tailnetTime = 2 * time.Minute

// awaitTailnet waits until the pod of the present Deployment is ready.
func (d *deployment) awaitTailnet(ctx context.Context) error {
	err := wait.PollUntilContextTimeout(ctx, 250*time.Millisecond, tailnetTime, true, func(ctx context.Context) (bool, error) {
		var dep appsv1.Deployment
		if err := d.client.Get(ctx, client.ObjectKey{Namespace: tailnetNamespace, Name: tailnetName}, &dep); err != nil {
			return false, client.IgnoreNotFound(err)
		}
		s := dep.Status
		return s.ObservedGeneration == dep.Generation && s.UpdatedReplicas == 1 && s.AvailableReplicas == 1 && s.Replicas == 1, nil
	})
	if err != nil {
		return fmt.Errorf("its pod is not ready: %w\nlook for what hinders it with: %s describe pods -n %s", err, d.kubectl, tailnetNamespace)
	}
	return nil
}
