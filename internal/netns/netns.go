//go:build linux

package netns

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// currentPath names the namespace of the calling thread (network_namespaces(7)).
// Not /proc/self, which is the main thread's.
const currentPath = "/proc/thread-self/ns/net"

// ErrNotNetNS says that a file is not a network namespace.
var ErrNotNetNS = errors.New("not a network namespace")

// ID identifies a network namespace as long as it exists: the device and inode
// numbers of its file in nsfs (namespaces(7)). The zero value is no namespace.
// The kernel may give a number again once a namespace is gone, so an ID is
// only worth comparing while a [Handle] keeps its namespace alive.
type ID struct {
	Dev, Ino uint64
}

// String returns the ID as "dev:inode".
func (id ID) String() string { return fmt.Sprintf("%d:%d", id.Dev, id.Ino) }

// Handle is an open network namespace; it keeps the namespace alive. Its methods
// may be used at the same time by several goroutines, except Close.
type Handle struct {
	fd int
}

// Current returns a handle on the network namespace of the calling goroutine's thread.
func Current() (*Handle, error) { return Open(currentPath) }

// Open opens the network namespace at path, as in /run/netns/NAME or
// /proc/PID/ns/net. Any other file gives an error that wraps [ErrNotNetNS].
func Open(path string) (*Handle, error) {
	// O_NONBLOCK, so that a FIFO at path does not hang the caller.
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open network namespace: %w", &os.PathError{Op: "open", Path: path, Err: err})
	}
	h, err := FromFD(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open network namespace %s: %w", path, err), closeFD(fd))
	}
	return h, nil
}

// FromFD returns a handle that owns fd, which it marks close-on-exec. When fd is
// not a network namespace the error wraps [ErrNotNetNS], and fd stays the caller's.
func FromFD(fd int) (*Handle, error) {
	var fs unix.Statfs_t
	if err := unix.Fstatfs(fd, &fs); err != nil {
		return nil, fmt.Errorf("file system of descriptor %d: %w", fd, err)
	}
	if fs.Type != unix.NSFS_MAGIC {
		return nil, fmt.Errorf("%w: it is an ordinary file, so nothing is mounted there any more, or never was", ErrNotNetNS)
	}
	kind, err := unix.IoctlRetInt(fd, unix.NS_GET_NSTYPE) // ioctl_nsfs(2)
	if err != nil {
		return nil, fmt.Errorf("type of namespace at descriptor %d: %w", fd, err)
	}
	if kind != unix.CLONE_NEWNET {
		return nil, fmt.Errorf("%w: it is a namespace of another kind (clone flag %#x)", ErrNotNetNS, kind)
	}
	unix.CloseOnExec(fd)
	return &Handle{fd: fd}, nil
}

// Close releases the namespace. The second Close does nothing.
func (h *Handle) Close() error {
	if h.fd < 0 {
		return nil
	}
	fd := h.fd
	h.fd = -1
	return closeFD(fd)
}

func closeFD(fd int) error {
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close network namespace: %w", err)
	}
	return nil
}

// FD returns the file descriptor, which stays the handle's; -1 after Close.
func (h *Handle) FD() int { return h.fd }

// ID identifies the namespace.
func (h *Handle) ID() (ID, error) {
	var st unix.Stat_t
	if err := unix.Fstat(h.fd, &st); err != nil {
		return ID{}, fmt.Errorf("identify network namespace: %w", err)
	}
	return ID{Dev: uint64(st.Dev), Ino: st.Ino}, nil // Dev is narrower on some architectures
}

// Do runs fn in the namespace and returns its error. fn runs on a goroutine and a
// thread of its own; goroutines that fn starts are not in the namespace. The
// thread is ended when it cannot return to where it came from. Where it is in the
// namespace already it stays, and needs no CAP_SYS_ADMIN as setns(2) does: a gateway has none.
func (h *Handle) Do(fn func() error) error {
	// The error stands until fn has returned, and so also when fn ends its
	// goroutine (runtime.Goexit, as testing's FailNow does).
	err := errors.New("the function ended its goroutine")
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		home, herr := Current()
		if herr != nil {
			runtime.UnlockOSThread()
			err = herr
			return
		}
		there := h.is(home)
		defer func() {
			// A goroutine that ends while locked takes its thread with it.
			if there || unix.Setns(home.fd, unix.CLONE_NEWNET) == nil {
				runtime.UnlockOSThread()
			}
			err = errors.Join(err, home.Close())
		}()
		if !there {
			if serr := unix.Setns(h.fd, unix.CLONE_NEWNET); serr != nil {
				err = fmt.Errorf("enter network namespace: %w", serr)
				return
			}
		}
		err = fn()
	}()
	<-done
	return err
}

// is reports whether both are one namespace.
func (h *Handle) is(other *Handle) bool {
	a, aerr := h.ID()
	b, berr := other.ID()
	return aerr == nil && berr == nil && a == b
}
