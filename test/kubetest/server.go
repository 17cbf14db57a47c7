//go:build linux

package kubetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// patience is how long etcd and kube-apiserver each may take to start or to stop. They need about a second; two
// cores with several compilers on them need longer.
const patience = time.Minute

// server is a running etcd and kube-apiserver.
type server struct {
	folder      *folder
	output      *os.File // of etcd and kube-apiserver
	assets      string   // folder with kubectl
	kubeconfig  string   // path
	config      *rest.Config
	client      client.WithWatch
	environment *envtest.Environment
	done        chan struct{} // closed to end the thread that started the processes
}

// start returns a running server, which outlives ctx. What it made until it failed is gone again.
func start(ctx context.Context, o Options) (_ *server, err error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	assets, err := binaries(ctx)
	if err != nil {
		return nil, err
	}
	folder, err := newFolder()
	if err != nil {
		return nil, err
	}
	s := &server{folder: folder, assets: assets, done: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop())
		}
	}()
	if s.environment, err = s.prepare(o, root); err != nil {
		return nil, err
	}
	if err := s.launch(); err != nil {
		if s.environment.Config == nil { // they did not come up, else CRDs are wrong
			err = fmt.Errorf("%w\n%s", err, s.logs())
		}
		return nil, fmt.Errorf("start a Kubernetes API server: %w", err)
	}
	return s, s.connect()
}

// prepare returns an envtest environment whose every folder is ours.
func (s *server) prepare(o Options, root string) (*envtest.Environment, error) {
	launchers, err := s.folder.launchers(s.assets)
	if err != nil {
		return nil, err
	}
	output, err := os.Create(s.folder.path("output"))
	if err != nil {
		return nil, fmt.Errorf("make a file for the output of etcd and kube-apiserver: %w", err)
	}
	s.output = output
	etcd := &envtest.Etcd{Path: launchers.etcd, DataDir: s.folder.path("etcd"), Out: output, Err: output}
	etcd.Configure().Set("unsafe-no-fsync", "true") // the data does not outlive the test
	apiserver := &envtest.APIServer{Path: launchers.apiserver, CertDir: s.folder.path("certs"), Out: output, Err: output}
	for name, value := range o.Flags {
		apiserver.Configure().Set(name, value)
	}
	for _, dir := range []string{etcd.DataDir, apiserver.CertDir} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return nil, err
		}
	}
	kinds := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{scheme.AddToScheme, apiextensionsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(kinds); err != nil {
			return nil, err
		}
	}
	env := &envtest.Environment{
		// Not the cluster that USE_EXISTING_CLUSTER and KUBECONFIG may name.
		UseExistingCluster:       new(bool),
		ControlPlane:             envtest.ControlPlane{Etcd: etcd, APIServer: apiserver, KubectlPath: filepath.Join(s.assets, "kubectl")},
		ControlPlaneStartTimeout: patience,
		ControlPlaneStopTimeout:  patience,
		Scheme:                   kinds,
	}
	if o.CRDs {
		env.CRDDirectoryPaths, env.ErrorIfCRDPathMissing = []string{filepath.Join(root, "deploy/crds")}, true
	}
	return env, nil
}

// launch starts the processes. They die with the thread that started them (see launch.go), so that is one which
// stays until stop.
func (s *server) launch() error {
	started := make(chan error)
	go func() {
		goruntime.LockOSThread()
		defer goruntime.UnlockOSThread()
		_, err := s.environment.Start()
		started <- err
		<-s.done
	}()
	return <-started
}

// connect makes a client and a kubeconfig.
func (s *server) connect() error {
	s.config = unlimited(s.environment.Config)
	var err error
	if s.client, err = client.NewWithWatch(s.config, client.Options{Scheme: s.environment.Scheme}); err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	s.kubeconfig = s.folder.path("kubeconfig")
	if err := os.WriteFile(s.kubeconfig, s.environment.KubeConfig, 0o600); err != nil {
		return fmt.Errorf("write a kubeconfig: %w", err)
	}
	return nil
}

// unlimited returns a copy of config whose clients never wait.
func unlimited(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.QPS = -1
	return config
}

// stop ends the processes and removes the folder.
func (s *server) stop() error {
	defer close(s.done)
	var err error
	if s.environment != nil {
		if err = s.environment.Stop(); err != nil {
			err = fmt.Errorf("stop kube-apiserver and etcd: %w", err)
		}
	}
	if s.output != nil {
		err = errors.Join(err, s.output.Close())
	}
	return errors.Join(err, s.folder.remove())
}

// user returns a configuration for a user that the server did not know.
func (s *server) user(name string, groups []string) (*rest.Config, error) {
	user, err := s.environment.AddUser(envtest.User{Name: name, Groups: groups}, nil)
	if err != nil {
		return nil, fmt.Errorf("add user %s: %w", name, err)
	}
	return unlimited(user.Config()), nil
}

func (s *server) kubectl(ctx context.Context, stdin io.Reader, args []string) (string, error) {
	args = append([]string{"--kubeconfig=" + s.kubeconfig}, args...)
	cmd := exec.CommandContext(ctx, filepath.Join(s.assets, "kubectl"), args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &stdout, &stderr
	// Else it would keep what it learned of this server in the user's home, by a port that others will have.
	cmd.Env = append(os.Environ(), "HOME="+s.folder.dir, "KUBECACHEDIR="+s.folder.path("kubectl-cache"))
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w: %s", args[1], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return stdout.String(), nil
}

// logs returns the end of what etcd and kube-apiserver wrote.
func (s *server) logs() string {
	const limit = 8 << 10
	output, err := os.ReadFile(s.folder.path("output"))
	if err != nil {
		return err.Error()
	}
	return string(output[max(0, len(output)-limit):])
}
