package stitch

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

func TestSteer(t *testing.T) {
	const v4, v6 = "100.64.0.0/10", "fd7a:115c:a1e0::/48"
	cluster := prefixes("10.96.0.0/12", "10.244.0.0/16", "fd00:10:96::/112")
	known := learned{known: true, routes: prefixes("10.55.0.0/16"), local: prefixes("192.168.8.0/24")}
	pfx := netip.MustParsePrefix
	for name, tt := range map[string]struct {
		g       Group
		l       learned
		cluster []netip.Prefix
		want    steering
	}{
		"peers": {want: steering{prefixes: prefixes(v4, v6)}},
		"routes, in order and once": {
			g:    Group{Prefixes: prefixes("172.16.0.0/12", "10.1.2.3/16", "10.1.0.0/16", "fd20::/64")},
			want: steering{prefixes: prefixes("10.1.0.0/16", v4, "172.16.0.0/12", "fd20::/64", v6)},
		},
		"mapped IPv4": {
			g:    Group{Prefixes: prefixes("::ffff:10.1.0.0/112")},
			want: steering{prefixes: prefixes("10.1.0.0/16", v4, v6)},
		},
		"default routes are the exit node's": {
			g:    Group{Prefixes: prefixes("0.0.0.0/0", "::/0")},
			want: steering{prefixes: prefixes(v4, v6)},
		},
		"mirrored": {
			g: Group{Mirror: true}, l: known,
			want: steering{prefixes: prefixes("10.55.0.0/16", v4, v6)},
		},
		"not mirrored": {l: known, want: steering{prefixes: prefixes(v4, v6)}},
		"exit": {
			g: Group{Exit: &Exit{Direct: prefixes("192.168.7.0/24")}}, l: known, cluster: cluster[:1],
			want: steering{prefixes: prefixes(v4, v6), direct: prefixes("10.96.0.0/12", "192.168.7.0/24", "192.168.8.0/24"), exit: true},
		},
		"inside the cluster": {
			g: Group{Prefixes: prefixes("10.97.0.0/16", "10.244.0.0/16", "10.20.0.0/24")}, cluster: cluster,
			want: steering{
				prefixes: prefixes("10.20.0.0/24", v4, v6), direct: cluster,
				overlaps: []Overlap{
					{Route: pfx("10.97.0.0/16"), CIDR: pfx("10.96.0.0/12")},
					{Route: pfx("10.244.0.0/16"), CIDR: pfx("10.244.0.0/16")},
				},
			},
		},
		"around the cluster": {
			g: Group{Mirror: true}, l: learned{known: true, routes: prefixes("10.0.0.0/8")}, cluster: cluster,
			want: steering{
				prefixes: prefixes("10.0.0.0/8", v4, v6), direct: cluster,
				overlaps: []Overlap{{Route: pfx("10.0.0.0/8"), CIDR: pfx("10.96.0.0/12"), Steered: true}},
			},
		},
		"both": {
			g: Group{Prefixes: prefixes("10.96.0.0/11")}, cluster: prefixes("10.96.0.0/24", "10.0.0.0/8"),
			want: steering{
				prefixes: prefixes(v4, v6), direct: prefixes("10.0.0.0/8"),
				overlaps: []Overlap{{Route: pfx("10.96.0.0/11"), CIDR: pfx("10.0.0.0/8")}},
			},
		},
		"a CIDR for each node": {
			cluster: prefixes("10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/23", "192.0.2.1/32", "192.0.2.3/32"),
			want:    steering{prefixes: prefixes(v4, v6), direct: prefixes("10.244.0.0/22", "192.0.2.1/32", "192.0.2.3/32")},
		},
		"a cluster on CGNAT": {
			cluster: prefixes(v4),
			want:    steering{prefixes: prefixes(v6), direct: prefixes(v4), overlaps: []Overlap{{Route: pfx(v4), CIDR: pfx(v4)}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := steer(tt.g, tt.l, tt.cluster)
			opts := []cmp.Option{
				cmp.AllowUnexported(steering{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}),
			}
			if diff := cmp.Diff(tt.want, got, opts...); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A gateway that does not know has not unsaid what it said.
func TestLearn(t *testing.T) {
	var l learned
	for _, step := range []struct {
		s    *snapshot.Snapshot
		want learned
	}{
		{nil, learned{}},
		{&snapshot.Snapshot{BackendState: "Starting"}, learned{}},
		{ready("10.1.0.0/16"), learned{known: true, routes: prefixes("10.1.0.0/16")}},
		{nil, learned{known: true, routes: prefixes("10.1.0.0/16")}},
		{&snapshot.Snapshot{BackendState: "NeedsLogin"}, learned{known: true, routes: prefixes("10.1.0.0/16")}},
		{ready(), learned{known: true}},
	} {
		l = l.learn(step.s)
		if diff := cmp.Diff(step.want, l, cmp.AllowUnexported(learned{}), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{})); diff != "" {
			t.Errorf("after %+v (-want +got):\n%s", step.s, diff)
		}
	}
}
