package config

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// bench is a loader under test: what it told, and the clock it reads.
type bench struct {
	*Loader
	path    string
	changes []string
	errs    []string
	now     time.Time
	refuse  error // what OnChange returns
}

func newBench(t *testing.T, content string) *bench {
	t.Helper()
	b := &bench{path: write(t, content), now: time.Unix(1000, 0)}
	b.Loader = NewLoader(LoaderOptions{
		Path: b.path,
		Now:  func() time.Time { return b.now },
		OnChange: func(_ context.Context, c Change) error {
			b.now = b.now.Add(3 * time.Millisecond) // applying takes this long
			if b.refuse != nil {
				return b.refuse
			}
			what := c.Config.Prefs.Hostname
			if c.ConfigChanged {
				what += " config"
			}
			if c.AuthKeyChanged {
				what += " key"
			}
			b.changes = append(b.changes, what)
			return nil
		},
		OnError: func(err error) { b.errs = append(b.errs, err.Error()) },
	})
	return b
}

// expect reloads a second later and compares what was told since the last time.
func (b *bench) expect(t *testing.T, changes, errs []string) {
	t.Helper()
	b.now = b.now.Add(time.Second).Truncate(time.Second)
	b.changes, b.errs = nil, nil
	b.Reload(t.Context())
	for i := range b.errs {
		b.errs[i] = strings.ReplaceAll(b.errs[i], filepath.Dir(b.path), "DIR")
	}
	if diff := cmp.Diff([][]string{changes, errs}, [][]string{b.changes, b.errs}); diff != "" {
		t.Errorf("changes, errors (-want +got):\n%s", diff)
	}
}

// status compares the status; want.Errors need name only what is not zero.
func (b *bench) status(t *testing.T, want Status) {
	t.Helper()
	got := b.Status()
	counts := map[Reason]int{}
	for _, r := range Reasons() {
		counts[r] = 0
	}
	maps.Copy(counts, want.Errors)
	want.Errors = counts
	if diff := cmp.Diff(want, got, cmpopts.EquateErrors()); diff != "" {
		t.Errorf("status (-want +got):\n%s", diff)
	}
}

func (b *bench) write(t *testing.T, content string) {
	t.Helper()
	must(t, os.WriteFile(b.path, []byte(content), 0o600))
}

func named(hostname string) string { return `{"Version": "alpha0", "Hostname": "` + hostname + `"}` }

func TestLoader(t *testing.T) {
	b := newBench(t, named("one"))
	b.status(t, Status{})
	if b.Current() != nil {
		t.Error("there is a configuration before the first")
	}

	b.expect(t, []string{"one config"}, nil)
	one := b.Current()
	first := Status{LastReload: time.Unix(1001, 3e6), Hash: one.Hash, Result: "applied", Generation: 1, Latency: 3 * time.Millisecond}
	b.status(t, first)

	b.expect(t, nil, nil) // nothing new
	b.status(t, first)

	const cut = "config file DIR/config.json, line 1: the file ends in the middle; it was cut off or lacks a closing quote, bracket or comment end: write it whole"
	b.write(t, named("two")[:30])
	b.expect(t, nil, []string{cut})
	bad := first
	bad.LastReload, bad.Result, bad.Errors = time.Unix(1003, 0), "syntax", map[Reason]int{Syntax: 1}
	bad.Err = b.Status().Err
	if e, ok := errors.AsType[*Error](bad.Err); !ok || e.Reason != Syntax {
		t.Errorf("Status.Err = %v", bad.Err)
	}
	b.status(t, bad)
	if b.Current() != one {
		t.Error("the last good configuration is not in force any more")
	}

	b.expect(t, nil, nil) // told already
	b.status(t, bad)

	b.write(t, named("two")[:31]) // bad in another way
	b.expect(t, nil, []string{cut})

	b.write(t, named("one")) // back: nothing to put into force
	b.expect(t, nil, nil)
	mended := first
	mended.LastReload, mended.Errors = time.Unix(1006, 0), map[Reason]int{Syntax: 2}
	b.status(t, mended)

	must(t, os.Remove(b.path))
	const missing = "config file DIR/config.json does not exist; write it, or name another file"
	b.expect(t, nil, []string{missing})
	b.expect(t, nil, nil)

	b.write(t, named("two"))
	b.expect(t, []string{"two config"}, nil)
	b.status(t, Status{
		LastReload: time.Unix(1009, 3e6), Hash: b.Current().Hash, Result: "applied", Generation: 2,
		Errors: map[Reason]int{Syntax: 2, Unreadable: 1}, Latency: 3 * time.Millisecond,
	})
	must(t, os.Remove(b.path)) // a fault is told again after it was mended
	b.expect(t, nil, []string{missing})
}

func TestLoaderApplyFails(t *testing.T) {
	b := newBench(t, named("one"))
	b.refuse = errors.New("no")
	want := "apply config " + hashOf([]byte(named("one"))) + " from DIR/config.json: no"
	b.expect(t, nil, []string{want})
	if b.Current() != nil {
		t.Error("a configuration that was not applied is in force")
	}
	b.status(t, Status{LastReload: time.Unix(1001, 3e6), Result: "apply_failed", Err: b.refuse, Errors: map[Reason]int{ApplyFailed: 1}})
	b.expect(t, nil, nil) // tried again, told once
	b.refuse = nil
	b.expect(t, []string{"one config"}, nil)
	b.status(t, Status{
		LastReload: time.Unix(1003, 3e6), Hash: b.Current().Hash, Result: "applied", Generation: 1,
		Errors: map[Reason]int{ApplyFailed: 1}, Latency: 3 * time.Millisecond,
	})
}

