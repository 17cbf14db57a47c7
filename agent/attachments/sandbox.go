package attachments

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
)

// sandbox is a container of which there are claims, and its namespace.
type sandbox struct {
	claim  record        // that of the pod's own interface
	newest time.Time     // of all claims that there were
	path   string        // of the namespace, as this process sees it
	ns     *netns.Handle // nil: there is none at path
	id     netns.ID
	err    error // what is wrong with path; nil also if nothing is there
}

// newer orders sandboxes of one pod, and claims to one namespace. Kubelet makes a sandbox only after it
// has stopped the one before, so the times of their files are well apart, unless the clock was set
// back; then only a sandbox that is left over with its namespace intact could win.
func (b *sandbox) newer(than *sandbox) bool {
	return cmp.Or(b.claim.at.Compare(than.claim.at), cmp.Compare(b.claim.ContainerID, than.claim.ContainerID)) > 0
}

func (b *sandbox) attachment() Attachment {
	c := b.claim
	return Attachment{
		PodUID: c.PodUID, Namespace: c.Namespace, Name: c.Name, ContainerID: c.ContainerID,
		NetNS: b.path, ID: b.id, IfName: c.IfName, IPs: c.IPs, MTU: c.MTU,
	}
}

// open opens the namespace at path.
func (s *Store) open(path string) (*netns.Handle, netns.ID, error) {
	ns, err := netns.Open(path)
	if errors.Is(err, netns.ErrNotNetNS) && s.opts.HostRoot != "" {
		err = fmt.Errorf("%w; if new pods are found like this, mount that folder of the host with mountPropagation: HostToContainer", err)
	}
	if err != nil {
		return nil, netns.ID{}, err
	}
	id, err := ns.ID()
	if err == nil && id == s.own {
		err = fmt.Errorf("network namespace %s: %w", path, errOwnNetNS)
	}
	if err != nil {
		return nil, netns.ID{}, errors.Join(err, ns.Close())
	}
	return ns, id, nil
}

// noNetNS says whether err means that there is no namespace at a path, not that it could not be seen.
func noNetNS(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) ||
		errors.Is(err, netns.ErrNotNetNS) || errors.Is(err, errOwnNetNS)
}

// refresh brings a container's sandbox up to date with what is claimed of it.
func (s *Store) refresh(containerID string) {
	s.stale = true
	claims := s.claims(containerID)
	b := s.sandboxes[containerID]
	if len(claims) == 0 {
		if b != nil {
			s.forget(b)
		}
		return
	}
	if b == nil {
		b = &sandbox{}
		s.sandboxes[containerID] = b
	}
	b.claim = primary(claims)
	renewed := b.claim.at.After(b.newest)
	for _, c := range claims {
		if c.at.After(b.newest) {
			b.newest = c.at
		}
	}
	s.check(b, renewed)
}

// check finds the sandbox's namespace, or finds out whether its path still leads to it. If not,
// nothing claimed so far counts any more, but for a claim that was made just now.
func (s *Store) check(b *sandbox, renewed bool) {
	path, err := hostPath(s.opts.HostRoot, b.claim.NetNS)
	var ns *netns.Handle
	var id netns.ID
	if err == nil {
		b.path = path
		ns, id, err = s.open(path)
	}
	switch {
	case b.ns != nil && err == nil && id == b.id:
		closeNS(ns)
	case b.ns != nil && err != nil && !noNetNS(err):
		// It cannot be seen now; held open, it is there nevertheless.
	case b.ns != nil && !renewed:
		closeNS(ns)
		s.lose(b)
		return
	default:
		closeNS(b.ns)
		b.ns, b.id = ns, id
		s.stale = true
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // common: what is claimed is left over from before the node started
	}
	b.err = s.tell("cannot find a pod's network namespace", b.err, err, "pod", b.claim.Namespace+"/"+b.claim.Name)
}

// lose gives up a sandbox whose namespace is gone. Its files may stay for long, and their path may
// lead to another pod's namespace one day: from here on only newer ones count.
func (s *Store) lose(b *sandbox) {
	for _, c := range s.claims(b.claim.ContainerID) {
		s.void(c.key(), b.newest)
	}
	delete(s.added, b.claim.ContainerID)
	s.forget(b)
}

// forget releases a sandbox.
func (s *Store) forget(b *sandbox) {
	closeNS(b.ns)
	delete(s.sandboxes, b.claim.ContainerID)
	s.stale = true
}

// closeNS closes ns, which may be nil. Closing a descriptor that nothing is written to does not fail.
func closeNS(ns *netns.Handle) {
	if ns != nil {
		_ = ns.Close()
	}
}
