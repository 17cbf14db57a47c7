package ruleset_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netns/nstest"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// tampering is what others may do to our table, as nft scripts. HANDLE is that of
// the rule with the comment "from-member".
var tampering = []struct{ name, script string }{
	{"a rule deleted", "delete rule inet TABLE filter-prerouting handle HANDLE"},
	{"a rule added", "add rule inet TABLE filter-forward accept"},
	{"a rule put first", "insert rule inet TABLE filter-forward accept"},
	{"a rule replaced", "replace rule inet TABLE filter-prerouting handle HANDLE iifname \"tg*\" counter"},
	{"an expression that we do not know in a rule of ours", "replace rule inet TABLE filter-prerouting handle HANDLE iifname \"tg*\" iifname != \"tgx*\" limit rate 1/second counter meta mark set meta mark & 0xfeffffff | 0x01000000 comment \"from-member\""},
	{"an expression that the library does not know either", "replace rule inet TABLE filter-prerouting handle HANDLE iifname \"tg*\" iifname != \"tgx*\" socket transparent 1 counter meta mark set meta mark & 0xfeffffff | 0x01000000 comment \"from-member\""},
	{"a comment changed", "replace rule inet TABLE filter-prerouting handle HANDLE iifname \"tg*\" iifname != \"tgx*\" counter meta mark set meta mark & 0xfeffffff | 0x01000000 comment \"from\""},
	{"a counter taken away", "replace rule inet TABLE filter-prerouting handle HANDLE iifname \"tg*\" iifname != \"tgx*\" meta mark set meta mark & 0xfeffffff | 0x01000000 comment \"from-member\""},
	{"a policy changed", "chain inet TABLE filter-forward { policy accept; }"},
	{"a chain flushed", "flush chain inet TABLE filter-forward"},
	{"a base chain added", "add chain inet TABLE foreign { type filter hook input priority 5; policy accept; }"},
	{"a plain chain added", "add chain inet TABLE foreign"},
	{"a chain at another hook", "flush chain inet TABLE filter-input\ndelete chain inet TABLE filter-input\nadd chain inet TABLE filter-input { type filter hook output priority -300; policy accept; }"},
	{"an empty chain deleted", "delete chain inet TABLE filter-input"},
	{"the table flushed", "flush table inet TABLE"},
	{"the table deleted", "delete table inet TABLE"},
	{"the table put to sleep", "add table inet TABLE { flags dormant; }"},
	{"a set added", "add set inet TABLE foreign { type ipv4_addr; }"},
	{"a set in use", "add set inet TABLE foreign { type ipv4_addr; flags interval; }\nadd rule inet TABLE filter-input ip saddr @foreign drop"},
	{"a counter object added", "add counter inet TABLE foreign"},
	{"a map in use", "add rule inet TABLE filter-input meta mark set tcp dport map { 1 : 2, 3 : 4 }"},
	{"all rules of everybody flushed", "flush ruleset"},
}

func TestTampering(t *testing.T) {
	for _, tc := range tampering {
		t.Run(tc.name, func(t *testing.T) {
			h := nstest.New(t)
			c := open(t, h)
			want := every(name)
			apply(t, c, want)
			nft(t, h, strings.NewReplacer("TABLE", name, "HANDLE", handle(t, h, "from-member")).Replace(tc.script))
			if have, ok, err := c.Observe(name); err != nil || (ok && ruleset.Equal(have, want)) {
				t.Fatalf("not noticed (%v); the table is\n%s", err, nft(t, h, "list ruleset"))
			}
			if !apply(t, c, want) {
				t.Error("Apply says that it changed nothing")
			}
			if diff := diff(want, observe(t, c)); diff != "" {
				t.Error(diff)
			}
			if apply(t, c, want) {
				t.Error("Apply does not come to rest")
			}
		})
	}
}

// handle returns the handle of the rule with the comment.
func handle(t *testing.T, h *netns.Handle, comment string) string {
	t.Helper()
	for line := range strings.Lines(nft(t, h, "list table inet "+name)) {
		if strings.Contains(line, fmt.Sprintf("comment %q", comment)) {
			_, after, _ := strings.Cut(line, "# handle ")
			return strings.TrimSpace(after)
		}
	}
	t.Fatalf("no rule has the comment %q", comment)
	return ""
}

func TestUnknownIsPrinted(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	nft(t, h, `table inet `+name+` {
		set s { type ipv4_addr; }
		chain plain { }
		chain filter-input {
			type filter hook input priority 0; policy accept;
			tcp dport 22 limit rate 1/second accept comment "slow"
		}
	}`)
	want := ruleset.Table{
		Name: name, Unknown: []string{"set s"},
		Chains: []ruleset.Chain{
			{Name: "plain", Unknown: "not a base chain"},
			chain(ruleset.TypeFilter, ruleset.HookInput, 0, ruleset.Rule{Unknown: "meta cmp payload cmp limit verdict", Comment: "slow"}),
		},
	}
	have := observe(t, c)
	if diff := diff(want, have); diff != "" {
		t.Error(diff)
	}
	text := `table inet tailgate-test {
	unknown: set s
	chain plain {
		unknown: not a base chain
	}

	chain filter-input {
		type filter hook input priority 0; policy accept;
		unknown: meta cmp payload cmp limit verdict comment "slow"
	}
}
`
	if diff := cmp.Diff(text, have.String()); diff != "" {
		t.Error(diff)
	}
	if _, err := c.Apply(have); err == nil {
		t.Error("what is unknown was applied")
	}
}

func TestForeignTablesAreUntouched(t *testing.T) {
	h := nstest.New(t)
	c := open(t, h)
	nft(t, h, `table inet foreign {
		chain c {
			type filter hook forward priority 0
			ip saddr { 10.0.0.0/8, 192.168.0.0/16 } counter packets 7 bytes 9 drop
		}
	}
	table ip `+name+` {
		chain c {
			type nat hook postrouting priority 100
			masquerade random
		}
	}
	table inet `+name+`x {
		set s {
			type ipv4_addr
			elements = { 10.0.0.1 }
		}
	}`)
	list := func() string {
		return nft(t, h, "list table inet foreign") + nft(t, h, "list table ip "+name) + nft(t, h, "list table inet "+name+"x")
	}
	before := list()
	apply(t, c, every(name))
	nft(t, h, "flush table inet "+name)
	apply(t, c, every(name))
	if diff := cmp.Diff(before, list()); diff != "" {
		t.Errorf("after Apply:\n%s", diff)
	}
	for range 2 { // the second time it is absent
		if err := c.Delete(name); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(before, list()); diff != "" {
		t.Errorf("after Delete:\n%s", diff)
	}
	if _, ok, err := c.Observe(name); ok || err != nil {
		t.Errorf("after Delete there is one: %t, %v", ok, err)
	}
}
