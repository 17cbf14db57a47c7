//go:build linux

package deploy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/agent/daemon"
	"github.com/rajsinghtech/tailgate/deploy/helm"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

const (
	namespace = "tailgate-system"
	release   = "tailgate-operator"
)

// readAll returns the files of a pattern, as one stream of YAML documents.
func readAll(t *testing.T, pattern string) []byte {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files are %s: %v", pattern, err)
	}
	var all []byte
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all = slices.Concat(all, []byte("\n---\n"), data)
	}
	return all
}

// kubeconfig writes a configuration to a file, for programs.
func kubeconfig(t *testing.T, c *rest.Config) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"c": {Server: c.Host, CertificateAuthority: c.CAFile, CertificateAuthorityData: c.CAData}},
		AuthInfos: map[string]*clientcmdapi.AuthInfo{"u": {
			Token: c.BearerToken, Username: c.Username, Password: c.Password,
			ClientCertificate: c.CertFile, ClientCertificateData: c.CertData, ClientKey: c.KeyFile, ClientKeyData: c.KeyData,
		}},
		Contexts:       map[string]*clientcmdapi.Context{"x": {Cluster: "c", AuthInfo: "u"}},
		CurrentContext: "x",
	}, file)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// cluster is an API server with the namespace, and Helm that talks to it.
type cluster struct {
	*kubetest.Env
	helm *helm.Tool
}

func newCluster(t *testing.T) cluster {
	t.Helper()
	env := kubetest.Start(t, kubetest.Options{})
	h, err := tool()
	if err != nil {
		t.Fatal(err)
	}
	return cluster{Env: env, helm: h.With(kubeconfig(t, env.Config))}
}

