package stitch

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"

	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/netns"
)

// errGone says that a namespace is not where it was said to be, or is not any more.
var errGone = errors.New("the network namespace is gone")

// pinned is an open namespace and the news of it. While it is open its identity cannot be another's.
type pinned struct {
	h    *netns.Handle
	id   netns.ID
	path string
	// changed receives when something changed in the namespace; nil or closed: resubscribe.
	changed     <-chan struct{}
	unsubscribe context.CancelFunc
}

// pin opens the namespace. The error wraps errGone when it is not there.
func pin(where NetNS) (*pinned, error) {
	h, id, err := openAt(where.Path)
	if err != nil {
		return nil, err
	}
	if where.ID != (netns.ID{}) && where.ID != id {
		return nil, errors.Join(fmt.Errorf("%w: %s leads to %v, not to %v", errGone, where.Path, id, where.ID), h.Close())
	}
	return &pinned{h: h, id: id, path: where.Path}, nil
}

func openAt(path string) (*netns.Handle, netns.ID, error) {
	h, err := netns.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, netns.ErrNotNetNS):
		return nil, netns.ID{}, fmt.Errorf("%w: %w", errGone, err)
	case err != nil:
		return nil, netns.ID{}, err
	}
	id, err := h.ID()
	if err != nil {
		return nil, id, errors.Join(err, h.Close())
	}
	return h, id, nil
}

// check returns an error that wraps errGone when the path does not lead to the namespace any more. A namespace
// whose name was taken away lives on for as long as it is open here, and nobody needs it.
func (p *pinned) check() error {
	h, id, err := openAt(p.path)
	if err != nil {
		return err
	}
	if id != p.id {
		err = fmt.Errorf("%w: %s leads to %v now, not to %v", errGone, p.path, id, p.id)
	}
	return errors.Join(err, h.Close())
}

// subscribe makes changed receive, unless it does.
func (p *pinned) subscribe(ctx context.Context) error {
	if p.changed != nil {
		return nil
	}
	k, err := kernel.Open(p.h, kernel.Options{})
	if err != nil {
		return err
	}
	defer k.Close() // the subscription has sockets of its own
	ctx, cancel := context.WithCancel(ctx)
	if p.changed, err = k.Subscribe(ctx); err != nil {
		cancel()
		return err
	}
	p.unsubscribe = cancel
	return nil
}

// ending is whether the runtime is taking the namespace's network down. CNI's loopback plugin sets lo down then, and the IPv6 routes
// that refuse, which the kernel keeps on lo, go with it: nobody changed anything of ours.
func (p *pinned) ending() (down bool) {
	err := p.h.Do(func() error {
		lo, err := net.InterfaceByName("lo")
		down = err == nil && lo.Flags&net.FlagUp == 0
		return err
	})
	return err == nil && down
}

// lost forgets a subscription that the kernel has ended.
func (p *pinned) lost() {
	if p.unsubscribe != nil {
		p.unsubscribe()
	}
	p.changed, p.unsubscribe = nil, nil
}

// close lets the namespace go.
func (p *pinned) close() error {
	p.lost()
	return p.h.Close()
}
