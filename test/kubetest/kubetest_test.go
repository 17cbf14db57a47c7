//go:build linux

package kubetest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// victim in the environment makes this binary one that TestKilled kills.
const victim = "KUBETEST_VICTIM"

func TestMain(m *testing.M) {
	if os.Getenv(victim) != "" {
		if err := kubetest.Victim(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	log.SetLogger(logr.Discard()) // envtest's, which TestBadFlag would fill
	kubetest.Main(m, kubetest.Options{CRDs: true})
}

func TestShared(t *testing.T) {
	env := kubetest.Shared(t)
	if again := kubetest.Shared(t); again.Config.Host != env.Config.Host {
		t.Errorf("two servers for one package: %s and %s", env.Config.Host, again.Config.Host)
	}
	if err := env.Client.List(env.Context, &v1alpha1.EgressGroupList{}); err != nil {
		t.Error(err)
	}
	a, b := env.Namespace(), env.Namespace()
	if a == b {
		t.Errorf("two namespaces are called %s", a)
	}
	if err := env.Client.Get(env.Context, client.ObjectKey{Name: a}, &corev1.Namespace{}); err != nil {
		t.Error(err)
	}
}

// TestStart runs a server beside the shared one, and beside a cluster that the environment names.
func TestStart(t *testing.T) {
	shared := kubetest.Shared(t)
	t.Setenv("USE_EXISTING_CLUSTER", "true")
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	before := children(t, os.Getpid())

	t.Run("while it runs", func(t *testing.T) {
		env := kubetest.Start(t, kubetest.Options{Flags: map[string]string{"service-cluster-ip-range": "10.77.0.0/24"}})
		if env.Config.Host == shared.Config.Host {
			t.Fatal("it is the shared server")
		}
		if pids := newer(children(t, os.Getpid()), before); len(pids) != 2 {
			t.Fatalf("etcd and kube-apiserver are the processes %v", pids)
		}
		service := &corev1.Service{}
		if err := env.Client.Get(env.Context, client.ObjectKey{Namespace: "default", Name: "kubernetes"}, service); err != nil {
			t.Fatal(err)
		}
		if service.Spec.ClusterIP != "10.77.0.1" {
			t.Errorf("the server's own Service has %s, so it does not have the flag", service.Spec.ClusterIP)
		}
		if err := env.Client.List(env.Context, &v1alpha1.EgressGroupList{}); !meta.IsNoMatchError(err) {
			t.Errorf("a server without our kinds says of them: %v", err)
		}
	})
	if after := newer(children(t, os.Getpid()), before); len(after) > 0 {
		t.Errorf("processes %v are left", after)
	}
	if left := folders(t, os.Getpid()); len(left) != 1 {
		t.Errorf("folders %v are there, want only the shared server's", left)
	}
}

func TestUser(t *testing.T) {
	env := kubetest.Shared(t)
	namespace := env.Namespace()
	name := "system:serviceaccount:" + namespace + ":reader"
	reader, err := client.New(env.User(name, "system:serviceaccounts"), client.Options{Scheme: env.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	list := func() error { return reader.List(env.Context, &corev1.SecretList{}, client.InNamespace(namespace)) }
	if err := list(); !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), name) {
		t.Errorf("a user without any right lists Secrets: %v", err)
	}
	objects := []client.Object{
		&rbacv1.Role{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "reader"},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"secrets"}, Verbs: []string{"list"}}},
		},
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "reader"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: "reader"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "reader"}},
		},
	}
	for _, o := range objects {
		if err := env.Client.Create(env.Context, o); err != nil {
			t.Fatal(err)
		}
	}
	// The server's authorizer learns of a binding by a watch.
	err = wait.PollUntilContextTimeout(env.Context, 10*time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		err := list()
		return err == nil, ignoreForbidden(err)
	})
	if err != nil {
		t.Errorf("a user who may list Secrets: %v", err)
	}
}

func ignoreForbidden(err error) error {
	if apierrors.IsForbidden(err) {
		return nil
	}
	return err
}

