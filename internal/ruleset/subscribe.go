package ruleset

import (
	"context"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Subscribe returns a channel that receives when nftables has changed in the
// namespace, by whomever, from the moment that Subscribe returns. Changes while nobody
// receives are one: the channel holds one wake-up. A change that is ours
// wakes once; an Apply that changes nothing does not, so observing and applying
// on each wake-up comes to rest. The channel is closed when ctx ends or, while
// ctx has no error, when the socket has failed and must be replaced by a new subscription.
func (c *Conn) Subscribe(ctx context.Context) (<-chan struct{}, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	nl, err := c.dial()
	if err != nil {
		return nil, err
	}
	if err := nl.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to nftables: %w", err), nl.Close())
	}
	wake := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() { _ = nl.Close() })
	go func() {
		defer close(wake)
		defer func() {
			if stop() {
				_ = nl.Close()
			}
		}()
		listen(nl, wake)
	}()
	return wake, nil
}

// listen returns when the socket is closed or has failed.
func listen(nl *netlink.Conn, wake chan<- struct{}) {
	for {
		msgs, err := nl.Receive()
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		// ENOBUFS: messages were lost, and any of them may have been a commit.
		if err != nil || commits(msgs) {
			select {
			case wake <- struct{}{}:
			default:
			}
		}
	}
}

// commits: the last message of each transaction says its generation; to wait for it
// is to wake once for a transaction, when all of it can be read.
func commits(msgs []netlink.Message) bool {
	for _, m := range msgs {
		if m.Header.Type == netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWGEN) {
			return true
		}
	}
	return false
}
