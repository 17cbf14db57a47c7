package attachments

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// maxFile is the most bytes of a file that is read. Real ones have a few thousand.
const maxFile = 1 << 20

// look is what was found at one name in the cache.
type look struct {
	name string
	record
	err error // fs.ErrNotExist: nothing; errForeign: nothing of interest
}

// readFile looks at one name.
func (s *Store) readFile(name string) look {
	l := look{name: name}
	data, info, err := readRegular(filepath.Join(s.opts.Dir, name))
	if err == nil {
		l.at = info.ModTime()
		l.Claim, err = parse(data)
	}
	l.err = err
	return l
}

func readRegular(path string) (data []byte, info fs.FileInfo, err error) {
	// O_NONBLOCK, so that a FIFO does not hang us.
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	// The time before the content: content that changes in between gets a time too early, and its event
	// makes us read again.
	info, err = f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, errForeign
	}
	data, err = io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("the file has more than %d bytes", maxFile)
	}
	return data, info, err
}

// readAll looks at all that is in the cache, and at all that was.
func (s *Store) readAll() []look {
	names := map[string]bool{}
	entries, err := os.ReadDir(s.opts.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // no pod was ever attached here
	}
	for _, e := range entries {
		names[e.Name()] = true
	}
	s.change(func() {
		s.listErr = s.tell("cannot list the CNI result cache", s.listErr, err)
		for name := range s.files {
			names[name] = true
		}
		for name := range s.problems {
			names[name] = true
		}
	})
	var looks []look
	for name := range names {
		looks = append(looks, s.readFile(name))
	}
	return looks
}

// take makes known what was found, and if recheck looks whether all namespaces are still there.
func (s *Store) take(looks []look, recheck bool) {
	if s.closed {
		return
	}
	for _, l := range looks {
		was := s.problems[l.name]
		delete(s.problems, l.name)
		switch {
		case l.err == nil:
			s.setFile(l.name, l.record, true)
		case errors.Is(l.err, fs.ErrNotExist), errors.Is(l.err, errForeign):
			s.setFile(l.name, record{}, false)
		default: // what it said before stands
			s.problems[l.name] = s.tell("cannot use a file of the CNI result cache", was, l.err, "file", l.name)
		}
	}
	if recheck {
		for _, b := range slices.Collect(maps.Values(s.sandboxes)) {
			s.check(b, false)
		}
	}
}
