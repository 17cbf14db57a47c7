package attachments

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"
	"unicode"

	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// Attachment is where a pod's network namespace is.
type Attachment struct {
	// PodUID is the UID that the runtime knows. For a static pod it is not that of the API's
	// mirror pod but the value of its annotation kubernetes.io/config.hash.
	PodUID          types.UID
	Namespace, Name string // of the pod
	// ContainerID is that of the pod's sandbox.
	ContainerID string
	// NetNS is the path of the namespace, as this process sees it. Rather than open it,
	// use [Store.Open]: the path may lead elsewhere by now.
	NetNS string
	// ID identifies the namespace.
	ID netns.ID
	// IfName is the pod's own interface, of which the following speak: eth0, or if there is no
	// such attachment the first by name.
	IfName string
	// IPs are its addresses; empty while only a CNI ADD without them is known.
	IPs []netip.Addr
	// MTU is in bytes; 0: the network's plugins did not say.
	MTU int
}

func (a Attachment) equal(b Attachment) bool {
	return a.PodUID == b.PodUID && a.Namespace == b.Namespace && a.Name == b.Name && a.ContainerID == b.ContainerID &&
		a.NetNS == b.NetNS && a.ID == b.ID && a.IfName == b.IfName && a.MTU == b.MTU && slices.Equal(a.IPs, b.IPs)
}

// Claim is what a container runtime says of one attachment of one pod, in a CNI ADD or in a file.
type Claim struct {
	// ContainerID and IfName tell the attachment from all others of the node. ContainerID is never
	// used again for another sandbox.
	ContainerID, IfName string
	// NetNS is the path of the namespace as the runtime sees it: on the host.
	NetNS           string
	PodUID          types.UID // as in [Attachment]
	Namespace, Name string    // of the pod
	// IPs are the interface's addresses; may be empty.
	IPs []netip.Addr
	// MTU is in bytes; 0: not known.
	MTU int
}

// maxID is the most bytes of a container ID, interface name or UID; they are 64, 15 and 36 long in
// fact, but the CNI specification does not say so.
const maxID = 256

// check returns why the claim cannot be one of a pod.
func (c Claim) check() error {
	for _, f := range []struct{ name, value string }{
		{"the container ID", c.ContainerID}, {"the interface's name", c.IfName}, {"the pod's UID", string(c.PodUID)},
	} {
		if f.value == "" || len(f.value) > maxID || strings.ContainsFunc(f.value, odd) {
			return fmt.Errorf("%s, %.60q, is empty, too long or has odd characters", f.name, f.value)
		}
	}
	if !filepath.IsAbs(c.NetNS) {
		return fmt.Errorf("the path of the network namespace, %.60q, is not absolute", c.NetNS)
	}
	return nil
}

// odd says whether r has no place in an ID that becomes part of file names and link aliases.
func odd(r rune) bool { return r == '/' || unicode.IsSpace(r) || !unicode.IsPrint(r) }

// key tells attachments apart.
type key struct{ containerID, ifName string }

// record is a claim and when it was made.
type record struct {
	Claim
	at time.Time
}

func (r record) key() key { return key{r.ContainerID, r.IfName} }

// podInterface is what containerd and CRI-O call a pod's own interface; the others are Multus' doing.
const podInterface = "eth0"

// primary returns the record of the pod's own interface.
func primary(records []record) record {
	return slices.MinFunc(records, func(a, b record) int {
		return cmp.Or(
			boolInt(b.IfName == podInterface)-boolInt(a.IfName == podInterface),
			cmp.Compare(a.IfName, b.IfName),
			// A file says more than the ADD before it, and a second file says it newer.
			-a.at.Compare(b.at),
			cmp.Compare(a.NetNS, b.NetNS),
		)
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// errOwnNetNS says why a namespace is nobody's.
var errOwnNetNS = errors.New("it is the namespace that tailgate itself runs in, the node's; no pod's can be that")

// hostPath returns how this process sees a path of the host, whose root folder it sees at root.
func hostPath(root, path string) (string, error) {
	path = filepath.Clean(path)
	if path == "/proc" || strings.HasPrefix(path, "/proc/") {
		// Process IDs are another thing here than on the host, and are used again.
		return "", fmt.Errorf("network namespace %s is that of a process; only those that the runtime mounted somewhere can be found", path)
	}
	// /var/run is a link to /run, which would lead out of root.
	if rest, ok := strings.CutPrefix(path, "/var/run/"); ok {
		path = "/run/" + rest
	}
	return filepath.Join("/", root, path), nil
}
