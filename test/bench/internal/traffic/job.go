//go:build linux

package traffic

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// Op is what a worker is asked to do.
type Op string

// What workers do.
const (
	Serve    Op = "serve"    // answer the other workers, until the process ends
	Transfer Op = "transfer" // move bytes over TCP
	Blast    Op = "blast"    // send small datagrams
	Ping     Op = "ping"     // measure round trips
)

// Job is one thing that a worker does. It travels to the worker as JSON.
type Job struct {
	Op Op
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

// Result is what came of a job.
type Result struct {
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
func (j Job) do(ctx context.Context) (Result, error) {
	if j.Limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, j.Limit)
		defer cancel()
	}
	switch j.Op {
	case Serve:
		return Result{}, serve(ctx)
	case Transfer:
		return transfer(ctx, j)
	case Blast:
		return blast(ctx, j)
	case Ping:
		return ping(ctx, j)
	}
	return Result{}, fmt.Errorf("no worker knows the job %q", j.Op)
}
