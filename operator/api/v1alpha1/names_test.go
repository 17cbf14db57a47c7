package v1alpha1_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// longest is as long as the name of a group or a node can be.
var longest = strings.Repeat(strings.Repeat("a", 63)+".", 3) + strings.Repeat("a", 61)

// names are all names that a group and a node get.
type names struct{ Key, Label, Object, Gateway, Tag string }

func namesOf(group, node string) names {
	return names{
		Key: v1alpha1.GroupKey(group), Label: v1alpha1.NodeLabel(group), Object: v1alpha1.GroupObjectName(group),
		Gateway: v1alpha1.GatewayName(group, node), Tag: v1alpha1.DefaultTag(group),
	}
}

// TestNames has the names written out: objects in clusters, folders on nodes and tags in tailnets have them, so that
// they never change.
func TestNames(t *testing.T) {
	a := strings.Repeat("a", 64)
	const labelPrefix = "gateway.tailscale.rajsingh.info/"
	for _, tt := range []struct {
		group, node string
		want        names
	}{
		{"payments", "node-1", names{
			Key: "payments", Label: labelPrefix + "payments", Object: "gw-payments",
			Gateway: "payments-node-1-4cbc78fd93", Tag: "tag:egress-payments",
		}},
		{"a.b", "node-1.example.com", names{
			Key: "a.b", Label: labelPrefix + "a.b", Object: "gw-a-b-2e7336dc8e",
			Gateway: "a-b-node-1-example-com-75ba489d82", Tag: "tag:egress-a-b",
		}},
		{"a-b", "node-1.example.com", names{
			Key: "a-b", Label: labelPrefix + "a-b", Object: "gw-a-b",
			Gateway: "a-b-node-1-example-com-96a51297c6", Tag: "tag:egress-a-b",
		}},
		{a[:47], "node-1", names{
			Key: a[:47], Label: labelPrefix + a[:47], Object: "gw-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
			Gateway: "aaaaaaaaaaaaaaaaaaaaaaaaa-node-1-ad750353c9", Tag: "tag:egress-" + a[:47],
		}},
		{a[:48], "node-1", names{
			Key: a[:48], Label: labelPrefix + a[:48], Object: "gw-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-97daac0ee9",
			Gateway: "aaaaaaaaaaaaaaaaaaaaaaaaa-node-1-de3e824507", Tag: "tag:egress-" + a[:48],
		}},
		{a[:63], "node-1", names{
			Key: a[:63], Label: labelPrefix + a[:63], Object: "gw-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-7d3e74a05d",
			Gateway: "aaaaaaaaaaaaaaaaaaaaaaaaa-node-1-6f659a893a", Tag: "tag:egress-" + a[:63],
		}},
		{a[:64], "node-1", names{
			Key: a[:52] + "-ffe054fe7a", Label: labelPrefix + a[:52] + "-ffe054fe7a", Object: "gw-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-ffe054fe7a",
			Gateway: "aaaaaaaaaaaaaaaaaaaaaaaaa-node-1-55685de04f", Tag: "tag:egress-" + a[:64],
		}},
		{longest, longest, names{
			Key: a[:52] + "-5dc8059b75", Label: labelPrefix + a[:52] + "-5dc8059b75", Object: "gw-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-5dc8059b75",
			Gateway: "aaaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaaa-7e7f334656", Tag: "tag:egress-" + strings.ReplaceAll(longest, ".", "-"),
		}},
		{"payments-0123456789", "node-1", names{
			Key: "payments-0123456789-973717eb0f", Label: labelPrefix + "payments-0123456789-973717eb0f", Object: "gw-payments-0123456789-973717eb0f",
			Gateway: "payments-0123456789-node-1-45de827208", Tag: "tag:egress-payments-0123456789",
		}},
		{a[:24] + "-b", a[:25] + "-b", names{
			Key: a[:24] + "-b", Label: labelPrefix + a[:24] + "-b", Object: "gw-aaaaaaaaaaaaaaaaaaaaaaaa-b",
			Gateway: "aaaaaaaaaaaaaaaaaaaaaaaa-aaaaaaaaaaaaaaaaaaaaaaaaa-8b352f4a5f", Tag: "tag:egress-" + a[:24] + "-b",
		}},
	} {
		if diff := cmp.Diff(tt.want, namesOf(tt.group, tt.node)); diff != "" {
			t.Errorf("names of %s on %s (-want +got):\n%s", tt.group, tt.node, diff)
		}
	}
}

