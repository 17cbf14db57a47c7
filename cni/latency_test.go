package main

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

const (
	// goal is what a pod that is no member may wait longer for its network, as the median.
	goal = 5 * time.Millisecond
	// noise is how far beyond goal a machine that does other work may be, before the plugin is to blame.
	noise = 3
)

// addTimes starts the plugin n times, as a runtime does for pods that are no members, and returns how long each took.
func addTimes(tb testing.TB, n int) []time.Duration {
	tb.Helper()
	socket := agent(tb, func(cnirpc.Request) cnirpc.Reply { return cnirpc.Reply{} })
	conf := fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n","type":"tailgate-cni","socket":%q,"prevResult":%s}`, socket, rich("1.0.0"))
	took := make([]time.Duration, n)
	for i := range took {
		cmd := command(tb, "ADD", conf)
		start := time.Now()
		if _, log, code := exit(tb, cmd); code != 0 || log != "" {
			tb.Fatalf("exit code %d, stderr %q", code, log)
		}
		took[i] = time.Since(start)
	}
	slices.Sort(took)
	return took
}

// percentile returns the p-th of sorted times.
func percentile(times []time.Duration, p int) time.Duration { return times[(len(times)-1)*p/100] }

// TestLatency measures the whole process, of which a chain without tailgate has none.
func TestLatency(t *testing.T) {
	took := addTimes(t, 200)
	median := percentile(took, 50)
	t.Logf("ADD of a pod that is no member: median %v, p99 %v (goal: median below %v)", median, percentile(took, 99), goal)
	if median > noise*goal {
		t.Errorf("ADD took %v, the median of %d; the goal is %v", median, len(took), goal)
	}
}

func BenchmarkAdd(b *testing.B) {
	took := addTimes(b, max(b.N, 1))
	b.ReportMetric(float64(percentile(took, 50))/float64(time.Millisecond), "median-ms")
	b.ReportMetric(float64(percentile(took, 99))/float64(time.Millisecond), "p99-ms")
}
