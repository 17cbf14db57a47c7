package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"sync"
	"time"
)

// LoaderOptions say what a [Loader] loads and whom it tells.
type LoaderOptions struct {
	// Path is the configuration file. Its auth key file is watched, too.
	Path string
	// Debounce is that of [WatchOptions].
	Debounce time.Duration
	// Now is the clock; nil: [time.Now].
	Now func() time.Time
	// OnChange puts a change into force. It is called from Run or Reload, one call
	// at a time, and must not call Reload. When it fails, the old configuration
	// counts as in force, and the next wake-up or Reload tries again. nil: nobody
	// is told.
	OnChange func(context.Context, Change) error
	// OnError is told why a file is not in force, the auth key cannot be read or
	// something cannot be watched: once, until it changes or is mended. It is
	// called from several goroutines and must not call Reload. nil: nobody is told.
	OnError func(error)
	// OnApplied is told when the file is in force, after [Loader.Status] says so:
	// also when a faulty file was mended without a change, which OnChange does not
	// see. It must not call Reload. nil: nobody is told.
	OnApplied func()
}

// Change is what a reload found. At least one of the flags is true.
type Change struct {
	// Config is the configuration to put into force, never nil.
	Config *Config
	// ConfigChanged says that Config is not what the last successful call had.
	ConfigChanged bool
	// AuthKeyChanged says that the auth key is not what the last successful call
	// had. It matters when a login is needed.
	AuthKeyChanged bool
}

// Status is what a [Loader] has done so far.
type Status struct {
	// LastReload is when new content was last found and put into force or not; the
	// zero time before the first.
	LastReload time.Time
	// Hash is that of the configuration in force; "" before the first.
	Hash string
	// Result is the outcome of the last reload: "applied" or a [Reason]; "" before
	// the first.
	Result string
	// Err says why the file as it is now is not in force; nil when it is.
	Err error
	// AuthKeyErr says why the auth key cannot be read; nil when it can or when
	// there is none.
	AuthKeyErr error
	// Generation counts the configurations put into force.
	Generation int
	// Errors counts, by reason, the errors that were told. Every reason is there.
	Errors map[Reason]int
	// Latency is the time from the first event of the last configuration put into
	// force until [LoaderOptions.OnChange] returned; without an event, from the
	// call of Reload.
	Latency time.Duration
}

// applied is the result of a reload that succeeded.
const applied = "applied"

// Loader keeps the last good configuration of a file that may change at any time.
// Its methods can be called from any goroutine.
type Loader struct {
	opts LoaderOptions

	reload  sync.Mutex // held during a reload; guards the next four
	watcher *Watcher   // while Run runs
	told    string     // the last error told of the file; "" when it is good
	keyHad  [sha256.Size]byte
	keyErr  string // the last error told of the auth key

	mu      sync.Mutex // guards what follows
	inForce *Config
	status  Status
}

// NewLoader returns a loader that has loaded nothing yet.
func NewLoader(opts LoaderOptions) *Loader {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	if opts.OnChange == nil {
		opts.OnChange = func(context.Context, Change) error { return nil }
	}
	if opts.OnError == nil {
		opts.OnError = func(error) {}
	}
	if opts.OnApplied == nil {
		opts.OnApplied = func() {}
	}
	l := &Loader{opts: opts, status: Status{Errors: map[Reason]int{}}}
	for _, reason := range Reasons() {
		l.status.Errors[reason] = 0
	}
	return l
}

// Current returns the configuration in force, nil before the first. It is not to
// be modified.
func (l *Loader) Current() *Config {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inForce
}

// Status returns what happened so far.
func (l *Loader) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Errors = maps.Clone(s.Errors)
	return s
}

