package lab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Binaries are built parts. Make them with [Build].
type Binaries struct {
	dirs map[Part]string
}

// Dir is the folder of a part, or "" when it was not asked for.
func (b *Binaries) Dir(p Part) string { return b.dirs[p] }

// Path is the program of that name in a part that was asked for.
func (b *Binaries) Path(p Part, name string) string { return filepath.Join(b.dirs[p], name) }

// ImageArchive is the file with the lab's images, if that part was asked for.
func (b *Binaries) ImageArchive() string { return b.Path(Images, archive) }

// Envtest is a folder that holds etcd, kube-apiserver and kubectl under these names, as
// controller-runtime's envtest wants them (KUBEBUILDER_ASSETS).
func (b *Binaries) Envtest() string { return b.dirs[Hyperkube] }

// Build builds the parts given, or all, unless the cache has them, and tells out how it goes. Each
// is built in the cache by one process at a time, and is there whole or not at all.
func Build(ctx context.Context, out io.Writer, parts ...Part) (*Binaries, error) {
	b, err := newBuilder(ctx, out)
	if err != nil {
		return nil, err
	}
	if len(parts) == 0 {
		parts = AllParts()
	}
	if err := b.check(ctx, parts); err != nil {
		return nil, err
	}
	for _, p := range parts {
		if err := b.need(ctx, p); err != nil {
			return nil, err
		}
	}
	return &Binaries{dirs: b.dirs}, nil
}

// check says what parts that are not in the cache lack, before the first of them takes its minutes.
func (b *builder) check(ctx context.Context, parts []Part) error {
	for _, p := range parts {
		key, err := b.key(p)
		if err != nil {
			return err
		}
		if check := recipes[p].check; check != nil && !complete(b.dir(p, key)) {
			if err := check(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// dir is a part's folder in the cache.
func (b *builder) dir(p Part, key string) string { return filepath.Join(b.cache, string(p)+"-"+key) }

// builder remembers what one call of [Build] has made.
type builder struct {
	root, cache, goVersion string
	out                    io.Writer
	work                   string // folder for temporary files of the part that is being made
	keys                   map[Part]string
	dirs                   map[Part]string
}

func newBuilder(ctx context.Context, out io.Writer) (*builder, error) {
	if out == nil {
		out = io.Discard
	}
	root, err := moduleRoot()
	if err != nil {
		return nil, err
	}
	cache, err := CacheDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("make cache: %w", err)
	}
	c := exec.CommandContext(ctx, "go", "env", "GOVERSION")
	c.Dir = root
	v, err := c.Output()
	if err != nil {
		return nil, fmt.Errorf("ask for Go's version; the lab builds with the go command: %w", err)
	}
	return &builder{
		root: root, cache: cache, goVersion: strings.TrimSpace(string(v)), out: out,
		keys: make(map[Part]string), dirs: make(map[Part]string),
	}, nil
}

// moduleName is in the first line of our go.mod.
const moduleName = "module github.com/rajsinghtech/tailgate"

// moduleRoot finds the source tree: the working folder is in it.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for d := dir; ; d = filepath.Dir(d) {
		b, err := os.ReadFile(filepath.Join(d, "go.mod"))
		if line, _, _ := strings.Cut(string(b), "\n"); err == nil && strings.TrimSpace(line) == moduleName {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("the lab builds its programs from tailgate's source, and %s is not in it: change to a folder of the source tree", dir)
		}
	}
}

// key names what a part is made of.
func (b *builder) key(p Part) (string, error) {
	if k := b.keys[p]; k != "" {
		return k, nil
	}
	r, ok := recipes[p]
	if !ok {
		return "", fmt.Errorf("there is no part %q: use one of %v", p, AllParts())
	}
	h := sha256.New()
	fmt.Fprintf(h, "%s %s/%s %s\n", p, runtime.GOOS, runtime.GOARCH, b.goVersion)
	for _, dep := range r.after {
		k, err := b.key(dep)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, dep, k)
	}
	// How parts are made counts, too.
	for _, s := range append([]string{"test/lab/recipes.go"}, r.sources...) {
		if err := hashTree(h, b.root, s); err != nil {
			return "", fmt.Errorf("find out what %s is made of: %w", p, err)
		}
	}
	b.keys[p] = hex.EncodeToString(h.Sum(nil))[:12]
	return b.keys[p], nil
}

