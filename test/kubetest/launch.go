//go:build linux

package kubetest

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// A killed test must not leave servers behind. The kernel kills a process with its parent on request
// (PR_SET_PDEATHSIG, prctl(2)), but envtest, which starts the processes, makes no such request, so they make it
// themselves: what envtest starts is this test binary by another name (a link), which asks for
// that and becomes the real program. The request outlives execve(2). The parent that counts is
// the thread that forked, hence the locked one of [server.launch].

// launch says what a launcher becomes. It lies beside the launcher, in launchFile.
type launch struct {
	// Parent is the process ID of the test.
	Parent int
	// Assets is the folder with the real program of the same name.
	Assets string
}

const launchFile = "launch.json"

// launchers are paths of links to this test binary.
type launchers struct{ etcd, apiserver string }

// launchers makes launchers for the programs in assets.
func (f *folder) launchers(assets string) (launchers, error) {
	fail := func(err error) (launchers, error) {
		return launchers{}, fmt.Errorf("make launchers for etcd and kube-apiserver: %w", err)
	}
	self, err := os.Executable()
	if err != nil {
		return fail(err)
	}
	text, err := json.Marshal(launch{Parent: os.Getpid(), Assets: assets})
	if err != nil {
		return fail(err)
	}
	if err := os.WriteFile(f.path(launchFile), text, 0o600); err != nil {
		return fail(err)
	}
	made := launchers{etcd: f.path("launch-etcd"), apiserver: f.path("launch-kube-apiserver")}
	for _, path := range []string{made.etcd, made.apiserver} {
		if err := os.Symlink(self, path); err != nil {
			return fail(err)
		}
	}
	return made, nil
}

// init becomes the real program when this process is a launcher: here and not in [Main], so that nobody who starts a
// server can forget it. Go runs init on the main thread, so that one thread makes the request and execve.
func init() {
	var program string
	switch filepath.Base(os.Args[0]) {
	case "launch-etcd":
		program = "etcd"
	case "launch-kube-apiserver":
		program = "kube-apiserver"
	default:
		return
	}
	fmt.Fprintln(os.Stderr, become(program))
	os.Exit(1)
}

// become replaces this process by program. It returns only errors.
func become(program string) error {
	text, err := os.ReadFile(filepath.Join(filepath.Dir(os.Args[0]), launchFile))
	if err != nil {
		return fmt.Errorf("launch %s: %w", program, err)
	}
	var l launch
	if err := json.Unmarshal(text, &l); err != nil {
		return fmt.Errorf("launch %s: read %s: %w", program, launchFile, err)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("launch %s: ask to die with the test: %w", program, err)
	}
	if os.Getppid() != l.Parent {
		return fmt.Errorf("launch %s: the test that wanted it is gone", program)
	}
	path := filepath.Join(l.Assets, program)
	if err := unix.Exec(path, append([]string{path}, os.Args[1:]...), os.Environ()); err != nil {
		return fmt.Errorf("launch %s: %w", path, err)
	}
	return nil
}
