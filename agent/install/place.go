package install

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"
)

// extensions are those of the files that containerd and CRI-O read.
var extensions = []string{".conf", ".conflist", ".json"}

const listExtension = ".conflist"

// errNone is returned when there is no network configuration.
var errNone = errors.New("no network configuration")

// refusal is a configuration that is not to be touched, and why.
type refusal struct {
	file string // its path
	why  error  // goes on after the path
}

func (r *refusal) Error() string { return r.file + " " + r.why.Error() }
func (r *refusal) Unwrap() error { return r.why }

// place is where the entry belongs: a list in a file, or the list that is to be made of a file.
type place struct {
	file *file
	list *list // nil: to be made
}

// names returns the names of the files in dir that a runtime reads, in its order.
func names(dir string) ([]string, error) {
	paths, err := libcni.ConfFiles(dir, extensions)
	if err != nil {
		return nil, err
	}
	for i, path := range paths {
		paths[i] = filepath.Base(path)
	}
	slices.Sort(paths)
	return paths, nil
}

// find returns the place of the entry in dir. The error is errNone, a *refusal, or one of reading dir.
func find(dir string) (*place, error) {
	all, err := names(dir)
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", dir, err)
	}
	for _, name := range all {
		f, err := readFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone since it was listed
		}
		if err == nil && convertedFrom(f) != "" {
			continue // stands for one after it
		}
		if err != nil {
			return nil, &refusal{filepath.Join(dir, name), err}
		}
		return placeIn(dir, f)
	}
	return nil, errNone
}

// placeIn returns the place of the entry when f is the file that the runtime takes.
func placeIn(dir string, f *file) (*place, error) {
	s, err := root(f.text)
	if err != nil {
		return nil, &refusal{f.path, fmt.Errorf("is not JSON (%w); mend it", err)}
	}
	if filepath.Ext(f.path) == listExtension {
		return inList(f, s)
	}
	keys, err := fields(f.text, s)
	if err != nil {
		return nil, &refusal{f.path, fmt.Errorf("is not understood: %w", err)}
	}
	if _, isList := keys["plugins"]; isList {
		return nil, &refusal{f.path, errors.New(`has "plugins", and a name that runtimes take for that of a single plugin; rename it to end in .conflist`)}
	}
	kind, ok := stringAt(f.text, keys["type"])
	switch {
	case !ok || kind == "":
		return nil, &refusal{f.path, errors.New(`has no "type"; write the plugin's name there`)}
	case kind == pluginType:
		return nil, &refusal{f.path, errors.New("has tailgate-cni alone, which makes no interface for a pod; chain it after a plugin that does")}
	case kind == "multus" || kind == "multus-shim":
		return behindMultus(dir, f, keys)
	}
	if err := checkNames(f.text, keys); err != nil {
		return nil, &refusal{f.path, err}
	}
	return &place{file: f}, nil
}

// inList returns the place in f, which is one list.
func inList(f *file, s span) (*place, error) {
	l, err := parseList(f.text, s)
	if err != nil {
		return nil, &refusal{f.path, err}
	}
	p := &place{file: f, list: l}
	if err := l.check(); err != nil {
		return p, &refusal{f.path, err}
	}
	// libcni takes these, from 1.3.0 on, after those in the list.
	if string(l.keys["loadOnlyInlinedPlugins"].of(f.text)) == "true" {
		return p, nil
	}
	name, _ := stringAt(f.text, l.keys["name"])
	folder := filepath.Join(filepath.Dir(f.path), name)
	if more, err := libcni.ConfFiles(folder, []string{".conf"}); err != nil || len(more) > 0 {
		return p, &refusal{f.path, fmt.Errorf(`takes plugins from %s, too, which would run after tailgate-cni; move them into its "plugins"`, folder)}
	}
	return p, nil
}

// behindMultus returns the place in the cluster's own network, when Multus' f stands before it. Its documentation
// (docs/configuration.md): clusterNetwork wins over delegates, of which the first is the cluster's.
func behindMultus(dir string, f *file, keys map[string]span) (*place, error) {
	const instead = `; set cni.mode to "binary" and chain tailgate-cni in that network yourself`
	if at, ok := keys["clusterNetwork"]; ok {
		path, _ := stringAt(f.text, at)
		name := filepath.Base(path)
		if onHost(filepath.Dir(path)) != onHost(dir) || filepath.Ext(name) != listExtension {
			return nil, &refusal{f.path, fmt.Errorf("is Multus', and its clusterNetwork %s is no .conflist in %s%s", at.of(f.text), dir, instead)}
		}
		next, err := readFile(filepath.Join(dir, name))
		if err != nil {
			return nil, &refusal{filepath.Join(dir, name), err}
		}
		s, err := root(next.text)
		if err != nil {
			return nil, &refusal{next.path, fmt.Errorf("is not JSON (%w); mend it", err)}
		}
		return inList(next, s)
	}
	delegates, err := elements(f.text, keys["delegates"])
	if err != nil || len(delegates) == 0 {
		return nil, &refusal{f.path, errors.New("is Multus', and has neither a clusterNetwork nor delegates" + instead)}
	}
	l, err := parseList(f.text, delegates[0])
	if err != nil {
		return nil, &refusal{f.path, fmt.Errorf("is Multus', and its first delegate %w%s", err, instead)}
	}
	p := &place{file: f, list: l}
	if err := l.check(); err != nil {
		return p, &refusal{f.path, fmt.Errorf("is Multus', and its first delegate %w", err)}
	}
	return p, nil
}

// onHost returns the path on the node of one that Multus or the agent sees from its pod, where by
// custom the node's folders are either where they are or below /host.
func onHost(path string) string {
	path = filepath.Clean(path)
	if rest, ok := strings.CutPrefix(path, "/host/"); ok {
		return "/" + rest
	}
	return path
}
