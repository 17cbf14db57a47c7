//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/kubetest"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

const (
	namespace = "tailgate-system"
	image     = "ghcr.io/rajsinghtech/tailgate-gateway:bench"
	secret    = "tailgate-tailnet-creds"
	account   = "system:serviceaccount:" + namespace + ":tailgate-operator"
)

// bench is the scene, and what has been measured.
type bench struct {
	s   settings
	out io.Writer

	dir     string
	machine proc.Machine
	load    string // at the start
	server  *kubetest.Server
	tailnet *testtailnet.Tailnet
	calls   *proxy
	audit   *audit
	seen    *observer
	blind   context.CancelFunc // ends seen
	op      *operator

	// before is the last reading; what happened since belongs to the phase under way.
	before reading
	phases []phase
	lines  []sheet.Line
	heaps  []string // profiles
}

// setUp starts everything but the operator.
func (b *bench) setUp(ctx context.Context) (err error) {
	if b.machine, b.load, err = describe(ctx); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "Machine: %v; load average %s.\n", b.machine, b.load)
	if b.dir, err = os.MkdirTemp("", "tailgate-bench-operator-"); err != nil {
		return fmt.Errorf("make a folder: %w", err)
	}
	b.audit = &audit{path: filepath.Join(b.dir, "audit.log"), counts: tally{}}
	policy := filepath.Join(b.dir, "audit-policy.yaml")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		return fmt.Errorf("write the audit policy: %w", err)
	}
	b.server, err = kubetest.Run(ctx, kubetest.Options{CRDs: true, Flags: map[string]string{
		"audit-policy-file": policy, "audit-log-path": b.audit.path, "audit-log-maxsize": "4096",
		"enable-admission-plugins": "OwnerReferencesPermissionEnforcement",
	}})
	if err != nil {
		return err
	}
	if b.tailnet, err = testtailnet.Start(ctx, testtailnet.Options{}); err != nil {
		return err
	}
	if b.calls, err = startProxy(b.tailnet.APIURL()); err != nil {
		return err
	}
	if err := b.install(ctx); err != nil {
		return err
	}
	binary, err := b.build(ctx)
	if err != nil {
		return err
	}
	kubeconfig, err := b.kubeconfig()
	if err != nil {
		return err
	}
	b.op = &operator{binary: binary, kubeconfig: kubeconfig, apiURL: b.calls.url, log: filepath.Join(b.dir, "operator.log"), profiles: b.s.profile, env: b.s.env}
	// The API server waits for the end of watches before it ends.
	ctx, b.blind = context.WithCancel(ctx)
	b.seen = watchAll(ctx, b.server.Client)
	return nil
}

// describe returns the machine, how busy it is, and its load average.
func describe(ctx context.Context) (proc.Machine, string, error) {
	m, err := proc.ThisMachine()
	if err != nil {
		return m, "", err
	}
	if m.Busy, err = proc.MeasureBusy(ctx, 2*time.Second); err != nil {
		return m, "", err
	}
	load, err := loadAverage()
	return m, load, err
}

// install makes what an installation has: the namespace, the account's permissions, the tailnet's credentials.
func (b *bench) install(ctx context.Context) error {
	owns := make([]string, b.s.groups)
	for i := range owns {
		owns[i] = defaultTag(i)
	}
	oauth := b.tailnet.CreateOAuthClient(testtailnet.OAuthOptions{
		Scopes: []string{"auth_keys", "devices:core"}, Tags: []string{"tag:tailgate-operator"}, Owns: owns,
	})
	name := metav1.ObjectMeta{Name: "tailgate-operator"}
	local := metav1.ObjectMeta{Name: name.Name, Namespace: namespace}
	who := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: account}}
	role := func(kind string) rbacv1.RoleRef {
		return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: kind, Name: name.Name}
	}
	for _, o := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: podNamespace}},
		&rbacv1.ClusterRole{ObjectMeta: name, Rules: permission.Rules(controller.ClusterPermissions())},
		&rbacv1.ClusterRoleBinding{ObjectMeta: name, Subjects: who, RoleRef: role("ClusterRole")},
		&rbacv1.Role{ObjectMeta: local, Rules: permission.Rules(controller.NamespacePermissions())},
		&rbacv1.RoleBinding{ObjectMeta: local, Subjects: who, RoleRef: role("Role")},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: secret, Namespace: namespace}, StringData: map[string]string{
			tailnet.KeyTailnet: "-", tailnet.KeyClientID: oauth.ID, tailnet.KeyClientSecret: oauth.Secret,
		}},
	} {
		if err := b.server.Client.Create(ctx, o); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	return nil
}

// kubeconfig writes one for the operator's account and returns its path. Unlike an administrator's, the account's requests
// are subject to the server's priority and fairness.
func (b *bench) kubeconfig() (string, error) {
	user, err := b.server.User(account, "system:serviceaccounts", "system:serviceaccounts:"+namespace)
	if err != nil {
		return "", err
	}
	path := filepath.Join(b.dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*configOf(user), path); err != nil {
		return "", fmt.Errorf("write a kubeconfig for the operator: %w", err)
	}
	return path, nil
}

func configOf(c *rest.Config) *clientcmdapi.Config {
	const name = "bench"
	out := clientcmdapi.NewConfig()
	out.Clusters[name] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	out.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: c.CertData, ClientKeyData: c.KeyData}
	out.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	out.CurrentContext = name
	return out
}

// close ends whatever was started.
func (b *bench) close() error {
	var err error
	if b.op != nil {
		err = b.op.kill()
	}
	if b.blind != nil {
		b.blind()
	}
	if b.calls != nil {
		err = errors.Join(err, b.calls.close())
	}
	if b.tailnet != nil {
		b.tailnet.Close()
	}
	if b.server != nil {
		err = errors.Join(err, b.server.Stop())
	}
	if b.dir != "" {
		err = errors.Join(err, os.RemoveAll(b.dir))
	}
	return err
}

// failure shows the end of the operator's log, for who has to know why a step failed.
func (b *bench) failure() error {
	if b.op == nil {
		return nil
	}
	const most = 4 << 10
	text, err := os.ReadFile(b.op.log)
	if err != nil || len(text) == 0 {
		return nil
	}
	return fmt.Errorf("the operator's log ends with:\n%s", text[max(0, len(text)-most):])
}
