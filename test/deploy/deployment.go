package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	goyaml "sigs.k8s.io/yaml"

	"github.com/rajsinghtech/tailgate/deploy/helm"
	"github.com/rajsinghtech/tailgate/test/deploy/cidrs"
)

// Where tailgate is, as deploy/README.md installs it.
const (
	namespace   = "tailgate-system"
	release     = "tailgate-operator"
	chartFolder = "deploy/chart/tailgate-operator"
)

// fieldOwner is who applied what this program applies.
const fieldOwner = client.FieldOwner("tailgate-deploy")

// deployment is one run.
type deployment struct {
	settings
	*cluster
	root   string
	out    io.Writer
	began  time.Time
	client client.Client
}

func (d *deployment) said(format string, args ...any) {
	fmt.Fprintf(d.out, "%6.1f s  %s\n", time.Since(d.began).Seconds(), fmt.Sprintf(format, args...))
}

func (d *deployment) run(ctx context.Context) (err error) {
	if d.client, err = client.New(d.config, client.Options{Scheme: clientgoscheme.Scheme}); err != nil {
		return fmt.Errorf("reach %s: %w", d.name, err)
	}
	if len(d.cidrs) == 0 {
		if d.cidrs, err = cidrs.Of(ctx, d.client); err != nil {
			return err
		}
	}
	d.said("deploying to %s, whose pods and services are in %v", d.name, d.cidrs)
	imgs, err := d.images(ctx)
	if err != nil {
		return err
	}
	if err := d.applyFile(ctx, "deploy/manifests/namespace.yaml"); err != nil {
		return err
	}
	values := map[string]any{"clusterCIDRs": d.cidrs}
	if err := imgs.put(values); err != nil {
		return err
	}
	creds := d.real
	if creds == (credentials{}) {
		address, made, err := d.deployTailnet(ctx, imgs)
		if err != nil {
			return fmt.Errorf("deploy the hermetic tailnet: %w", err)
		}
		creds = made
		values["tailnet"] = map[string]any{"apiURL": address.url(apiPort), "loginServer": address.url(controlPort)}
		d.said("hermetic tailnet is up at %s", address.url(controlPort))
	}
	if err := d.applySecret(ctx, namespace, "tailgate-tailnet-creds", map[string]string{
		tailnetVar: creds.tailnet, idVar: creds.id, secretVar: creds.secret,
	}); err != nil {
		return err
	}
	if err := d.install(ctx, values); err != nil {
		return err
	}
	d.said("tailgate is installed")
	return d.farewell()
}

// images sees to it that the nodes have or find the images.
func (d *deployment) images(ctx context.Context) (images, error) {
	if d.load == nil {
		return published(d.root, d.repository, d.tag)
	}
	imgs, archives, err := build(ctx, d.root, d.real == credentials{})
	if err != nil {
		return imgs, err
	}
	d.said("images built")
	if err := d.load(ctx, archives...); err != nil {
		return imgs, fmt.Errorf("load images: %w", err)
	}
	d.said("images loaded")
	return imgs, nil
}

// install installs the chart, or upgrades it to these values and no others.
func (d *deployment) install(ctx context.Context, values map[string]any) error {
	tool, err := helm.Build(ctx, d.root)
	if err != nil {
		return err
	}
	text, err := goyaml.Marshal(values)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tailgate-deploy-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "values.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return err
	}
	args := []string{
		"upgrade", "--install", release, filepath.Join(d.root, chartFolder), "--namespace", namespace,
		"--values", file, "--wait", "--timeout", "3m",
	}
	for _, v := range d.set {
		args = append(args, "--set", v)
	}
	err = d.within(func() error {
		_, err := tool.With(d.cluster.kubeconfig).Run(ctx, args...)
		return err
	})
	if err != nil {
		return fmt.Errorf("%w\nlook for what hinders it with: %s get pods -n %s", err, d.kubectl, namespace)
	}
	return nil
}

// farewell says what to do now.
func (d *deployment) farewell() error {
	var b strings.Builder
	fmt.Fprintf(&b, "\nMake a group, and a pod that belongs to it:\n\n")
	fmt.Fprintf(&b, "  %s apply -f deploy/examples/peers.yaml\n", d.kubectl)
	fmt.Fprintf(&b, "  %s run member %s --labels=tailgate.dev/egress=true%s\n", d.kubectl, d.testImage, d.testArgs)
	fmt.Fprintf(&b, "  %s get eg\n", d.kubectl)
	if d.real == (credentials{}) {
		fmt.Fprintf(&b, "\nThe tailnet's nodes answer HTTP, and echo TCP and UDP on port 7:\n\n")
		for _, p := range peers {
			fmt.Fprintf(&b, "  %-10s http://%-14s %s\n", p.name, p.try+"/", p.about)
		}
		fmt.Fprintf(&b, "\n  %s exec member -- %s http://%s/\n", d.kubectl, d.testGet, peers[0].try)
	}
	_, err := io.WriteString(d.out, b.String())
	return err
}

// applyFile applies a manifest of the tree.
func (d *deployment) applyFile(ctx context.Context, name string) error {
	text, err := os.ReadFile(filepath.Join(d.root, name))
	if err != nil {
		return err
	}
	return d.apply(ctx, text)
}

// apply applies YAML documents.
func (d *deployment) apply(ctx context.Context, text []byte) error {
	for docs := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(text), 4096); ; {
		var u unstructured.Unstructured
		err := docs.Decode(&u.Object)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read manifest: %w", err)
		}
		if len(u.Object) == 0 { // a comment
			continue
		}
		if err := d.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(&u), fieldOwner, client.ForceOwnership); err != nil {
			return fmt.Errorf("apply %s %s: %w", u.GetKind(), u.GetName(), err)
		}
	}
}

// applySecret applies a Secret.
func (d *deployment) applySecret(ctx context.Context, namespace, name string, data map[string]string) error {
	s := &corev1.Secret{StringData: data}
	s.APIVersion, s.Kind, s.Namespace, s.Name = "v1", "Secret", namespace, name
	text, err := goyaml.Marshal(s)
	if err != nil {
		return err
	}
	return d.apply(ctx, text)
}

// moduleRoot is the folder of the source tree, at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, chartFolder)); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the source tree: run this in a clone of the repository")
		}
	}
}
