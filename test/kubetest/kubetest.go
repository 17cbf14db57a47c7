//go:build linux

package kubetest

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options of a server.
type Options struct {
	// CRDs says whether tailgate's CustomResourceDefinitions (deploy/crds) are there from the beginning.
	CRDs bool
	// Flags are added to kube-apiserver's, by name without dashes; they replace those of the same name.
	Flags map[string]string
}

// Env is a server, for one test.
type Env struct {
	// Config reaches the server as an administrator (group system:masters), with no limit on the
	// rate of requests. Copy it before changing it.
	Config *rest.Config
	// Client uses Config and reads without a cache. Its scheme has Kubernetes' own kinds, CustomResourceDefinitions and tailgate's.
	Client client.WithWatch
	// Context ends shortly before the test's cleanups run.
	Context context.Context

	tb     testing.TB
	server *server
}

// Start starts a server that ends with the test.
func Start(tb testing.TB, o Options) *Env {
	tb.Helper()
	s, err := start(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.stop(); err != nil {
			tb.Error(err)
		}
	})
	return s.env(tb)
}

// shared is the server of the package under test.
var shared struct {
	options *Options // nil until Main
	once    sync.Once
	server  *server
	err     error
}

// Main runs a package's tests and exits. The first test that calls [Shared] starts a server with
// these options, which ends after the last test.
func Main(m *testing.M, o Options) {
	shared.options = &o
	code := m.Run()
	if shared.server != nil {
		if err := shared.server.stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// Shared returns the server that all tests of the package share. What a test makes there outlives it, so each
// needs names of its own.
func Shared(tb testing.TB) *Env {
	tb.Helper()
	if shared.options == nil {
		tb.Fatal("kubetest: no server to share; add to the package: func TestMain(m *testing.M) { kubetest.Main(m, kubetest.Options{}) }")
	}
	shared.once.Do(func() { shared.server, shared.err = start(tb.Context(), *shared.options) })
	if shared.err != nil {
		tb.Fatal(shared.err)
	}
	return shared.server.env(tb)
}

// env returns the server as tb sees it.
func (s *server) env(tb testing.TB) *Env {
	tb.Helper()
	return &Env{Config: s.config, Client: s.client, Context: tb.Context(), tb: tb, server: s}
}

// Scheme returns the scheme of Client.
func (e *Env) Scheme() *runtime.Scheme { return e.Client.Scheme() }

// Namespace makes a namespace that no other test has and returns its name. It stays, as does all in it:
// there is no controller that would empty it.
func (e *Env) Namespace() string {
	e.tb.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	if err := e.Client.Create(e.Context, ns); err != nil {
		e.tb.Fatalf("make a namespace: %v", err)
	}
	return ns.Name
}

// User returns a configuration that reaches the server as a user, who may do what RBAC grants to the name and
// the groups, as in "system:serviceaccounts". To be a service account, use its user name,
// "system:serviceaccount:NAMESPACE:NAME".
func (e *Env) User(name string, groups ...string) *rest.Config {
	e.tb.Helper()
	config, err := e.server.user(name, groups)
	if err != nil {
		e.tb.Fatal(err)
	}
	return config
}

// Kubectl runs kubectl as administrator, with stdin for standard input, and returns what it wrote to standard output.
// The error has what it wrote to standard error.
func (e *Env) Kubectl(stdin string, args ...string) (string, error) {
	e.tb.Helper()
	return e.server.kubectl(e.Context, strings.NewReader(stdin), args)
}
