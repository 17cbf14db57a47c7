package node

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"go4.org/mem"
	"tailscale.com/types/key"
)

// discoKey returns the disco key kept in dir, or makes one. Tailscale makes a new one
// at each start; peers then take the node for a restarted one and drop their
// session with it, which costs seconds, and all of the time that the control plane is away.
func discoKey(dir string) (key.DiscoPrivate, error) {
	file := filepath.Join(dir, "disco.key")
	raw, err := os.ReadFile(file)
	if err == nil && len(raw) == 32 {
		return key.DiscoPrivateFromRaw32(mem.B(raw)), nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return key.DiscoPrivate{}, fmt.Errorf("read disco key: %w", err)
	}
	raw = make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return key.DiscoPrivate{}, fmt.Errorf("make disco key: %w", err)
	}
	if err := writeFile(file, raw); err != nil {
		return key.DiscoPrivate{}, fmt.Errorf("keep disco key: %w", err)
	}
	return key.DiscoPrivateFromRaw32(mem.B(raw)), nil
}

// writeFile replaces file atomically, readable by its owner alone.
func writeFile(file string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(file), ".tmp-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}

// checkState makes the state folder, 0700, and proves that it can be written.
func checkState(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state folder %s cannot be made; give the gateway a folder that it may write with --state-dir: %w", dir, err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("state folder %s cannot be closed to others; it must belong to the gateway: %w", dir, err)
	}
	probe := filepath.Join(dir, ".probe")
	if err := writeFile(probe, nil); err != nil {
		return fmt.Errorf("state folder %s cannot be written, so the node's identity would be lost; make it writable or choose another with --state-dir: %w", dir, err)
	}
	return os.Remove(probe)
}
