package install

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// look looks at everything once, changes what is not as the mode wants it, and returns how long to wait at most
// before the next look.
func (i *Installer) look() time.Duration {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.gone {
		return again
	}
	if i.opts.Mode == Disabled {
		if err := i.takeOut(); err != nil {
			i.set(Status{State: Unready, Reason: NotWritable, Message: sentence(err)})
			return again
		}
		i.set(Status{State: Ready, Reason: Installed, Message: "no configuration refers to tailgate-cni, as cni.mode disabled wants it"})
		return again
	}
	binErr := i.installBinary()
	if i.opts.Mode == Binary || binErr != nil && !i.binaryUsable() {
		// Without the binary, the entry would keep every pod from starting.
		confErr := i.restore("")
		switch {
		case binErr != nil:
			i.set(Status{State: Unready, Reason: BinaryNotInstalled, Message: sentence(errors.Join(binErr, confErr))})
		case confErr != nil:
			i.set(Status{State: Unready, Reason: NotWritable, Message: sentence(confErr)})
		default:
			i.set(Status{State: Ready, Reason: Installed, Message: "the binary is in " + i.opts.BinDir + ", and no configuration of ours refers to it"})
		}
		return again
	}
	return i.chain(binErr)
}

// chain puts the entry into the configuration that the runtime uses, and takes it out of the others. binErr is why the
// binary is not the newest.
func (i *Installer) chain(binErr error) time.Duration {
	p, err := find(i.opts.ConfDir)
	if err != nil {
		if r, refused := errors.AsType[*refusal](err); refused || errors.Is(err, errNone) {
			if err := i.retreat(p); err != nil && r != nil {
				r.why = errors.Join(r.why, err)
			}
		}
		return i.cannot(err)
	}
	path, text, err := i.want(p)
	if err != nil {
		return i.cannot(err)
	}
	s := Status{State: Ready, Reason: Installed, File: path, Patches: i.Status().Patches}
	if text != nil {
		now := time.Now()
		if wait := i.patches.next(now); wait > 0 {
			i.set(Status{State: Unready, Reason: Contended, Message: fmt.Sprintf(
				"%s was changed %d times within %v by another program that takes tailgate-cni out; members that start now get their tailnet late. Let that program keep what others chain (Cilium: cni.exclusive=false)",
				path, burst, window)})
			return wait
		}
		i.patches.took(now)
		if err := i.write(p, path, text); err != nil {
			return i.cannot(err)
		}
		s.Patches++
	}
	if err := i.restore(path); err != nil {
		return i.cannot(err)
	}
	s.Message = "tailgate-cni is in " + path
	if p.list != nil && p.list.foreign() {
		s.Message += ", where somebody put it"
	}
	if binErr != nil {
		s.State, s.Reason, s.Message = Unready, BinaryNotInstalled, sentence(binErr)+"; an older one is in use"
	}
	i.set(s)
	return again
}

// retreat makes room for a configuration that is not to be touched: the entry does not stay in p, if it is there,
// nor a list that stands for a single plugin as it was before.
func (i *Installer) retreat(p *place) error {
	all, err := names(i.opts.ConfDir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range all {
		path := filepath.Join(i.opts.ConfDir, name)
		if f, err := readFile(path); err == nil && (convertedFrom(f) != "" || p != nil && p.file.path == path) {
			errs = append(errs, i.restoreFile(path))
		}
	}
	return errors.Join(errs...)
}

// cannot sets the status that err stands for.
func (i *Installer) cannot(err error) time.Duration {
	_, refused := errors.AsType[*refusal](err)
	switch {
	case errors.Is(err, errChanged):
		return settle // the change is looked at next
	case errors.Is(err, errNone):
		i.set(Status{State: Waiting, Reason: NoNetworkConfig, Message: i.opts.ConfDir + " has no network configuration yet"})
	case refused:
		i.set(Status{State: Unready, Reason: NotUnderstood, Message: sentence(err)})
	default:
		i.set(Status{State: Unready, Reason: NotWritable, Message: sentence(err) + "; let the agent write there, or set cni.mode to binary and chain tailgate-cni yourself"})
	}
	return again
}

// want returns the file that is to have the entry and its text; nil: it has it already.
func (i *Installer) want(p *place) (path string, text []byte, err error) {
	if p.list != nil {
		text = p.list.with(i.entry)
		if bytes.Equal(text, p.file.text) {
			text = nil
		}
		return p.file.path, text, nil
	}
	path = convertedPath(p.file.path)
	if text, err = convert(p.file, i.entry); err != nil {
		return path, nil, &refusal{p.file.path, err}
	}
	there, err := readFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return path, text, nil
	case err != nil:
		return path, nil, &refusal{path, err}
	case bytes.Equal(there.text, text):
		return path, nil, nil
	}
	return path, text, nil // find skipped it, so it is ours
}

