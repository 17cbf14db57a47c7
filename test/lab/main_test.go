package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/test/lab"
)

// The tests run in a PID and a mount namespace of their own, so that they can compare all processes and all
// mounts from before and after, whatever else goes on on the machine.
const (
	modeVar = "TAILGATE_LAB_TEST" // "init", "test" or "up"
	dirVar  = "TAILGATE_LAB_TEST_DIR"
)

func TestMain(m *testing.M) {
	var err error
	code := 1
	switch os.Getenv(modeVar) {
	case "":
		code, err = isolate()
	case "init":
		code, err = reapFor()
	case "up":
		code, err = upOnly()
	case "test":
		code = m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "test of the lab:", err)
	}
	os.Exit(code)
}

// isolate runs this program again, as process 1 of new namespaces.
func isolate() (int, error) {
	if os.Geteuid() != 0 {
		return 1, errors.New("the tests make namespaces and mounts: run them as root")
	}
	cache, err := lab.CacheDir()
	if err != nil {
		return 1, err
	}
	all := filepath.Join(cache, "test")
	if err := sweep(all); err != nil {
		return 1, err
	}
	dir := filepath.Join(all, strconv.Itoa(os.Getpid()))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return 1, err
	}
	//nolint:noctx // it has the time limit of the test
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), modeVar+"=init", dirVar+"="+dir)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID, Unshareflags: unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
	}
	code, err := exitCode(c.Run())
	return code, errors.Join(err, sweepOf(dir))
}

// exitCode tells a program that failed from one that could not be run.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return max(exit.ExitCode(), 1), nil
	}
	if err != nil {
		return 1, err
	}
	return 0, nil
}

// sweep ends labs of tests that were killed; the folder of each is named as its process was.
func sweep(all string) error {
	dirs, err := filepath.Glob(filepath.Join(all, "*"))
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if _, err := os.Stat(filepath.Join("/proc", filepath.Base(dir))); errors.Is(err, fs.ErrNotExist) {
			if err := sweepOf(dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// sweepOf ends the labs that a test left, and removes its folder.
func sweepOf(dir string) error {
	labs, err := filepath.Glob(filepath.Join(dir, "*", "lab.json"))
	if err != nil {
		return err
	}
	for _, f := range labs {
		if err := lab.Down(context.Background(), dir, filepath.Base(filepath.Dir(f))); err != nil {
			return err
		}
	}
	return os.RemoveAll(dir)
}

// reapFor runs the tests and collects orphans, as process 1 has to.
func reapFor() (int, error) {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return 1, os.NewSyscallError("mount /proc", err)
	}
	if err := ownNamedNetNS(); err != nil {
		return 1, err
	}
	//nolint:noctx // it has the time limit of the test
	c := exec.Command("/proc/self/exe", os.Args[1:]...)
	c.Env = append(os.Environ(), modeVar+"=test")
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := c.Start(); err != nil {
		return 1, err
	}
	for {
		var st unix.WaitStatus
		pid, err := unix.Wait4(-1, &st, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return 1, os.NewSyscallError("wait", err)
		}
		if pid == c.Process.Pid {
			if st.Signaled() {
				return 1, fmt.Errorf("the tests ended by %v", st.Signal())
			}
			return st.ExitStatus(), nil
		}
	}
}

// ownNamedNetNS lets go of the machine's named network namespaces, which ours would keep alive, and makes a
// place for the tests' own.
func ownNamedNetNS() error {
	const dir = "/run/netns"
	if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return os.NewSyscallError("unmount "+dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return os.NewSyscallError("mount "+dir, err)
	}
	// As package netns makes it with the first name.
	return os.NewSyscallError("share "+dir, unix.Mount("", dir, "", unix.MS_SHARED, ""))
}

// upOnly starts a lab, as "lab up" does, for a test that kills it; its progress goes to standard output.
func upOnly() (int, error) {
	o := options(os.Args[len(os.Args)-1])
	o.Out = os.Stdout
	if _, err := lab.Up(context.Background(), o); err != nil {
		return 1, err
	}
	fmt.Println("up")
	select {}
}

// options are those of a lab in the tests' folder.
func options(name string) lab.Options {
	return lab.Options{Name: name, Dir: os.Getenv(dirVar)}
}
