package ruleset_test

import (
	"errors"
	"io/fs"
	"math/bits"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

const name = "tailgate-test"

func open(t *testing.T, h *netns.Handle) *ruleset.Conn {
	t.Helper()
	c, err := ruleset.Open(h.FD())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// run runs a program in the namespace and returns what it printed.
func run(t *testing.T, h *netns.Handle, stdin string, args ...string) string {
	t.Helper()
	var out []byte
	if err := h.Do(func() error {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Stdin = strings.NewReader(stdin)
		var err error
		out, err = cmd.CombinedOutput()
		return err
	}); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// nft runs the nft program with a script.
func nft(t *testing.T, h *netns.Handle, script string) string {
	t.Helper()
	return run(t, h, script, "nft", "-a", "-f", "-")
}

func apply(t *testing.T, c *ruleset.Conn, want ruleset.Table) (changed bool) {
	t.Helper()
	changed, err := c.Apply(want)
	if err != nil {
		t.Fatal(err)
	}
	return changed
}

func observe(t *testing.T, c *ruleset.Conn) ruleset.Table {
	t.Helper()
	have, ok, err := c.Observe(name)
	if err != nil {
		t.Fatal(err)
	}
	if !ok {
		t.Fatalf("there is no table %s", name)
	}
	return have
}

func diff(a, b any) string {
	return cmp.Diff(a, b, cmpopts.EquateComparable(netip.Prefix{}, ruleset.Action{}))
}

func TestRoundTrip(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	want := every(name)
	if _, ok, err := c.Observe(name); err != nil || ok {
		t.Fatalf("before there is one: %t, %v", ok, err)
	}
	if !apply(t, c, want) {
		t.Error("the first Apply changed nothing")
	}
	if diff := diff(want, observe(t, c)); diff != "" {
		t.Errorf("what was applied reads back otherwise (-applied +observed):\n%s", diff)
	}
	if apply(t, c, want) {
		t.Error("the second Apply changed something")
	}
}

// What String prints is nft's language, and nft makes the same number of rules of it.
func TestTextIsNFT(t *testing.T) {
	h := nstest.New(t)
	text := every("by-nft").String()
	nft(t, h, text)
	c := open(t, h)
	apply(t, c, every("by-us"))
	count := func(name string) int {
		return strings.Count(nft(t, h, "list table inet "+name), "# handle")
	}
	if ours, theirs := count("by-us"), count("by-nft"); ours != theirs || ours < 30 {
		t.Errorf("nft made %d objects of the text, we made %d", theirs, ours)
	}
	nft(t, h, nftListable(nft(t, h, "list table inet by-us")))
}

// nftListable: what nft lists of our table, under another name, is a script that it accepts.
func nftListable(listing string) string {
	return strings.Replace(listing, "table inet by-us", "table inet listed", 1)
}

func TestRandomRulesRoundTrip(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	want := ruleset.Table{Name: name}
	hooks := chain(ruleset.TypeFilter, ruleset.HookForward, 0)
	for _, r := range ruleset.RandomRules(1500) {
		hooks.Rules = []ruleset.Rule{r}
		if (ruleset.Table{Name: name, Chains: []ruleset.Chain{hooks}}).Validate() == nil {
			want.Chains = []ruleset.Chain{{
				Name: hooks.Name, Type: hooks.Type, Hook: hooks.Hook, Policy: hooks.Policy,
				Rules: append(rulesOf(want), r),
			}}
		}
	}
	if n := len(rulesOf(want)); n < 500 {
		t.Fatalf("only %d of the rules are valid", n)
	}
	if !apply(t, c, want) || apply(t, c, want) {
		t.Error("Apply should change something once")
	}
	if diff := cmp.Diff(want.String(), observe(t, c).String()); diff != "" {
		t.Error(diff)
	}
}

func rulesOf(t ruleset.Table) []ruleset.Rule {
	if len(t.Chains) == 0 {
		return nil
	}
	return t.Chains[0].Rules
}

func TestLongList(t *testing.T) {
	c := open(t, nstest.New(t))
	var list []netip.Prefix
	for i := range 6000 { // every other /24 and /64, so that none can be joined
		list = append(list,
			netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 7), byte(i << 1), 0}), 24),
			netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 6: byte(i >> 7), 7: byte(i << 1)}), 64))
	}
	want := ruleset.Table{Name: name, Chains: []ruleset.Chain{chain(ruleset.TypeFilter, ruleset.HookForward, 0,
		rule(ruleset.Accept(), ruleset.DstIn(list...)))}}
	if n := len(want.Chains[0].Rules[0].Matches[0].Addrs); n != 12000 {
		t.Fatalf("the list has %d prefixes", n)
	}
	if !apply(t, c, want) || apply(t, c, want) {
		t.Error("Apply should change something once")
	}
	if diff := diff(want, observe(t, c)); diff != "" {
		t.Error(diff)
	}
}

