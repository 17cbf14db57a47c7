//go:build linux

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// op is what a worker is asked to do.
type op string

const (
	opServe    op = "serve"    // answer the other workers, until the process ends
	opTransfer op = "transfer" // move bytes over TCP
	opBlast    op = "blast"    // send small datagrams
	opPing     op = "ping"     // measure round trips
)

// job is one thing that a worker does. It travels to the worker as JSON.
type job struct {
	Op op
	// ID tells the jobs of one bench apart.
	ID uint64
	// To is the server's address.
	To netip.Addr
	// Streams is how many connections share the transfer of Bytes; Down is from the server, otherwise to it.
	Streams int
	Bytes   int64
	Down    bool
	// Rate is in datagrams a second, 0: as fast as it goes; Lasting is for how long.
	Rate    int
	Lasting time.Duration
	// Count is how many pings are sent, an Interval apart.
	Count    int
	Interval time.Duration
	// Limit is when the worker gives up.
	Limit time.Duration
}

// result is what came of a job.
type result struct {
	// Error says why it failed; "": it did not.
	Error string
	// Took is how long the transfer or the sending took.
	Took time.Duration
	// Sent and Received count datagrams or pings.
	Sent, Received int
	// RoundTrips are those of the pings that were answered.
	RoundTrips []time.Duration
}

// do does the job in the calling process's network namespace.
func (j job) do(ctx context.Context) (result, error) {
	if j.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, j.Limit)
		defer cancel()
	}
	switch j.Op {
	case opServe:
		return result{}, serve(ctx)
	case opTransfer:
		return transfer(ctx, j)
	case opBlast:
		return blast(ctx, j)
	case opPing:
		return ping(ctx, j)
	}
	return result{}, fmt.Errorf("no worker knows the job %q", j.Op)
}
