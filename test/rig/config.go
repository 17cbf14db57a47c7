//go:build linux

package rig

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
	"tailscale.com/ipn"
	"tailscale.com/types/opt"
)

// Names in the volumes.
const (
	configFile = "config.json"
	keyFile    = "authkey"
)

// WriteConfig writes the configuration as kubelet writes a ConfigMap, and returns the hash that a
// snapshot tells once it is applied. The configuration is the rig's own (control plane, auth key, name, routes
// accepted, no exit node), changed by edit, never the one written before; nil changes nothing.
func (g *Gateway) WriteConfig(edit func(*ipn.ConfigVAlpha)) (hash string, err error) {
	c := ipn.ConfigVAlpha{
		Version:      "alpha0",
		ServerURL:    new(g.r.Tailnet.ControlURL()),
		AuthKey:      new("file:" + filepath.Join(g.dir, "auth", keyFile)),
		Hostname:     new(g.Name),
		AcceptRoutes: opt.NewBool(true),
	}
	if edit != nil {
		edit(&c)
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode configuration: %w", err)
	}
	return g.WriteRawConfig(raw)
}

// WriteRawConfig writes any bytes as the configuration; see [Gateway.WriteConfig].
func (g *Gateway) WriteRawConfig(raw []byte) (hash string, err error) {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])[:12], g.swap("config", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, configFile), raw, 0o644)
	})
}

// WriteUnreadableConfig puts something in the configuration's place that nobody can read as a
// file, root included: a folder.
func (g *Gateway) WriteUnreadableConfig() error {
	return g.swap("config", func(dir string) error { return os.Mkdir(filepath.Join(dir, configFile), 0o755) })
}

// SetAuthKey replaces the auth key as kubelet replaces a Secret's.
func (g *Gateway) SetAuthKey(key string) error {
	return g.swap("auth", func(dir string) error {
		return os.WriteFile(filepath.Join(dir, keyFile), []byte(key+"\n"), 0o600)
	})
}

// swap replaces the content of a volume as kubelet's atomic writer does
// (k8s.io/kubernetes/pkg/volume/util/atomic_writer.go): a new folder with a name of its own, the symlink ..data
// renamed over the old one to lead there, file names that are symlinks through ..data, the old folder removed.
func (g *Gateway) swap(volume string, fill func(dir string) error) error {
	root := filepath.Join(g.dir, volume)
	data := filepath.Join(root, "..data")
	fresh := filepath.Join(root, ".."+strconv.FormatInt(time.Now().UnixNano(), 10))
	old, err := os.Readlink(data)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("write volume %s: %w", volume, err)
	}
	err = errors.Join(os.Mkdir(fresh, 0o755), fill(fresh), os.Symlink(filepath.Base(fresh), data+"_tmp"))
	if err == nil {
		err = os.Rename(data+"_tmp", data)
	}
	if err != nil {
		return fmt.Errorf("write volume %s: %w", volume, err)
	}
	entries, err := os.ReadDir(fresh)
	if err != nil {
		return fmt.Errorf("write volume %s: %w", volume, err)
	}
	for _, e := range entries {
		err := os.Symlink(filepath.Join("..data", e.Name()), filepath.Join(root, e.Name()))
		if err != nil && !errors.Is(err, os.ErrExist) {
			return fmt.Errorf("write volume %s: %w", volume, err)
		}
	}
	if old != "" {
		return os.RemoveAll(filepath.Join(root, old))
	}
	return nil
}

// readOnlyDir is the name of the one mount that a rig makes.
const readOnlyDir = "read-only"

// ReadOnlyDir makes a folder that not even root can write, and a function that makes it writable. A rig has
// one; the second call fails.
func (r *Rig) ReadOnlyDir() (dir string, unlock func() error, err error) {
	dir = filepath.Join(r.dir, readOnlyDir)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", nil, fmt.Errorf("make folder that cannot be written: %w", err)
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_RDONLY, "mode=0700"); err != nil {
		return "", nil, os.NewSyscallError("mount "+dir, err)
	}
	r.mu.Lock()
	r.mount = dir
	r.mu.Unlock()
	return dir, func() error {
		return os.NewSyscallError("remount "+dir, unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, ""))
	}, nil
}
