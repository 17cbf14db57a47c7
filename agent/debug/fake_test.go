package debug

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/netns"
	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/snapshot"
)

// fakeSource says what a test wants said.
type fakeSource struct {
	report      stitch.Report
	inspections map[string]joiner.Inspection
	inspectErr  error
	install     install.Status
	attachments []attachments.Attachment
	stats       attachments.Stats
	problems    []error
	cidrs       []netip.Prefix
	gateways    []GatewayView
	pods        []PodView
	ready       error
}

func (s *fakeSource) Inspect(id string) (joiner.Inspection, error) {
	if s.inspectErr != nil {
		return joiner.Inspection{}, s.inspectErr
	}
	in, ok := s.inspections[id]
	if !ok {
		return in, fmt.Errorf("inspect member %s: %w", id, stitch.ErrUnknown)
	}
	return in, nil
}

func (s *fakeSource) Attachments() ([]attachments.Attachment, attachments.Stats, []error) {
	return s.attachments, s.stats, s.problems
}

func (s *fakeSource) Report() stitch.Report        { return s.report }
func (s *fakeSource) Install() install.Status      { return s.install }
func (s *fakeSource) ClusterCIDRs() []netip.Prefix { return s.cidrs }
func (s *fakeSource) Gateways() []GatewayView      { return s.gateways }
func (s *fakeSource) Pods() []PodView              { return s.pods }
func (s *fakeSource) Ready() error                 { return s.ready }

// fixedNow is when the tests' pages are made.
var fixedNow = time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)

func before(d time.Duration) time.Time { return fixedNow.Add(-d) }

// newPages returns pages of the source, made at fixedNow.
func newPages(s Source) *Pages {
	return New(Options{
		Source: s, Node: "worker-1", Version: "v1.2.3", Registry: prometheus.NewPedanticRegistry(),
		Now: func() time.Time { return fixedNow },
	})
}

// emptySource is an agent that has just started.
func emptySource() *fakeSource {
	return &fakeSource{ready: errors.New("the agent does not know its node yet: it waits for the Kubernetes API")}
}

// The members of busySource, by what they are.
const (
	uidJoined  = "11111111-aaaa-4000-8000-000000000001"
	uidFound   = "22222222-aaaa-4000-8000-000000000002"
	uidDrifted = "33333333-aaaa-4000-8000-000000000003"
	uidWaiting = "44444444-aaaa-4000-8000-000000000004"
	uidCut     = "55555555-aaaa-4000-8000-000000000005"
	uidLeft    = "66666666-aaaa-4000-8000-000000000006"
	uidOutside = "77777777-aaaa-4000-8000-000000000007"
)