func (c cluster) apply(t *testing.T, text []byte) {
	t.Helper()
	if out, err := c.Kubectl(string(text), "apply", "--server-side", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func (c cluster) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.helm.Run(t.Context(), append(args, "--namespace="+namespace)...)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// list returns what is there of the kinds that the chart makes, sorted.
func (c cluster) list(t *testing.T) []string {
	t.Helper()
	out, err := c.Kubectl("", "get", "-A", "-o", `jsonpath={range .items[*]}{.kind} {.metadata.name}{"\n"}{end}`, "-l", "app.kubernetes.io/part-of=tailgate",
		"deployments,daemonsets,services,serviceaccounts,poddisruptionbudgets,roles,rolebindings,clusterroles,clusterrolebindings,secrets,crds")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	slices.Sort(lines)
	return lines
}

// established waits until the server serves the CRDs.
func (c cluster) established(t *testing.T) {
	t.Helper()
	out, err := c.Kubectl("", "wait", "--for=condition=Established", "--timeout=30s", "crd/egressgroups."+v1alpha1.GroupVersion.Group, "crd/egressgateways."+v1alpha1.GroupVersion.Group)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// TestHelm installs the chart as README.md says, upgrades it to one with another CRD, uninstalls it and installs it again.
func TestHelm(t *testing.T) {
	c := newCluster(t)
	c.apply(t, readAll(t, "manifests/namespace.yaml"))
	notes := c.run(t, "install", release, chart)
	for _, want := range []string{"tailgate-operator 0.1.0 is installed in the namespace tailgate-system.", "create secret generic tailgate-tailnet-creds", "kind: EgressGroup"} {
		if !strings.Contains(notes, want) {
			t.Errorf("the notes lack %q:\n%s", want, notes)
		}
	}
	if strings.Contains(notes, "kubectl label") {
		t.Errorf("the notes ask for a label that the namespace has:\n%s", notes)
	}
	c.established(t)
	installed := c.list(t)
	c.apply(t, readAll(t, "examples/*.yaml"))

	next := filepath.Join(t.TempDir(), "chart")
	if err := os.CopyFS(next, os.DirFS(chart)); err != nil {
		t.Fatal(err)
	}
	replace(t, filepath.Join(next, "files/crds/tailscale.rajsingh.info_egressgroups.yaml"), "- eg\n", "- eg\n    - egress\n")
	c.run(t, "upgrade", release, next, "--set=replicas=1")
	c.established(t)
	var crd apiextensionsv1.CustomResourceDefinition
	if err := c.Client.Get(t.Context(), client.ObjectKey{Name: "egressgroups." + v1alpha1.GroupVersion.Group}, &crd); err != nil {
		t.Fatal(err)
	}
	if want := []string{"eg", "egress"}; !slices.Equal(crd.Spec.Names.ShortNames, want) {
		t.Errorf("after the upgrade the CRD has the short names %q, want %q", crd.Spec.Names.ShortNames, want)
	}

	w := c.watchAsAgent(t)
	c.run(t, "uninstall", release)
	awaitDeletion(t, w)
	if left, want := c.list(t), []string{"CustomResourceDefinition egressgateways." + v1alpha1.GroupVersion.Group, "CustomResourceDefinition egressgroups." + v1alpha1.GroupVersion.Group}; !slices.Equal(left, want) {
		t.Errorf("uninstall leaves %q, want %q", left, want)
	}
	var groups v1alpha1.EgressGroupList
	if err := c.Client.List(t.Context(), &groups); err != nil || len(groups.Items) == 0 {
		t.Errorf("after uninstall there are %d groups (%v)", len(groups.Items), err)
	}
	c.run(t, "install", release, chart)
	if again := c.list(t); !slices.Equal(again, installed) {
		t.Errorf("installed again, there is %q, and was %q", again, installed)
	}
}

// watchAsAgent follows the agents' DaemonSet with the rights that an agent has, as it does to tell an uninstall.
func (c cluster) watchAsAgent(t *testing.T) watch.Interface {
	t.Helper()
	config := c.User("system:serviceaccount:"+namespace+":"+daemon.DaemonSetName, "system:serviceaccounts")
	agent, err := client.NewWithWatch(config, client.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var w watch.Interface
	own := []client.ListOption{client.InNamespace(namespace), client.MatchingFields{"metadata.name": daemon.DaemonSetName}}
	// The server's authorizer learns of new roles in its own time.
	err = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 30*time.Second, true, func(ctx context.Context) (bool, error) {
		var list appsv1.DaemonSetList
		err := agent.List(ctx, &list, own...)
		switch {
		case apierrors.IsForbidden(err):
			return false, nil
		case err != nil:
			return false, err
		case len(list.Items) != 1:
			return false, fmt.Errorf("there are %d DaemonSets of its name", len(list.Items))
		}
		w, err = agent.Watch(context.WithoutCancel(ctx), &list, append(own, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: list.ResourceVersion}})...)
		return err == nil, err
	})
	if err != nil {
		t.Fatalf("watch the DaemonSet as an agent: %v", err)
	}
	t.Cleanup(w.Stop)
	if err := agent.List(t.Context(), &appsv1.DaemonSetList{}, client.InNamespace(namespace)); !apierrors.IsForbidden(err) {
		t.Errorf("an agent may list other DaemonSets than its own: %v", err)
	}
	return w
}

// awaitDeletion waits until the agent hears that its DaemonSet is gone, which it must even though its account and its roles go, too.
func awaitDeletion(t *testing.T, w watch.Interface) {
	t.Helper()
	limit := time.After(20 * time.Second)
	for {
		select {
		case e, ok := <-w.ResultChan():
			if !ok || e.Type == watch.Error {
				t.Fatalf("the agent's watch ends with %v", e.Object)
			}
			if e.Type == watch.Deleted {
				return
			}
		case <-limit:
			t.Fatal("the agent does not hear that its DaemonSet is gone")
		}
	}
}

func replace(t *testing.T, file, old, new string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Replace(data, []byte(old), []byte(new), 1)
	if bytes.Equal(changed, data) {
		t.Fatalf("%s does not have %q", file, old)
	}
	if err := os.WriteFile(file, changed, 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestNotesAskForTheLabel: a namespace that Helm made lacks what gateway pods need, and the notes say so.
func TestNotesAskForTheLabel(t *testing.T) {
	c := newCluster(t)
	notes := c.run(t, "install", release, chart, "--create-namespace", "--set=tailnet.credentials.create=true,tailnet.credentials.clientID=i,tailnet.credentials.clientSecret=s")
	want := "kubectl label namespace tailgate-system pod-security.kubernetes.io/enforce=privileged --overwrite"
	if !strings.Contains(notes, want) || strings.Contains(notes, "create secret") {
		t.Errorf("the notes lack %q, or ask for a Secret that is there:\n%s", want, notes)
	}
}

// TestManifests applies the manifests in one go, runs the operator as their Deployment would, with the rights that they give it, and
// looks for what it says of a group.
func TestManifests(t *testing.T) {
	c := newCluster(t)
	c.apply(t, readAll(t, "manifests/tailgate.yaml"))
	c.established(t)
	c.apply(t, readAll(t, "examples/peers.yaml"))

	op := startOperator(t, c)
	await(t, op, "a group's status", func(ctx context.Context) (bool, error) {
		var g v1alpha1.EgressGroup
		if err := c.Client.Get(ctx, client.ObjectKey{Name: "peers"}, &g); err != nil {
			return false, err
		}
		key := meta.FindStatusCondition(g.Status.Conditions, v1alpha1.ConditionAuthKeyReady)
		return key != nil && key.Reason == "CredentialsMissing", nil
	})
	for _, path := range []string{"/healthz", "/readyz"} {
		await(t, op, path, func(ctx context.Context) (bool, error) { return op.get(ctx, path) == http.StatusOK, nil })
	}
	op.stop(t)
}

// TestManifestsDeleted deletes the manifests in one go.
func TestManifestsDeleted(t *testing.T) {
	c := newCluster(t)
	manifests := string(readAll(t, "manifests/tailgate.yaml"))
	c.apply(t, []byte(manifests))
	c.established(t)
	w := c.watchAsAgent(t)
	// Nobody finishes the deletion of a namespace on a server without controllers.
	if out, err := c.Kubectl(manifests, "delete", "--wait=false", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	awaitDeletion(t, w)
}

// TestAgentTakesItsArguments runs the agent with the arguments and variables that the chart gives it, where it finds no API server: which it
// says only when it has understood all of them.
func TestAgentTakesItsArguments(t *testing.T) {
	dir := t.TempDir()
	build(t, "agent", dir)
	for _, values := range []string{"", everyAgentArgument} {
		t.Run(values, func(t *testing.T) {
			c := render(t, values).agent(t).Spec.Template.Spec.Containers[0]
			cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "tailgate-agent"), c.Args...)
			cmd.Env = []string{"HOME=" + dir, "NODE_NAME=node", "POD_NAMESPACE=" + namespace}
			for _, e := range c.Env {
				if e.Value != "" {
					cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
				}
			}
			out, err := cmd.CombinedOutput()
			if err == nil || !bytes.Contains(out, []byte("tailgate-agent: find the Kubernetes API: ")) {
				t.Errorf("the agent ends with %v and says\n%s", err, out)
			}
		})
	}
}

// build builds the binaries of an image into a folder.
func build(t *testing.T, image, dir string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", "./images", "--binaries", "--only="+image, "--platform=local", "--out="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the %s: %v\n%s", image, err, out)
	}
}

