package install

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

const binaryMode = 0o755

func (i *Installer) binaryPath() string { return filepath.Join(i.opts.BinDir, pluginType) }

// installBinary copies the binary when another is there, or none. One that runs goes on from its old file.
func (i *Installer) installBinary() error {
	path := i.binaryPath()
	want, err := i.sums.of(i.opts.Plugin)
	if err != nil {
		return fmt.Errorf("read the plugin %s: %w", i.opts.Plugin, err)
	}
	info, err := os.Lstat(path)
	if err == nil && info.Mode() == binaryMode { // a regular file, too
		if have, err := i.sums.of(path); err == nil && have == want {
			return nil
		}
	}
	if err := i.copyBinary(path); err != nil {
		return fmt.Errorf("install the plugin as %s: %w", path, err)
	}
	i.log.Info("CNI plugin: binary installed", "file", path)
	return nil
}

func (i *Installer) copyBinary(path string) error {
	if err := os.MkdirAll(i.opts.BinDir, 0o755); err != nil {
		return err
	}
	in, err := os.Open(i.opts.Plugin)
	if err != nil {
		return err
	}
	defer in.Close()
	temp, err := writeTemp(i.opts.BinDir, &file{mode: binaryMode, uid: os.Geteuid(), gid: os.Getegid()}, in)
	if err != nil {
		return err
	}
	return publish(temp, path)
}

// binaryUsable says whether some version of the plugin is there.
func (i *Installer) binaryUsable() bool {
	info, err := os.Stat(i.binaryPath())
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && info.Size() > 0
}

func (i *Installer) removeBinary() error {
	err := os.Remove(i.binaryPath())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		i.log.Info("CNI plugin: binary removed", "file", i.binaryPath())
		err = syncFolder(i.opts.BinDir)
	}
	return err
}

// sums are the hashes of files, kept for as long as the files look the same. The zero value is ready.
type sums struct{ known map[string]sum }

type sum struct {
	look [5]int64 // device, inode, size, and the nanoseconds of the last change, of content and of all else
	hash [sha256.Size]byte
}

func (s *sums) of(path string) ([sha256.Size]byte, error) {
	in, err := os.Open(path)
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	defer in.Close()
	info, err := in.Stat()
	if err != nil {
		return [sha256.Size]byte{}, err
	}
	st := info.Sys().(*syscall.Stat_t)
	now := sum{look: [5]int64{int64(st.Dev), int64(st.Ino), st.Size, st.Mtim.Nano(), st.Ctim.Nano()}}
	if old, ok := s.known[path]; ok && old.look == now.look {
		return old.hash, nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, in); err != nil {
		return [sha256.Size]byte{}, err
	}
	copy(now.hash[:], h.Sum(nil))
	if s.known == nil {
		s.known = map[string]sum{}
	}
	s.known[path] = now
	return now.hash, nil
}