// Run watches the file, loads it at once and whenever it may have changed, and
// returns when ctx is done. The error says that nothing can be watched.
func (l *Loader) Run(ctx context.Context) error {
	w, err := Watch(ctx, WatchOptions{
		Paths: []string{l.opts.Path}, Debounce: l.opts.Debounce, Now: l.opts.Now, OnError: l.opts.OnError,
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("watch gateway config: %w", err)
	}
	l.setWatcher(w)
	defer l.setWatcher(nil)
	l.Reload(ctx)
	for since := range w.C {
		l.reloadSince(ctx, since)
	}
	return nil
}

func (l *Loader) setWatcher(w *Watcher) {
	l.reload.Lock()
	defer l.reload.Unlock()
	l.watcher = w
}

// Reload looks at the file now. It works without Run, too.
func (l *Loader) Reload(ctx context.Context) { l.reloadSince(ctx, l.opts.Now()) }

// reloadSince loads the file for a change that was seen at since.
func (l *Loader) reloadSince(ctx context.Context, since time.Time) {
	l.reload.Lock()
	defer l.reload.Unlock()
	c, err := load(l.opts.Path)
	if err != nil {
		l.fail(err.Reason, err.Hash, err)
		// The auth key may be a new one all the same.
		if c = l.Current(); c == nil {
			return
		}
	}
	l.watchKey(c)
	key, keyRead := l.readKey(c)
	change := Change{Config: l.Current(), AuthKeyChanged: keyRead && key != l.keyHad}
	if change.Config == nil || change.Config.Hash != c.Hash {
		change.Config, change.ConfigChanged = c, true
	}
	if change.ConfigChanged || change.AuthKeyChanged {
		if err := l.opts.OnChange(ctx, change); err != nil {
			l.fail(ApplyFailed, c.Hash, fmt.Errorf("apply %v: %w", c, err))
			return
		}
		if keyRead {
			l.keyHad = key
		}
	}
	if err == nil {
		l.succeed(change, since)
	}
}

// watchKey watches the auth key's file as well, from before it is read.
func (l *Loader) watchKey(c *Config) {
	if l.watcher == nil {
		return
	}
	paths := []string{l.opts.Path}
	if path, ok := c.AuthKeyFile(); ok {
		paths = append(paths, path)
	}
	if err := l.watcher.SetPaths(paths...); err != nil && !errors.Is(err, fs.ErrClosed) {
		l.opts.OnError(fmt.Errorf("watch auth key: %w", err))
	}
}

// readKey returns a digest of the auth key, all zero when there is none, and
// whether it could be read.
func (l *Loader) readKey(c *Config) (digest [sha256.Size]byte, ok bool) {
	key, err := c.ReadAuthKey()
	switch {
	case err == nil:
		digest = sha256.Sum256([]byte(key))
	case errors.Is(err, ErrNoAuthKey):
		err = nil
	}
	l.mu.Lock()
	l.status.AuthKeyErr = err
	l.mu.Unlock()
	told := l.keyErr
	l.keyErr = ""
	if err == nil {
		return digest, true
	}
	if l.keyErr = err.Error(); l.keyErr != told {
		l.tell(BadAuthKey, err)
	}
	return digest, false
}

// fail notes why the file is not in force, and tells it unless it did so before.
func (l *Loader) fail(reason Reason, hash string, err error) {
	if news := hash + " " + err.Error(); news != l.told {
		l.told = news
		l.mu.Lock()
		l.status.LastReload, l.status.Result, l.status.Err = l.opts.Now(), string(reason), err
		l.mu.Unlock()
		l.tell(reason, err)
	}
}

// tell counts an error and passes it on.
func (l *Loader) tell(reason Reason, err error) {
	l.mu.Lock()
	l.status.Errors[reason]++
	l.mu.Unlock()
	l.opts.OnError(err)
}

// succeed notes that the file is in force.
func (l *Loader) succeed(change Change, since time.Time) {
	mended := l.told != ""
	l.told = ""
	if !mended && !change.ConfigChanged && !change.AuthKeyChanged {
		return
	}
	l.mu.Lock()
	l.status.Err = nil
	l.status.LastReload, l.status.Result = l.opts.Now(), applied
	if change.ConfigChanged {
		l.inForce = change.Config
		l.status.Hash = change.Config.Hash
		l.status.Generation++
		l.status.Latency = l.status.LastReload.Sub(since)
	}
	l.mu.Unlock()
	l.opts.OnApplied()
}