// operator is a process.
type operator struct {
	cmd    *exec.Cmd
	health string
	mu     sync.Mutex
	log    bytes.Buffer
	done   chan error
}

// Write takes the process's log.
func (o *operator) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.Write(p)
}

func (o *operator) text() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.String()
}

func startOperator(t *testing.T, c cluster) *operator {
	t.Helper()
	dir := t.TempDir()
	build(t, "operator", dir)
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &operator{health: ln.Addr().String(), done: make(chan error, 1)}
	ln.Close()
	pod := decode(t, readAll(t, "manifests/tailgate.yaml")).deployment(t).Spec.Template.Spec
	args := slices.Concat(pod.Containers[0].Args, []string{"--health-addr=" + o.health, "--metrics-addr="})
	account := "system:serviceaccount:" + namespace + ":" + pod.ServiceAccountName
	o.cmd = exec.CommandContext(context.WithoutCancel(t.Context()), filepath.Join(dir, "tailgate-operator"), args...)
	o.cmd.Env = []string{"KUBECONFIG=" + kubeconfig(t, c.User(account, "system:serviceaccounts")), "POD_NAMESPACE=" + namespace}
	for _, e := range pod.Containers[0].Env {
		if e.Value != "" {
			o.cmd.Env = append(o.cmd.Env, e.Name+"="+e.Value)
		}
	}
	o.cmd.Stdout, o.cmd.Stderr = o, o
	o.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { o.done <- o.cmd.Wait() }()
	t.Cleanup(func() { _ = o.cmd.Process.Kill() }) // for a test that failed before stop
	return o
}

func (o *operator) get(ctx context.Context, path string) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+o.health+path, nil)
	if err != nil {
		return 0
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// stop ends the process as the kubelet does.
func (o *operator) stop(t *testing.T) {
	t.Helper()
	if err := o.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-o.done:
		if err != nil {
			t.Errorf("the operator ends with %v\n%s", err, o.text())
		}
	case <-time.After(20 * time.Second):
		t.Errorf("the operator did not end in 20 seconds\n%s", o.text())
	}
	if log := o.text(); strings.Contains(log, "forbidden") {
		t.Errorf("the operator lacks a permission:\n%s", log)
	}
}

// await waits until something holds, while the operator runs.
func await(t *testing.T, o *operator, what string, holds wait.ConditionWithContextFunc) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 60*time.Second, true, func(ctx context.Context) (bool, error) {
		select {
		case err := <-o.done:
			return false, errors.Join(fmt.Errorf("the operator ended"), err)
		default:
			return holds(ctx)
		}
	})
	if err != nil {
		t.Fatalf("wait for %s: %v\n%s", what, err, o.text())
	}
}
