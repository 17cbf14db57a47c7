package attachments_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
)

// node is a host's files and a store that follows them.
type node struct {
	root  string // of the host
	cache string // CacheDir of libcni
	store *attachments.Store

	wake chan struct{} // something was told; holds one
	mu   sync.Mutex
	told map[types.UID]int // by OnChange
	logs []string
}

// newNode returns a node whose store does not run yet.
func newNode(t *testing.T) *node {
	t.Helper()
	root := t.TempDir()
	n := &node{root: root, cache: filepath.Join(root, "var/lib/cni"), wake: make(chan struct{}, 1), told: map[types.UID]int{}}
	n.store = n.newStore(t)
	return n
}

// newStore returns another store of the same files.
func (n *node) newStore(t *testing.T) *attachments.Store {
	t.Helper()
	s, err := attachments.New(attachments.Options{
		Dir: n.dir(), HostRoot: n.root, OnChange: n.changed, Logger: slog.New(slog.NewTextHandler(n, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// run starts the store and waits until it knows what there is.
func (n *node) run(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- n.store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	select {
	case <-n.store.Synced():
	case <-time.After(10 * time.Second):
		t.Fatal("the store does not get ready")
	}
}

func (n *node) dir() string { return filepath.Join(n.cache, "results") }

func (n *node) changed(uid types.UID) {
	n.mu.Lock()
	n.told[uid]++
	n.mu.Unlock()
	n.poke()
}

func (n *node) toldOf(uid types.UID) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told[uid]
}

// Write takes a line of the log.
func (n *node) Write(line []byte) (int, error) {
	n.mu.Lock()
	n.logs = append(n.logs, string(line))
	n.mu.Unlock()
	n.poke()
	return len(line), nil
}

func (n *node) poke() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// logged returns how many lines of the log hold text.
func (n *node) logged(text string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	count := 0
	for _, line := range n.logs {
		if strings.Contains(line, text) {
			count++
		}
	}
	return count
}

// wait waits until ok, which is asked whenever the store told something.
func (n *node) wait(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-n.wake:
		case <-deadline:
			t.Fatalf("not in time: %s; pods %+v, problems %v", what, n.store.List(), n.store.Problems())
		}
	}
}

// waitFor waits until the store says just this of a pod.
func (n *node) waitFor(t *testing.T, want attachments.Attachment) {
	t.Helper()
	var got attachments.Attachment
	defer func() {
		if t.Failed() {
			t.Log(diff(want, got))
		}
	}()
	n.wait(t, "attachment of pod "+string(want.PodUID), func() bool {
		got, _ = n.store.Lookup(want.PodUID)
		return diff(want, got) == ""
	})
}

// waitGone waits until the store knows nothing of a pod.
func (n *node) waitGone(t *testing.T, pod types.UID) {
	t.Helper()
	n.wait(t, "pod "+string(pod)+" forgotten", func() bool { return !n.knows(pod) })
}

func (n *node) knows(pod types.UID) bool {
	_, ok := n.store.Lookup(pod)
	return ok
}

func diff[T any](want, got T) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Addr{}))
}

// bind mounts a namespace at the path that the host calls /run/netns/name, as a runtime does.
func (n *node) bind(t *testing.T, name string, ns *netns.Handle) {
	t.Helper()
	path := filepath.Join(n.root, "run/netns", name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600))
	mount(t, path, ns)
}

// mount mounts a namespace over the file at path, until the test ends.
func mount(t *testing.T, path string, ns *netns.Handle) {
	t.Helper()
	must(t, unix.Mount(fmt.Sprintf("/proc/self/fd/%d", ns.FD()), path, "", unix.MS_BIND, ""))
	t.Cleanup(func() { _ = unix.Unmount(path, unix.MNT_DETACH) }) // most tests did
}

// unbind takes it away again.
func (n *node) unbind(t *testing.T, name string) {
	t.Helper()
	path := filepath.Join(n.root, "run/netns", name)
	must(t, unix.Unmount(path, unix.MNT_DETACH), os.Remove(path))
}

// ns returns a new namespace that is mounted under that name.
func (n *node) ns(t *testing.T, name string) *netns.Handle {
	t.Helper()
	ns := nstest.New(t)
	n.bind(t, name, ns)
	return ns
}

func id(t *testing.T, ns *netns.Handle) netns.ID {
	t.Helper()
	id, err := ns.ID()
	must(t, err)
	return id
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// claim returns that of a pod whose UID is its name and "-uid", in container, whose namespace has the
// container's name, too.
func claim(pod, container string) attachments.Claim {
	return attachments.Claim{
		ContainerID: container, IfName: "eth0", NetNS: "/var/run/netns/" + container,
		PodUID: types.UID(pod + "-uid"), Namespace: "payments", Name: pod,
	}
}

// attached returns what the store is to say of a claim.
func (n *node) attached(t *testing.T, c attachments.Claim, ns *netns.Handle) attachments.Attachment {
	t.Helper()
	return attachments.Attachment{
		PodUID: c.PodUID, Namespace: c.Namespace, Name: c.Name, ContainerID: c.ContainerID,
		NetNS: filepath.Join(n.root, strings.TrimPrefix(c.NetNS, "/var")), ID: id(t, ns), IfName: c.IfName, IPs: c.IPs, MTU: c.MTU,
	}
}

// content returns a claim as a file of libcni's cache.
func content(t *testing.T, c attachments.Claim) []byte {
	t.Helper()
	type m = map[string]any
	ips := []m{}
	for _, ip := range c.IPs {
		ips = append(ips, m{"address": netip.PrefixFrom(ip, ip.BitLen()).String(), "interface": 0})
	}
	data, err := json.Marshal(m{
		"kind": "cniCacheV1", "containerId": c.ContainerID, "config": []byte("{}"), "ifName": c.IfName, "networkName": "net", "netns": c.NetNS,
		"cniArgs": [][2]string{
			{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", c.Namespace}, {"K8S_POD_NAME", c.Name},
			{"K8S_POD_INFRA_CONTAINER_ID", c.ContainerID}, {"K8S_POD_UID", string(c.PodUID)},
		},
		"result": m{"cniVersion": "1.1.0", "ips": ips, "interfaces": []m{{"name": c.IfName, "sandbox": c.NetNS, "mtu": c.MTU}}},
	})
	must(t, err)
	return data
}

func (n *node) file(c attachments.Claim) string {
	return filepath.Join(n.dir(), fmt.Sprintf("net-%s-%s", c.ContainerID, c.IfName))
}

// write writes a claim into the cache as libcni does: in place.
func (n *node) write(t *testing.T, c attachments.Claim) {
	t.Helper()
	must(t, os.MkdirAll(n.dir(), 0o700), os.WriteFile(n.file(c), content(t, c), 0o600))
}

// writeAt writes a claim that says it is as many minutes old.
func (n *node) writeAt(t *testing.T, c attachments.Claim, minutes int) {
	t.Helper()
	must(t, os.MkdirAll(n.dir(), 0o700))
	at := time.Now().Add(-time.Duration(minutes) * time.Minute)
	temp := filepath.Join(n.root, "temp")
	must(t, os.WriteFile(temp, content(t, c), 0o600), os.Chtimes(temp, at, at), os.Rename(temp, n.file(c)))
}

func (n *node) remove(t *testing.T, c attachments.Claim) {
	t.Helper()
	must(t, os.Remove(n.file(c)))
}
