//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/test/bench/internal/metrics"
	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

const (
	// mostRestart is the goal for the agent's start with all members, in seconds; mostMemory for its memory, in MB.
	mostRestart, mostMemory = 1, 60
	// sweepers is how many members are asked at once whether the peer answers them.
	sweepers = 16
)

// crowd is the many members.
type crowd struct {
	b       *bench
	hosts   []*world.Host
	gateway *links // of the gateway's namespace
	before  int    // links there without the crowd
}

// many measures a node with many members.
func (b *bench) many(ctx context.Context) (err error) {
	c := &crowd{b: b}
	began := time.Now()
	pods := newPods(b.s.members, namespaceMany, "many", memberLabel)
	if err := b.startPods(ctx, pods...); err != nil {
		return err
	}
	b.say("%d pods run, after %.0f s", len(pods), time.Since(began).Seconds())
	for _, p := range pods {
		h, err := b.host(ctx, p)
		if err != nil {
			return err
		}
		c.hosts = append(c.hosts, h)
	}
	if c.gateway, err = watchLinks(b.gateway.Handle()); err != nil {
		return err
	}
	defer c.gateway.close()
	if c.before, err = c.settledLinks(ctx); err != nil {
		return err
	}
	for _, do := range []func(context.Context) error{c.storms, c.atRest, c.restarts, c.profile} {
		if err := do(ctx); err != nil {
			return err
		}
	}
	return nil
}

// settledLinks is how many members' links the gateway has, once the agent says that it is all.
func (c *crowd) settledLinks(ctx context.Context) (n int, err error) {
	// The agent works for the answer.
	err = await(ctx, time.Minute, rarely, "all members to be joined", func() (bool, error) {
		joined, all, err := c.b.membersNow(ctx)
		n = joined
		return err == nil && joined == all && c.gateway.count() == joined, err
	})
	return n, err
}

// membersNow is how many members the agent says are joined, and of how many.
func (b *bench) membersNow(ctx context.Context) (joined, all int, err error) {
	const members, left = "tailgate_agent_members", "left"
	set, err := metrics.Scrape(ctx, b.onNode(), b.agentURL("metrics"))
	if err != nil {
		return 0, 0, err
	}
	in := func(state ...string) int { return int(set.Sum(members, append([]string{"group", group}, state...)...)) }
	return in("state", "joined"), in() - in("state", left), nil
}

// storms has all join at once and leave again, by one label of their namespace, and at the end join for good.
func (c *crowd) storms(ctx context.Context) error {
	var linked, answered, left, cpu []float64
	for n := range c.b.s.storms {
		if n > 0 {
			took, err := c.change(ctx, false)
			if err != nil {
				return err
			}
			left = append(left, took.Seconds())
		}
		pid, err := c.b.agentPID()
		if err != nil {
			return err
		}
		before, err := proc.CPU(pid)
		if err != nil {
			return err
		}
		began := time.Now()
		profiled := c.b.profileCPU(ctx, fmt.Sprintf("storm%d.pprof", n+1), 5*time.Second)
		took, err := c.change(ctx, true)
		if err != nil {
			return err
		}
		if err := errors.Join(c.sweep(ctx), <-profiled); err != nil {
			return err
		}
		linked, answered = append(linked, took.Seconds()), append(answered, time.Since(began).Seconds())
		if _, err := c.settledLinks(ctx); err != nil {
			return err
		}
		after, err := proc.CPU(pid)
		if err != nil {
			return err
		}
		cpu = append(cpu, (after-before).Seconds()*1e3/float64(len(c.hosts)))
	}
	name := fmt.Sprintf("%d pods become members at once: until all have their link, median", len(c.hosts))
	c.b.add("storm", name, "s", stats.Median(linked), sheet.Goal{}, linked...)
	c.b.add("storm/answered", "… until the peer has answered all, one look after the other", "s", stats.Median(answered), sheet.Goal{}, answered...)
	c.b.add("storm/cpu", "… the agent's CPU a member", "ms", stats.Median(cpu), sheet.Goal{}, cpu...)
	if len(left) > 0 {
		c.b.add("storm/left", "… until all have left, by the label's end", "s", stats.Median(left), sheet.Goal{}, left...)
	}
	return nil
}