func TestDeleteLeavesNothing(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	apply(t, c, every(name))
	if err := c.Delete(name); err != nil {
		t.Fatal(err)
	}
	if left := nft(t, h, "list ruleset"); left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	if got, err := c.Counters(name); err != nil || got != nil {
		t.Errorf("counters of no table: %v, %v", got, err)
	}
}

func TestRefusedTableChangesNothing(t *testing.T) {
	c := open(t, nstest.New(t))
	want := every(name)
	apply(t, c, want)
	bad := every(name)
	bad.Chains[1].Rules[0].Matches[0].States = 16
	if changed, err := c.Apply(bad); err == nil || changed {
		t.Errorf("a table that is not valid was applied: %t, %v", changed, err)
	}
	if diff := diff(want, observe(t, c)); diff != "" {
		t.Error(diff)
	}
}

// Every Apply of several at once ends in one of the tables, whole.
func TestAppliesAtOnce(t *testing.T) {
	h := nstest.New(t)
	small := every(name)
	small.Chains = small.Chains[:1]
	tables := []ruleset.Table{every(name), small}
	var wg sync.WaitGroup
	c := open(t, h)
	for i := range 8 {
		wg.Go(func() {
			for range 10 {
				if _, err := c.Apply(tables[i%2]); err != nil {
					t.Error(err)
				}
				have, ok, err := c.Observe(name)
				if err != nil || !ok || !(ruleset.Equal(have, tables[0]) || ruleset.Equal(have, tables[1])) {
					t.Errorf("half a table: %t, %v\n%s", ok, err, have)
				}
			}
		})
	}
	wg.Wait()
}

func TestOpenRefuses(t *testing.T) {
	file, err := unix.Open(t.TempDir(), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = unix.Close(file) }()
	for what, fd := range map[string]int{"no descriptor": -1, "a folder": file} {
		if c, err := ruleset.Open(fd); err == nil {
			t.Errorf("%s was opened as a network namespace", what)
			_ = c.Close()
		}
	}
}

func TestClosed(t *testing.T) {
	c, err := ruleset.Open(nstest.New(t).FD())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Apply(every(name)); err == nil {
		t.Error("Apply after Close succeeded")
	}
	if err := c.Delete(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Delete after Close: %v", err)
	}
}

func TestPrefixLengthsRoundTrip(t *testing.T) {
	c := open(t, nstest.New(t))
	hooks := chain(ruleset.TypeFilter, ruleset.HookForward, 0)
	for _, s := range []string{"255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"} {
		addr := netip.MustParseAddr(s)
		for n := range addr.BitLen() + 1 {
			p := netip.PrefixFrom(addr, n).Masked()
			hooks.Rules = append(hooks.Rules, rule(ruleset.Accept(), ruleset.SrcIn(p)))
			if n > 1 { // and its neighbour but one, in a set
				bit := netip.PrefixFrom(addr, bits.Len(uint(n))-1).Masked()
				hooks.Rules = append(hooks.Rules, rule(ruleset.Drop(), ruleset.Not(ruleset.DstIn(p, netip.PrefixFrom(bit.Addr().Prev(), addr.BitLen())))))
			}
		}
	}
	want := ruleset.Table{Name: name, Chains: []ruleset.Chain{hooks}}
	apply(t, c, want)
	if diff := cmp.Diff(want.String(), observe(t, c).String()); diff != "" {
		t.Error(diff)
	}
}