// write puts text at path, after a last look at whether libcni takes it.
func (i *Installer) write(p *place, path string, text []byte) error {
	made := &file{path: path, text: text}
	if err := verify(made); err != nil {
		return &refusal{p.file.path, fmt.Errorf("would not be understood with tailgate-cni in it: %w", err)}
	}
	if p.list == nil {
		return create(path, text, p.file)
	}
	return p.file.replace(text)
}

// verify reads f as it will be read after it is written.
func verify(f *file) error {
	s, err := root(f.text)
	if err != nil {
		return err
	}
	l, err := listIn(f, s)
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New("has no list")
	}
	return l.check()
}

// listIn returns the list of f, which is one, or is Multus' and holds one; nil: there is none.
func listIn(f *file, s span) (*list, error) {
	if filepath.Ext(f.path) != listExtension {
		keys, err := fields(f.text, s)
		if err != nil {
			return nil, err
		}
		delegates, err := elements(f.text, keys["delegates"])
		if err != nil || len(delegates) == 0 {
			return nil, nil
		}
		s = delegates[0]
	}
	return parseList(f.text, s)
}

// restore takes the entry out of all files but that at keep.
func (i *Installer) restore(keep string) error {
	all, err := names(i.opts.ConfDir)
	if err != nil {
		return fmt.Errorf("list %s: %w", i.opts.ConfDir, err)
	}
	var errs []error
	for _, name := range all {
		if path := filepath.Join(i.opts.ConfDir, name); path != keep {
			errs = append(errs, i.restoreFile(path))
		}
	}
	return errors.Join(errs...)
}

// restoreFile takes the entry out of the file at path, if it is there, or removes the file if it was made here.
func (i *Installer) restoreFile(path string) error {
	for {
		f, err := readFile(path)
		if err != nil || !bytes.Contains(f.text, []byte(managedByUs)) {
			return nil // not there, or not in it
		}
		if convertedFrom(f) != "" {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			i.log.Info("CNI plugin: removed the list made of a single plugin", "file", path)
			return syncFolder(i.opts.ConfDir)
		}
		text, err := withoutEntry(f)
		if err != nil {
			return fmt.Errorf("%s has the entry of tailgate-cni still, but: %w; take it out by hand", path, err)
		}
		if bytes.Equal(text, f.text) {
			return nil
		}
		err = f.replace(text)
		if errors.Is(err, errChanged) {
			continue
		}
		if err == nil {
			i.log.Info("CNI plugin: taken out of a network configuration", "file", path)
		}
		return err
	}
}

// withoutEntry returns the text of f without the entry.
func withoutEntry(f *file) ([]byte, error) {
	s, err := root(f.text)
	if err != nil {
		return nil, err
	}
	l, err := listIn(f, s)
	if err != nil {
		return nil, err
	}
	if l == nil {
		return f.text, nil
	}
	text, _ := l.without()
	return text, nil
}

// Uninstall takes the entry out of every file, and then the binary away, unless it is to be kept. Run, if it goes on,
// puts nothing back. What could be taken out is out even with an error, and it may be called again.
func (i *Installer) Uninstall() error {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.gone = true
	if err := i.takeOut(); err != nil {
		i.set(Status{State: Unready, Reason: NotWritable, Message: sentence(err)})
		return fmt.Errorf("uninstall CNI plugin: %w", err)
	}
	i.set(Status{State: Ready, Reason: Uninstalled, Message: "tailgate-cni is taken out"})
	return nil
}

// takeOut leaves the binary while a configuration needs it.
func (i *Installer) takeOut() error {
	err := errors.Join(i.restore(""), removeTemps(i.opts.ConfDir), removeTemps(i.opts.BinDir))
	if err != nil || i.opts.KeepBinary {
		return err
	}
	return i.removeBinary()
}

// sentence returns an error on one line.
func sentence(err error) string {
	return string(bytes.ReplaceAll([]byte(err.Error()), []byte("\n"), []byte("; ")))
}