func TestKubectl(t *testing.T) {
	env := kubetest.Shared(t)
	const manifest = "{apiVersion: v1, kind: Namespace, metadata: {name: kubectl}}"
	out, err := env.Kubectl(manifest, "create", "-f", "-")
	if err != nil || out != "namespace/kubectl created\n" {
		t.Errorf("kubectl create: %q, %v", out, err)
	}
	_, err = env.Kubectl(manifest, "create", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), `namespaces "kubectl" already exists`) {
		t.Errorf("kubectl create, again: %v", err)
	}
}

// TestKilled kills a test process that has a server: the server dies with it, and what it left in the folder for
// temporary files is removed when the next server starts.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env, cmd.Stderr = append(os.Environ(), victim+"=1"), os.Stderr
	stdin, err := cmd.StdinPipe() // it ends when this does
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil {
		t.Fatalf("no server started: %q, %v", line, err)
	}
	servers := children(t, cmd.Process.Pid)
	if len(servers) != 2 {
		t.Fatalf("etcd and kube-apiserver are the processes %v", servers)
	}
	var ends []int
	for _, pid := range servers {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		ends = append(ends, fd)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("the process was not killed")
	}
	for i, fd := range ends {
		const patience = 10_000 // milliseconds
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if n, err := unix.Poll(fds, patience); n != 1 {
			t.Errorf("process %d outlives the test: %v", servers[i], err)
		}
	}

	if left := folders(t, cmd.Process.Pid); len(left) != 1 {
		t.Errorf("the killed test left the folders %v", left)
	}
	kubetest.Start(t, kubetest.Options{})
	if left := folders(t, cmd.Process.Pid); len(left) != 0 {
		t.Errorf("the next server did not remove the folders %v", left)
	}
}

// children returns the processes whose parent is pid.
func children(t *testing.T, parent int) []int {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, file := range files {
		stat, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it ended
		}
		if err != nil {
			t.Fatal(err)
		}
		// pid (command) state ppid: proc_pid_stat(5)
		_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
		if fields := strings.Fields(rest); fields[1] == strconv.Itoa(parent) {
			pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			if err != nil {
				t.Fatal(err)
			}
			pids = append(pids, pid)
		}
	}
	return pids
}

// newer returns what is in now and not in before.
func newer(now, before []int) []int {
	return slices.DeleteFunc(now, func(pid int) bool { return slices.Contains(before, pid) })
}

// folders returns the folders of a process's servers.
func folders(t *testing.T, pid int) []string {
	t.Helper()
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), fmt.Sprintf("tailgate-kubetest-%d", os.Getuid()), fmt.Sprintf("%d-*", pid)))
	if err != nil {
		t.Fatal(err)
	}
	return dirs
}

// TestBadFlag shows that the reason why a server does not start is told, and that nothing is left.
func TestBadFlag(t *testing.T) {
	before := children(t, os.Getpid())
	left := folders(t, os.Getpid())
	err := kubetest.TryStart(t.Context(), kubetest.Options{Flags: map[string]string{"no-such-flag": "x"}})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("a server with a flag that does not exist: %v", err)
	}
	if after := newer(children(t, os.Getpid()), before); len(after) > 0 {
		t.Errorf("processes %v are left", after)
	}
	if diff := cmp.Diff(left, folders(t, os.Getpid())); diff != "" {
		t.Errorf("folders (-before +after):\n%s", diff)
	}
}

// TestRoot finds the repository from a nested module, too, and not from outside.
func TestRoot(t *testing.T) {
	root := kubetest.Root(t)
	t.Chdir(filepath.Join(root, "test", "lab", "kube"))
	if got := kubetest.Root(t); got != root {
		t.Errorf("from a nested module the repository is %s, want %s", got, root)
	}
	outside := t.TempDir()
	t.Chdir(outside)
	want := "find the repository: neither " + outside + " nor a folder above it has tailgate's go.mod"
	if _, err := kubetest.FindRoot(); err == nil || err.Error() != want {
		t.Errorf("from outside: %v, want %s", err, want)
	}
}
