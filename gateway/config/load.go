package config

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/tailscale/hujson"
	"tailscale.com/ipn/conffile"
)

const (
	// maxSize is the size of the largest file that is read, in bytes. A ConfigMap
	// cannot be larger.
	maxSize = 1 << 20
	// maxBrackets bounds how deep a file can nest. The parser recurses, and a Go
	// stack that overflows ends the process.
	maxBrackets = 10_000
	// maxReads bounds how often a file that changes while it is read is read again.
	maxReads = 5
)

// Load reads the file at path and returns what it says, checked and with its
// defaults filled in. The error is always an [*Error].
func Load(path string) (*Config, error) {
	c, err := load(path)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func load(path string) (*Config, *Error) {
	// Absolute also because conffile takes "vm:user-data" for a cloud's metadata.
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &Error{Path: path, Reason: Unreadable, Err: err, Msg: "cannot be found without a working directory; write an absolute path"}
	}
	for range maxReads {
		raw, err := readFile(abs, maxSize)
		if err != nil {
			return nil, err
		}
		if err := check(raw); err != nil {
			err.Path, err.Hash = abs, hashOf(raw)
			return nil, err
		}
		// Tailscale's own loader has the last word. It gives no line and may quote
		// what it read, so check must have found everything that it finds.
		// Its Raw is no copy of the file: hujson blanks out comments in place.
		hash := hashOf(raw)
		file, loadErr := conffile.Load(abs)
		std, stdErr := hujson.Standardize(raw)
		if loadErr == nil && stdErr == nil && bytes.Equal(file.Std, std) {
			c := newConfig(&file.Parsed)
			c.Hash, c.LoadedFrom = hash, abs
			return c, nil
		}
	}
	return nil, &Error{Path: abs, Reason: Unreadable, Msg: "changes whenever it is read; write it once, to another name, and rename it"}
}

// readFile returns the content of the regular file at path, of at most limit bytes.
func readFile(path string, limit int64) ([]byte, *Error) {
	fail := func(err error, format string, args ...any) ([]byte, *Error) {
		return nil, &Error{Path: path, Reason: Unreadable, Err: err, Msg: fmt.Sprintf(format, args...)}
	}
	// Nonblocking, because opening a FIFO waits for its writer.
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail(err, "does not exist; write it, or name another file")
	case errors.Is(err, fs.ErrPermission):
		return fail(err, "may not be read by user %d; make it and the directories above it readable", os.Geteuid())
	case err != nil:
		return fail(err, "cannot be opened: %v", cause(err))
	}
	defer f.Close()
	switch info, err := f.Stat(); {
	case err != nil:
		return fail(err, "cannot be examined: %v", cause(err))
	case info.IsDir():
		return fail(nil, "is a directory; name a file in it")
	case !info.Mode().IsRegular():
		return fail(nil, "is not a regular file; name one that is")
	}
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return fail(err, "cannot be read: %v", cause(err))
	}
	if int64(len(raw)) > limit {
		return fail(nil, "is larger than %d bytes; name the right file", limit)
	}
	return raw, nil
}

// cause returns what the system said, without the path that our messages have.
func cause(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

func hashOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])[:12]
}