// hashTree writes names and content of the files at root/path, but for tests, in order.
func hashTree(w io.Writer, root, path string) error {
	path, text, _ := strings.Cut(path, "#")
	return filepath.WalkDir(filepath.Join(root, path), func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasSuffix(p, "_test.go") {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		b, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if text != "" {
			b = linesWith(b, text)
		}
		_, err = fmt.Fprintf(w, "%s %x\n", filepath.ToSlash(rel), sha256.Sum256(b))
		return err
	})
}

// linesWith returns the lines that have a text.
func linesWith(b []byte, text string) []byte {
	var found []byte
	for line := range bytes.Lines(b) {
		if bytes.Contains(line, []byte(text)) {
			found = append(found, line...)
		}
	}
	return found
}

// marker is a file in a folder of the cache that is complete.
const marker = ".complete"

// need sees to it that a part is in the cache.
func (b *builder) need(ctx context.Context, p Part) error {
	if b.dirs[p] != "" {
		return nil
	}
	key, err := b.key(p)
	if err != nil {
		return err
	}
	for _, dep := range recipes[p].after {
		if err := b.need(ctx, dep); err != nil {
			return err
		}
	}
	dir := b.dir(p, key)
	if !complete(dir) {
		if err := b.makePart(ctx, p, dir); err != nil {
			return fmt.Errorf("build %s: %w", p, err)
		}
	}
	b.dirs[p] = dir
	return nil
}

// complete is whether a folder is, and says that it is in use; see prune.
func complete(dir string) bool {
	now := time.Now()
	return os.Chtimes(filepath.Join(dir, marker), now, now) == nil
}

func (b *builder) makePart(ctx context.Context, p Part, dir string) (err error) {
	lock, err := await(ctx, func() (*os.File, error) { return tryLock(filepath.Join(b.cache, string(p)+".lock")) }, func() {
		fmt.Fprintf(b.out, "waiting for another process that builds %s\n", p)
	})
	if err != nil {
		return err
	}
	defer lock.Close()
	if complete(dir) {
		return nil
	}
	fmt.Fprintf(b.out, "building %s\n", recipes[p].about)
	start := time.Now()
	stop := every(30*time.Second, func() { fmt.Fprintf(b.out, "  still building %s, %s so far\n", p, since(start)) })
	defer stop()
	if b.work, err = os.MkdirTemp(b.cache, "tmp-"+string(p)+"-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.work)) }()
	out := filepath.Join(b.work, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		return err
	}
	if err := recipes[p].make(ctx, b, out); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, marker), nil, 0o644); err != nil {
		return err
	}
	// What is there without the marker is of no use to anyone.
	if err := errors.Join(os.RemoveAll(dir), os.Rename(out, dir)); err != nil {
		return err
	}
	fmt.Fprintf(b.out, "built %s in %s\n", p, since(start))
	return b.prune(p, dir)
}

// keep is how long the cache holds what nobody uses.
const keep = 14 * 24 * time.Hour

// prune removes what was built of a part from older sources, and what a killed build left.
func (b *builder) prune(p Part, current string) error {
	var errs []error
	for _, pattern := range []string{string(p) + "-*", "tmp-" + string(p) + "-*"} {
		dirs, err := filepath.Glob(filepath.Join(b.cache, pattern))
		errs = append(errs, err)
		for _, dir := range dirs {
			info, err := os.Stat(filepath.Join(dir, marker))
			if dir == current || err == nil && time.Since(info.ModTime()) < keep {
				continue
			}
			errs = append(errs, os.RemoveAll(dir))
		}
	}
	return errors.Join(errs...)
}

// goBuild runs go build in a folder of the source tree. It ends with this process, and its own temporary files
// are where prune finds them.
func (b *builder) goBuild(ctx context.Context, dir, cgo, out string, args ...string) error {
	if !slices.Contains(args, "-ldflags") {
		args = append([]string{"-ldflags", "-s -w"}, args...)
	}
	// What debuggers need is stripped anyway. Without it, packages compile in a fifth less time.
	args = append([]string{"build", "-trimpath", "-buildvcs=false", "-gcflags", "all=-dwarf=false", "-o", out}, args...)
	// Pdeathsig is bound to the thread that forks (prctl(2)).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = filepath.Join(b.root, dir)
	c.Env = append(os.Environ(), cgo, "GOFLAGS=", "GOWORK=off", "GOOS=", "GOARCH=", "GOTMPDIR="+b.work)
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT}
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	if msg, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("go %s in %s: %w: %s", strings.Join(args, " "), dir, err, tail(string(msg), 20))
	}
	return nil
}
