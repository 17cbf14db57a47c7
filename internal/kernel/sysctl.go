//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netstate"
)

const sysctlRoot = "/proc/sys"

func sysctlPath(key string) (string, error) {
	// Only what is below net belongs to a network namespace.
	if !filepath.IsLocal(key) || !strings.HasPrefix(key, "net/") {
		return "", fmt.Errorf("sysctl %q: write the path below /proc/sys of one that a network namespace has, as in net/ipv4/ip_forward", key)
	}
	return filepath.Join(sysctlRoot, key), nil
}

// readSysctl must run in the namespace. The value has single spaces.
func readSysctl(key string) (string, error) {
	path, err := sysctlPath(key)
	if err != nil {
		return "", err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read sysctl: %w", err)
	}
	return strings.Join(strings.Fields(string(b)), " "), nil
}

// sysctls returns the sysctls that the kernel has, of those that keys name.
func (n *Namespace) sysctls(keys []string) ([]netstate.Sysctl, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	var list []netstate.Sysctl
	err := n.ns.Do(func() error {
		for _, key := range keys {
			value, err := readSysctl(key)
			if errors.Is(err, os.ErrNotExist) {
				continue // its link or its protocol is not there
			}
			if err != nil {
				return err
			}
			list = append(list, netstate.Sysctl{Key: key, Value: value})
		}
		return nil
	})
	return list, err
}

// setSysctl writes a sysctl that has another value. Many a container sees /proc/sys
// read-only; what is right already must not fail there, and what is not is written where the container may have
// the same files once more (ident.HostSysctls).
func (n *Namespace) setSysctl(want netstate.Sysctl) error {
	return n.ns.Do(func() error {
		have, err := readSysctl(want.Key)
		if err != nil {
			return err
		}
		value := strings.Join(strings.Fields(want.Value), " ")
		if have == value {
			return nil
		}
		err = os.WriteFile(filepath.Join(sysctlRoot, want.Key), []byte(value), 0)
		if errors.Is(err, unix.EROFS) {
			if herr := os.WriteFile(filepath.Join(ident.HostSysctls, want.Key), []byte(value), 0); !errors.Is(herr, os.ErrNotExist) {
				err = herr
			}
		}
		if errors.Is(err, unix.EROFS) || errors.Is(err, os.ErrPermission) {
			return fmt.Errorf("%s is %q and should be %q: %w: %w", want.Key, have, value, ErrReadOnly, err)
		}
		if err != nil {
			return fmt.Errorf("write sysctl: %w", err)
		}
		return nil
	})
}

// Conntrack returns how many connections the namespace tracks, and how many it may.
// The error wraps os.ErrNotExist where the kernel tracks none.
func (n *Namespace) Conntrack() (used, limit int, err error) {
	err = n.ns.Do(func() error {
		var err error
		if used, err = readNumber("net/netfilter/nf_conntrack_count"); err != nil {
			return err
		}
		limit, err = readNumber("net/netfilter/nf_conntrack_max")
		return err
	})
	return used, limit, err
}

func readNumber(key string) (int, error) {
	s, err := readSysctl(key)
	if err != nil {
		return 0, err
	}
	v, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("sysctl %s: %w", key, err)
	}
	return v, nil
}