// change labels the namespace, or takes the label away, and returns how long after the patch was sent the gateway's links were as many as
// they should be.
func (c *crowd) change(ctx context.Context, join bool) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	want := c.before
	if join {
		want += len(c.hosts)
	}
	began := time.Now()
	if err := c.b.labelNamespace(ctx, namespaceMany, join); err != nil {
		return 0, err
	}
	at, err := c.gateway.await(ctx, want)
	return at.Sub(began), err
}

// sweep waits until the peer has answered every member, a few at a time.
func (c *crowd) sweep(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(sweepers)
	for _, h := range c.hosts {
		g.Go(func() error { return c.b.reach(ctx, h) })
	}
	return g.Wait()
}

// atRest reads memory and CPU time of an agent that has seen the storms, when nothing changes.
func (c *crowd) atRest(ctx context.Context) error {
	if err := c.b.memory(ctx, "rest", fmt.Sprintf("agent's memory with %d members, after the storms", len(c.hosts))); err != nil {
		return err
	}
	pid, err := c.b.agentPID()
	if err != nil {
		return err
	}
	before, err := proc.CPU(pid)
	if err != nil {
		return err
	}
	began := time.Now()
	profiled := c.b.profileCPU(ctx, "rest.pprof", c.b.s.settle)
	if err := errors.Join(rig.Pause(ctx, c.b.s.settle), <-profiled); err != nil {
		return err
	}
	after, err := proc.CPU(pid)
	c.b.add("rest/cpu", "agent's CPU when nothing changes", "% of a core", 100*(after-before).Seconds()/time.Since(began).Seconds(), sheet.Goal{})
	return err
}

// memory lets the agent settle, for its garbage collector gives memory back in the background, and reads what it keeps.
func (b *bench) memory(ctx context.Context, key, name string) error {
	if err := rig.Pause(ctx, b.s.settle); err != nil {
		return err
	}
	pid, err := b.agentPID()
	if err != nil {
		return err
	}
	u, err := proc.MemoryParts(pid)
	if err != nil {
		return err
	}
	set, err := metrics.Scrape(ctx, b.onNode(), b.agentURL("metrics"))
	if err != nil {
		return err
	}
	b.add(key+"/rss", name+" (VmRSS)", "MB", float64(u.RSS)/mega, sheet.Below(mostMemory))
	b.add(key+"/peak", "… the most so far (VmHWM)", "MB", float64(u.Peak)/mega, sheet.Goal{})
	b.add(key+"/anon", "… of that its own (RssAnon)", "MB", float64(u.Anon)/mega, sheet.Goal{})
	b.add(key+"/file", "… of files, its binary above all (RssFile)", "MB", float64(u.File)/mega, sheet.Goal{})
	b.add(key+"/heap", "… Go's heap in use", "MB", set.Sum("go_memstats_heap_inuse_bytes")/mega, sheet.Goal{})
	b.add(key+"/goroutines", "… goroutines", "", set.Sum("go_goroutines"), sheet.Goal{})
	return nil
}

// profileCPU leaves a CPU profile of the agent's next seconds, if profiles are wanted. The channel tells when that is done.
func (b *bench) profileCPU(ctx context.Context, name string, span time.Duration) <-chan error {
	done := make(chan error, 1)
	if b.s.profile == "" {
		close(done)
		return done
	}
	go func() {
		text, err := b.get(ctx, b.debugURL(fmt.Sprintf("pprof/profile?seconds=%.0f", span.Seconds())))
		if err == nil {
			err = os.WriteFile(filepath.Join(b.s.profile, name), []byte(text), 0o644)
		}
		done <- err
	}()
	return done
}

