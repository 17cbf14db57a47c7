package lab

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
)

// Family is the IP families that a cluster has.
type Family string

// Families. Dual has IPv4 first, as the kubelet and Services see it.
const (
	V4   Family = "v4"
	V6   Family = "v6"
	Dual Family = "dual"
)

// CNI is the plugin that connects pods to their node.
type CNI string

// CNIs, from the module github.com/containernetworking/plugins: a veth pair a pod, or a bridge a node.
const (
	PTP    CNI = "ptp"
	Bridge CNI = "bridge"
)

// maxNodes leaves room in the address plan.
const maxNodes = 9

// Options say what a lab has.
type Options struct {
	// Name tells labs on one machine apart. "": "lab".
	Name string
	// Nodes is how many there are, n1 and following, from 1 to 9. 0: 2.
	Nodes int
	// Family is the IP families of nodes, pods and Services. "": Dual.
	Family Family
	// CNI connects pods. "": PTP.
	CNI CNI
	// Images are archives (of docker save, or OCI) that every node gets beside the lab's own.
	Images []string `json:",omitempty"`
	// Dir is the folder that holds the folders of labs, on a file system that can carry overlayfs.
	// "": "run" in the cache; see [CacheDir].
	Dir string `json:"-"`
	// Out receives progress, a line a step with the time since the start. nil: nobody.
	Out io.Writer `json:"-"`
}

// maxSocket is the longest path of a socket, without its final zero (unix(7)).
const maxSocket = 107

// nameForm fits into names of folders and control groups.
var nameForm = regexp.MustCompile(`^[a-z]([-a-z0-9]{0,18}[a-z0-9])?$`)

// fill sets what was left out and checks the rest.
func (o Options) fill() (Options, error) {
	if o.Name == "" {
		o.Name = "lab"
	}
	if !nameForm.MatchString(o.Name) {
		return o, fmt.Errorf("%q cannot name a lab: use up to 20 lower-case letters, digits and dashes, a letter first", o.Name)
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return o, fmt.Errorf("a lab has 1 to %d nodes, not %d", maxNodes, o.Nodes)
	}
	switch o.Family {
	case "":
		o.Family = Dual
	case V4, V6, Dual:
	default:
		return o, fmt.Errorf("there is no family %q: use v4, v6 or dual", o.Family)
	}
	switch o.CNI {
	case "":
		o.CNI = PTP
	case PTP, Bridge:
	default:
		return o, fmt.Errorf("there is no CNI %q: use ptp or bridge", o.CNI)
	}
	o.Images = slices.Clone(o.Images) // the caller's stay as they are
	for i, f := range o.Images {
		abs, err := filepath.Abs(f)
		if err != nil {
			return o, fmt.Errorf("find image archive %s: %w", f, err)
		}
		if _, err := os.Stat(abs); err != nil {
			return o, fmt.Errorf("image archive: %w", err)
		}
		o.Images[i] = abs
	}
	if o.Dir == "" {
		cache, err := CacheDir()
		if err != nil {
			return o, err
		}
		o.Dir = filepath.Join(cache, "run")
	}
	abs, err := filepath.Abs(o.Dir)
	if err != nil {
		return o, fmt.Errorf("find folder %s: %w", o.Dir, err)
	}
	o.Dir = abs
	if longest := len(filepath.Join(o.Dir, o.Name, "n1", "labd.sock")); longest > maxSocket {
		return o, fmt.Errorf("the folder %s has a name too long for the sockets in it, by %d bytes: choose another with --dir or %s",
			o.Dir, longest-maxSocket, CacheVar)
	}
	if o.Out == nil {
		o.Out = io.Discard
	}
	return o, nil
}

// CacheVar is the environment variable that names the cache.
const CacheVar = "TAILGATE_CACHE"

// CacheDir is the folder of binaries, images and labs: $TAILGATE_CACHE, or tailgate/lab in the user's cache.
func CacheDir() (string, error) {
	if dir := os.Getenv(CacheVar); dir != "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return "", fmt.Errorf("find folder %s of %s: %w", dir, CacheVar, err)
		}
		return abs, nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a folder for the cache; set %s to one: %w", CacheVar, err)
	}
	return filepath.Join(dir, "tailgate", "lab"), nil
}