func prefixes(texts ...string) []netip.Prefix {
	var ps []netip.Prefix
	for _, s := range texts {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

// busySource is an agent of a node with three groups: one whose gateway is ready, one without a gateway and one whose gateway
// does not answer.
func busySource() *fakeSource {
	return &fakeSource{
		report: busyReport(), inspections: busyInspections(),
		install: install.Status{
			State: install.Ready, Reason: install.Installed, Message: "the plugin is in /etc/cni/net.d/10-cni.conflist",
			File: "/etc/cni/net.d/10-cni.conflist", Patches: 2,
		},
		attachments: []attachments.Attachment{{
			PodUID: uidJoined, Namespace: "shop", Name: "api-0", ContainerID: "0123456789abcdef0123456789abcdef", NetNS: "/run/netns/cni-a",
			ID: netns.ID{Dev: 4, Ino: 4026532000}, IfName: "eth0", IPs: []netip.Addr{netip.MustParseAddr("10.244.1.7")}, MTU: 1450,
		}, {
			PodUID: uidWaiting, Namespace: "shop", Name: "web-0", ContainerID: "short", NetNS: "/run/netns/cni-b",
			ID: netns.ID{Dev: 4, Ino: 4026532111}, IfName: "eth0",
		}},
		stats:    attachments.Stats{Files: 3, Pods: 2, LeftOver: 1, Problems: 1},
		problems: []error{errors.New("/var/lib/cni/results/kindnet-x-eth0: unexpected end of JSON input")},
		cidrs:    prefixes("10.96.0.0/16", "10.244.0.0/16", "fd00:10:244::/56"),
		gateways: busyGateways(), pods: busyPods(),
	}
}

func busyReport() stitch.Report {
	return stitch.Report{
		Synced: true,
		Members: []stitch.Status{
			{
				ID: uidJoined, Name: "shop/api-0", Group: "payments", State: stitch.Joined, Slot: 1, Closed: true, Ready: true,
				Asked: before(5*time.Minute + 250*time.Millisecond), Joined: before(5 * time.Minute),
			},
			{
				ID: uidFound, Name: "shop/api-1", Group: "payments", State: stitch.Joined, Slot: 300, Closed: true, Ready: true,
				Asked: before(time.Hour), Joined: before(time.Hour), Found: true, Repairs: 3,
			},
			{
				ID: uidDrifted, Name: "shop/api-2", Group: "payments", State: stitch.Failed, Slot: 2, Closed: true,
				Message: "route add: operation not permitted", Asked: before(49 * time.Hour), Joined: before(48 * time.Hour), Failures: 4,
			},
			{
				ID: uidWaiting, Name: "shop/web-0", Group: "peers", State: stitch.Waiting, Closed: true,
				Message: "group peers has no gateway on this node yet", Asked: before(3 * time.Second),
			},
			{
				ID: uidCut, Name: "shop/api-3", Group: "payments", State: stitch.Joined, Slot: 7, Closed: true, Ready: true,
				Asked: before(time.Minute), Joined: before(time.Minute), Found: true,
			},
			{ID: uidLeft, Name: "shop/job-0", State: stitch.Left, Asked: before(time.Minute)},
		},
		Groups: []stitch.GroupReport{
			{Name: "old", Gateway: &stitch.GatewayReport{
				NetNS: stitch.NetNS{Path: "/run/netns/cni-old"}, Message: "the network namespace has gone",
			}},
			{
				Name: "payments", Known: true, Members: 4, Joined: 3,
				Overlaps: []stitch.Overlap{
					{Route: prefixes("10.0.0.0/8")[0], CIDR: prefixes("10.244.0.0/16")[0], Steered: true},
					{Route: prefixes("10.96.3.0/24")[0], CIDR: prefixes("10.96.0.0/16")[0]},
				},
				Gateway: &stitch.GatewayReport{NetNS: stitch.NetNS{Path: "/run/netns/cni-gw"}, Open: true, Ready: true},
			},
			{Name: "peers", Known: true, Members: 1},
		},
		Repairs: map[string]int{"route": 2, "link": 1},
	}
}

func busyGateways() []GatewayView {
	return []GatewayView{
		{
			Group: "payments", Pod: "tailgate-gateway-payments-x7k2p", NetNS: "/run/netns/cni-gw", Socket: "/run/tailgate/gateways/payments/snapshot.sock",
			Heard: before(42 * time.Second),
			Snapshot: &snapshot.Snapshot{
				Version: "v1.2.3", Time: before(42 * time.Second), BackendState: "Running", Ready: true, DeviceID: "nSELF",
				Name: "egress-payments.example.ts.net", Addrs: []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd7a:115c:a1e0::1")},
				Routes: prefixes("10.0.0.0/8", "10.96.3.0/24"), Problems: []string{"DERP region fra cannot be reached"},
				ExitNode: snapshot.ExitNode{Wanted: "exit-fra1", ID: "nEXIT", Name: "exit-fra1.example.ts.net", Online: true},
				Config:   snapshot.Config{Hash: "0123456789ab", Generation: 3, Error: `line 3: "acceptRoutes" wants true or false`},
			},
		},
		{
			Group: "old", Pod: "tailgate-gateway-old-abcde", Heard: before(3 * time.Hour), Socket: "/run/tailgate/gateways/old/snapshot.sock",
			Err: errors.New("watch the gateway: connection refused"),
		},
		{Group: "new", Pod: "tailgate-gateway-new-fghij"},
	}
}

func busyPods() []PodView {
	const netns = "/run/netns/cni-"
	return []PodView{
		{Name: "shop/web-0", UID: uidWaiting, State: "Member", Group: "peers"},
		{Name: "shop/api-0", UID: uidJoined, State: "Member", Group: "payments", Others: []string{"peers", "late"}, ContainerID: "0123456789abcdef0123", NetNS: netns + "a"},
		{Name: "shop/quiet", UID: uidOutside, State: "Outside", Reason: "NotSelected", ContainerID: "abc", NetNS: netns + "c"},
		{Name: "kube-system/proxy", UID: "u1", State: "Outside", Reason: "HostNetwork", Others: []string{"payments"}},
		{Name: "shop/done", UID: "u2", State: "Outside", Reason: "Finished"},
		{Name: "tailgate-system/agent", UID: "u3", State: "Outside", Reason: "OwnPod"},
		{Name: "shop/early", UID: "u4", State: "Undecided", Reason: "GroupsUnknown"},
		{Name: "shop/later", UID: "u5", State: "Undecided", Reason: "NamespaceUnknown"},
		{Name: "shop/strange", UID: "u6", State: "Outside", Reason: "SomethingNew"},
	}
}

func busyInspections() map[string]joiner.Inspection {
	dst := prefixes("100.64.0.0/10")[0]
	shut := netstate.Route{Table: ident.TableMember, Dst: dst, Metric: ident.MetricFallback, Type: netstate.Unreachable}
	open := netstate.Route{Table: ident.TableMember, Dst: dst, Metric: ident.MetricPreferred, Type: netstate.Unicast, Link: ident.MemberLink}
	closed := netstate.State{Routes: []netstate.Route{shut}}
	joined := func(uid string) netstate.State {
		link := netstate.Link{Name: ident.MemberLink, Kind: netstate.Veth, MTU: ident.MTU, Up: true, Alias: ident.AliasPrefix + uid + "@1"}
		return netstate.State{Links: []netstate.Link{link}, Routes: []netstate.Route{open, shut}}
	}
	far := netstate.State{Links: []netstate.Link{{Name: ident.GatewayLink(1), Kind: netstate.Veth, MTU: ident.MTU, Up: true}}}
	side := func(have, want netstate.State) joiner.Side {
		return joiner.Side{Desired: want, Observed: have, Plan: netstate.Diff(have, want)}
	}
	const table, cut = "table inet tailgate {\n\tchain output {\n\t\tdrop\n\t}\n}\n", "table inet tailgate {\n\tchain output {\n\t}\n}\n"
	return map[string]joiner.Inspection{
		uidJoined:  {Slot: 1, Member: side(joined(uidJoined), joined(uidJoined)), Gateway: side(far, far), DesiredTable: table, ObservedTable: table, TableEqual: true},
		uidDrifted: {Slot: 2, Member: side(closed, joined(uidDrifted)), Gateway: side(netstate.State{}, far), DesiredTable: table, ObservedTable: cut},
		uidWaiting: {Member: side(closed, closed), DesiredTable: table, ObservedTable: table, TableEqual: true},
		uidCut:     {Member: side(closed, closed), DesiredTable: table, ObservedTable: table, TableEqual: true},
	}
}