// TestNamesDiffer takes names that are easily mistaken for one another.
func TestNamesDiffer(t *testing.T) {
	long := strings.Repeat("a", 100)
	groups := []string{
		"a.b", "a-b", "a.b.c", "a-b.c", "a.b-c", "a-b-c", "a--b",
		long + "b", long + "c", long[:63], long[:64], long[:47], long[:48],
		// What others are called.
		v1alpha1.GroupKey(long), v1alpha1.GroupKey(v1alpha1.GroupKey(long)),
		strings.TrimPrefix(v1alpha1.GroupObjectName("a.b"), "gw-"),
		strings.TrimPrefix(v1alpha1.GroupObjectName(long), "gw-"),
		v1alpha1.GatewayName("a.b", "n"), longest, "gw-a-b",
	}
	for i, a := range groups {
		valid(t, a, a)
		for _, b := range groups[:i] {
			differ(t, a, b)
		}
	}
	pairs := [][2]string{{"a", "b"}, {"b", "a"}, {"a-b", "c"}, {"a", "b-c"}, {"a.b", "c"}, {"a", "b.c"}}
	for i, x := range pairs {
		for _, y := range pairs[:i] {
			if name := v1alpha1.GatewayName(x[0], x[1]); name == v1alpha1.GatewayName(y[0], y[1]) {
				t.Errorf("the gateways %q and %q are both %s", x, y, name)
			}
		}
	}
}

// TestRandomNames takes many. It is no fuzzer: go test -fuzz would first compile all of Kubernetes' client libraries
// again, for names that mostly go through a hash.
func TestRandomNames(t *testing.T) {
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	name := func() string {
		// Few letters, so that names are alike.
		const letters, inner = "ab0", "ab0-."
		text := make([]byte, 1+random.IntN(1+random.IntN(253)))
		for i := range text {
			text[i] = letters[random.IntN(len(letters))]
			if end := i == 0 || i == len(text)-1; !end && text[i-1] != '.' && text[i-1] != '-' {
				text[i] = inner[random.IntN(len(inner))]
			}
		}
		return string(text)
	}
	seen := map[names]string{}
	for range 20_000 {
		group, node := name(), name()
		for _, name := range []string{group, node} {
			if faults := validation.IsDNS1123Subdomain(name); len(faults) > 0 {
				t.Fatalf("the test makes names that the API server refuses: %q: %s", name, faults)
			}
		}
		valid(t, group, node)
		// What is left of the names says which group it is.
		for _, n := range []names{{Key: v1alpha1.GroupKey(group)}, {Object: v1alpha1.GroupObjectName(group)}, {Gateway: v1alpha1.GatewayName(group, "node")}} {
			if other, ok := seen[n]; ok && other != group {
				t.Fatalf("groups %q and %q share a name: %+v", group, other, n)
			}
			seen[n] = group
		}
	}
}

// valid fails when a name made for a group and a node is not valid where it is used.
func valid(t *testing.T, group, node string) {
	t.Helper()
	n := namesOf(group, node)
	for _, check := range []struct {
		what, name string
		faults     func(string) []string
	}{
		{"label value", n.Key, validation.IsValidLabelValue},
		{"label", n.Label, validation.IsQualifiedName},
		{"DNS label", n.Object, validation.IsDNS1123Label},
		{"DNS label", n.Gateway, validation.IsDNS1123Label},
		// A tag's name has no dots and begins with a letter; a label in front of the tag's name has room for it.
		{"tag", n.Tag, tagFaults},
	} {
		if faults := check.faults(check.name); len(faults) > 0 {
			t.Errorf("group %q on node %q has %q for a %s: %s", group, node, check.name, check.what, strings.Join(faults, "; "))
		}
	}
	// A DaemonSet's pods are called after it, with a dash and 5 characters behind.
	if len(n.Object) > 63-6 {
		t.Errorf("%q is too long for a DaemonSet", n.Object)
	}
}

// tagFaults has Tailscale's rules for a tag (CheckTag in its package tailcfg).
func tagFaults(tag string) []string {
	name, ok := strings.CutPrefix(tag, "tag:")
	if !ok || name == "" || name[0] < 'a' || name[0] > 'z' {
		return []string{"it does not begin with tag: and a letter"}
	}
	if rest := strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-"); rest != "" {
		return []string{"it has " + rest}
	}
	return nil
}

// differ fails when two groups share what would make one of them touch the other's.
func differ(t *testing.T, a, b string) {
	t.Helper()
	x, y := namesOf(a, "node"), namesOf(b, "node")
	for what, same := range map[string]bool{
		"key " + x.Key: x.Key == y.Key, "label " + x.Label: x.Label == y.Label,
		"object " + x.Object: x.Object == y.Object, "gateway " + x.Gateway: x.Gateway == y.Gateway,
	} {
		if same {
			t.Errorf("groups %q and %q share the %s", a, b, what)
		}
	}
}