func TestLoaderAuthKey(t *testing.T) {
	b := newBench(t, "")
	key := filepath.Join(filepath.Dir(b.path), "key")
	config := `{"Version": "alpha0", "Hostname": "one", "AuthKey": "file:` + key + `"}`
	const missing = "auth key file DIR/key does not exist; write it, or name another file"

	b.write(t, config)
	b.expect(t, []string{"one config"}, []string{missing})
	if s := b.Status(); s.AuthKeyErr == nil || s.Err != nil || s.Errors[BadAuthKey] != 1 {
		t.Errorf("status without a key: %+v", s)
	}
	b.expect(t, nil, nil)

	must(t, os.WriteFile(key, []byte("first"), 0o600))
	b.expect(t, []string{"one key"}, nil)
	if s := b.Status(); s.AuthKeyErr != nil || s.Generation != 1 {
		t.Errorf("status with a key: %+v", s)
	}
	must(t, os.WriteFile(key, []byte("first\n"), 0o600)) // the same key
	b.expect(t, nil, nil)

	b.write(t, "{")
	must(t, os.WriteFile(key, []byte("second"), 0o600)) // new, though the config is bad
	b.expect(t, []string{"one key"}, []string{"config file DIR/config.json, line 1: the file ends in the middle; it was cut off or lacks a closing quote, bracket or comment end: write it whole"})
	if s := b.Status(); s.Err == nil || s.Result != "syntax" {
		t.Errorf("status with a bad file: %+v", s)
	}

	b.write(t, config)
	must(t, os.Remove(key)) // not a change: the old key may still be good
	b.expect(t, nil, []string{missing})
	must(t, os.WriteFile(key, []byte("second"), 0o600))
	b.expect(t, nil, nil)

	b.write(t, `{"Version": "alpha0", "Hostname": "two", "AuthKey": "second"}`)
	b.expect(t, []string{"two config"}, nil)
	b.write(t, `{"Version": "alpha0", "Hostname": "three"}`)
	b.expect(t, []string{"three config key"}, nil)
}

// TestLoaderRun follows real files with real events.
func TestLoaderRun(t *testing.T) {
	dir := t.TempDir()
	config, keys, more := &volume{dir: filepath.Join(dir, "config")}, &volume{dir: filepath.Join(dir, "keys")}, &volume{dir: filepath.Join(dir, "more")}
	for _, v := range []*volume{config, keys, more} {
		must(t, os.Mkdir(v.dir, 0o755))
	}
	withKey := func(v *volume) string {
		return `{"Version": "alpha0", "AuthKey": "file:` + filepath.Join(v.dir, "key") + `"}`
	}
	config.put(t, "c", withKey(keys))
	keys.put(t, "key", "first")
	more.put(t, "key", "second")

	type told struct{ Config, Key bool }
	changes, errs := make(chan told, 10), make(chan error, 10)
	l := NewLoader(LoaderOptions{
		Path: filepath.Join(config.dir, "c"),
		OnChange: func(_ context.Context, c Change) error {
			changes <- told{c.ConfigChanged, c.AuthKeyChanged}
			return nil
		},
		OnError: func(err error) { errs <- err },
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx) }()
	expect := func(want told) {
		t.Helper()
		select {
		case got := <-changes:
			if got != want {
				t.Errorf("told %+v, want %+v", got, want)
			}
		case err := <-errs:
			t.Errorf("told %v, want %+v", err, want)
		case <-time.After(patience):
			t.Fatalf("not told %+v", want)
		}
	}
	expect(told{Config: true, Key: true})
	keys.put(t, "key", "third")
	expect(told{Key: true})
	config.put(t, "c", withKey(more))
	expect(told{Config: true, Key: true})
	more.put(t, "key", "fourth") // a path that became known while running
	expect(told{Key: true})
	config.put(t, "c", "{")
	select {
	case err := <-errs:
		if e, ok := errors.AsType[*Error](err); !ok || e.Reason != Syntax {
			t.Errorf("told %v", err)
		}
	case <-time.After(patience):
		t.Fatal("not told of a bad file")
	}
	config.put(t, "c", `{"Version": "alpha0"}`)
	expect(told{Config: true, Key: true})
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if s := l.Status(); s.Generation != 3 || s.Latency <= 0 || s.Result != applied {
		t.Errorf("status at the end: %+v", s)
	}
	if err := l.Run(ctx); err != nil {
		t.Errorf("Run after its context ended: %v", err)
	}
}

// The caller's view of Status must not lag: it is told once Status has changed, and also of a
// faulty file that becomes the one in force again, which changes nothing.
func TestLoaderTellsWhenApplied(t *testing.T) {
	const good = `{"Version":"alpha0"}`
	path := write(t, good)
	var l *Loader
	var told []Status
	l = NewLoader(LoaderOptions{Path: path, OnApplied: func() { told = append(told, l.Status()) }})
	for _, content := range []string{good, good, `{"Version":`, good} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		l.Reload(t.Context())
	}
	if len(told) != 2 {
		t.Fatalf("told %d times, want 2: first applied, mended", len(told))
	}
	for i, s := range told {
		if s.Hash != l.Current().Hash || s.Generation != 1 || s.Err != nil || s.Result != applied {
			t.Errorf("told %d: %+v", i, s)
		}
	}
}
