//go:build linux

package tailscaled

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// roleEnv makes a process of this program the one that becomes a tailscaled.
const roleEnv = "TAILGATE_BENCH_TAILSCALED"

// MaybeExec never returns in a process that [Process.Start] started; in any other it does nothing. Programs that start
// a tailscaled call it first of all.
func MaybeExec() {
	if os.Getenv(roleEnv) == "" {
		return
	}
	if err := hideAndExec(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "tailscaled:", err)
	}
	os.Exit(1)
}

// hideAndExec becomes the program args[0]. In the mount namespace of its own, which it was started in, the machine's
// resolv.conf and system bus are covered first: a tailscaled tidies up the DNS of the machine that it
// runs on, even with nothing to configure. Descriptor 3 is a pipe: it ends when the program has been executed, and
// says before that why not.
func hideAndExec(args []string) error {
	const told = 3
	unix.CloseOnExec(told)
	err := hide("/etc", "/run/dbus", "/var/run/dbus")
	if err == nil {
		if err = os.Unsetenv(roleEnv); err == nil {
			err = os.NewSyscallError("execve", unix.Exec(args[0], args, os.Environ()))
		}
	}
	return errors.Join(err, say(told, err))
}

func say(fd int, err error) error {
	_, werr := unix.Write(fd, []byte(err.Error()))
	return werr
}

// hide covers folders with empty ones. What a program needs of /etc has an answer when it is
// missing (nsswitch.conf(5), resolv.conf(5)).
func hide(dirs ...string) error {
	covered := map[string]bool{}
	for _, dir := range dirs {
		path, err := filepath.EvalSymlinks(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
		if covered[path] {
			continue
		}
		covered[path] = true
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, "size=1m"); err != nil {
			return fmt.Errorf("hide %s: %w", dir, err)
		}
	}
	return nil
}