// profile leaves the agent's profiles.
func (c *crowd) profile(ctx context.Context) error {
	if c.b.s.profile == "" {
		return nil
	}
	for name, query := range map[string]string{
		"heap.pprof": "pprof/heap?gc=1", "allocs.pprof": "pprof/allocs", "goroutine.txt": "pprof/goroutine?debug=1",
	} {
		text, err := c.b.get(ctx, c.b.debugURL(query))
		if err == nil {
			err = os.WriteFile(filepath.Join(c.b.s.profile, name), []byte(text), 0o644)
		}
		if err != nil {
			return fmt.Errorf("profile the agent: %w", err)
		}
	}
	pid, err := c.b.agentPID()
	if err != nil {
		return err
	}
	for _, name := range []string{"status", "smaps"} {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err == nil {
			err = os.WriteFile(filepath.Join(c.b.s.profile, name+".txt"), text, 0o644)
		}
		if err != nil {
			return fmt.Errorf("profile the agent: %w", err)
		}
	}
	return nil
}

// links follows the members' links in a gateway's namespace, as the kernel tells of them.
type links struct {
	updates chan netlink.LinkUpdate
	done    chan struct{}
	now     map[int]string // name by index
}

func watchLinks(ns *netns.Handle) (*links, error) {
	l := &links{updates: make(chan netlink.LinkUpdate, 1024), done: make(chan struct{}), now: map[int]string{}}
	err := ns.Do(func() error {
		return netlink.LinkSubscribeWithOptions(l.updates, l.done, netlink.LinkSubscribeOptions{ListExisting: true, ReceiveBufferSize: 4 << 20, ReceiveBufferForceSize: true})
	})
	if err != nil {
		return nil, fmt.Errorf("follow the gateway's links: %w", err)
	}
	return l, nil
}

func (l *links) close() { close(l.done) }

// note takes what the kernel said.
func (l *links) note(u netlink.LinkUpdate) {
	a := u.Link.Attrs()
	switch {
	case !strings.HasPrefix(a.Name, ident.GatewayLinkPrefix):
	case u.Header.Type == unix.RTM_DELLINK:
		delete(l.now, a.Index)
	case a.RawFlags&unix.IFF_UP != 0:
		l.now[a.Index] = a.Name
	}
}

// count is how many links are up, as far as the kernel has said.
func (l *links) count() int {
	for {
		select {
		case u := <-l.updates:
			l.note(u)
		default:
			return len(l.now)
		}
	}
}

// await returns when there were that many.
func (l *links) await(ctx context.Context, want int) (time.Time, error) {
	for len(l.now) != want {
		select {
		case u, ok := <-l.updates:
			if !ok {
				return time.Time{}, errors.New("the kernel ended the subscription to links")
			}
			l.note(u)
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("wait for %d links of members; there are %d: %w", want, len(l.now), ctx.Err())
		}
	}
	return time.Now(), nil
}

// indices are the links of members and of the gateway: those that are the same were not made anew.
func (c *crowd) indices() (map[string]int, error) {
	all := map[string]int{}
	for _, h := range c.hosts {
		err := h.Do(func() error {
			link, err := netlink.LinkByName(ident.MemberLink)
			if err == nil {
				all[h.Name] = link.Attrs().Index
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("find the link of %s: %w", h.Name, err)
		}
	}
	c.gateway.count()
	for index, name := range c.gateway.now {
		all["gateway/"+name] = index
	}
	return all, nil
}

// changed counts links that are not as before.
func changed(before, after map[string]int) int {
	n := 0
	for name := range maps.Keys(before) {
		if now, ok := after[name]; !ok || now != before[name] {
			n++
		}
	}
	for name := range after {
		if _, ok := before[name]; !ok {
			n++
		}
	}
	return n
}

// spread returns n of the hosts, from all parts of the list.
func spread(hosts []*world.Host, n int) []*world.Host {
	var some []*world.Host
	for i := range n {
		some = append(some, hosts[i*len(hosts)/n])
	}
	return slices.Clip(some)
}
