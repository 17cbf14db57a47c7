package v1alpha1_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// bad is a spec that admission refuses, and what it says.
type bad struct {
	spec string // YAML
	want []string
}

// What several messages end in.
const (
	keyHelp = `write at most 63 letters, digits, dashes, underscores and dots, such as app, ` +
		`with a DNS name and a slash before them if need be, such as example.com/app`
	valueHelp = `write letters, digits, dashes, underscores and dots, with a letter or a digit at both ends`
	cidrHelp  = `write an address and the length of its prefix, such as 10.0.0.0/8 or fd00:1::/48`
	exitHelp  = `write a StableNodeID such as nXyZ12CNTRL, a tailnet IP, a MagicDNS name such as exit-fra1.example.ts.net, or auto:any`
	// quantityPattern is Kubernetes' own.
	quantityPattern = `^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`
	tagHelp         = `write tag: and a name of letters, digits and dashes that begins with a letter, such as tag:egress-payments`
)

var badSelectors = []bad{
	{`{}`, []string{`spec.selector: Required value`}},
	{`null`, []string{`spec: Required value`}},
	{`{selector: {}}`, []string{`spec.selector: Invalid value: selector is empty; ` +
		`write a namespaceSelector, a podSelector or both, or podSelector: {} to select every pod of the cluster`}},
	{`{selector: {podSelector: null}}`, []string{`spec.selector: Invalid value: selector is empty; ` +
		`write a namespaceSelector, a podSelector or both, or podSelector: {} to select every pod of the cluster`}},
	{`{selector: {podSelector: {matchLabels: {"a b": x, c: x}}}}`, []string{
		`spec.selector.podSelector.matchLabels: Invalid value: these cannot be keys of labels: ["a b"]; ` + keyHelp,
	}},
	{`{selector: {namespaceSelector: {matchLabels: {a: "x y"}}}}`, []string{
		`spec.selector.namespaceSelector.matchLabels[a]: Invalid value: "x y": "x y" cannot be the value of a label; ` + valueHelp,
	}},
	{`{selector: {podSelector: {matchLabels: {a: true}}}}`, []string{
		`spec.selector.podSelector.matchLabels.a: Invalid value: "boolean": spec.selector.podSelector.matchLabels.a in body must be of type string: "boolean"`,
	}},
	{`{selector: {podSelector: {matchLabels: {a: ` + strings.Repeat("x", 64) + `}}}}`, []string{
		`spec.selector.podSelector.matchLabels.a: Too long: may not be more than 63 bytes`,
	}},
	{`{selector: {podSelector: {matchExpressions: [{key: a, operator: In}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].values: Invalid value: ` +
			`operator In needs values; write those that label "a" may have, or operator: Exists for any`,
	}},
	{`{selector: {podSelector: {matchExpressions: [{key: a, operator: NotIn, values: []}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].values: Invalid value: ` +
			`operator NotIn needs values; write those that label "a" must not have, or operator: DoesNotExist for none`,
	}},
	{`{selector: {podSelector: {matchExpressions: [{key: a, operator: Exists, values: [x]}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].values: Invalid value: ` +
			`operator Exists takes no values; remove them, or write operator: In`,
	}},
	{`{selector: {podSelector: {matchExpressions: [{key: a, operator: DoesNotExist, values: [x]}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].values: Invalid value: ` +
			`operator DoesNotExist takes no values; remove them, or write operator: NotIn`,
	}},
	{`{selector: {podSelector: {matchExpressions: [{key: a, operator: in, values: [x]}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].operator: Unsupported value: "in": supported values: "In", "NotIn", "Exists", "DoesNotExist"`,
	}},
	{`{selector: {podSelector: {matchExpressions: [{key: "-a", operator: In, values: [x, "x y"]}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].key: Invalid value: "-a": "-a" cannot be the key of a label; ` + keyHelp,
		`spec.selector.podSelector.matchExpressions[0].values[1]: Invalid value: "x y": "x y" cannot be the value of a label; ` + valueHelp,
	}},
	{`{selector: {podSelector: {matchExpressions: [{operator: Exists}, {key: a}]}}}`, []string{
		`spec.selector.podSelector.matchExpressions[0].key: Required value`,
		`spec.selector.podSelector.matchExpressions[1].operator: Required value`,
	}},
}

var badRoutes = []bad{
	{`{mode: exit, selector: {podSelector: {}}}`, []string{`spec.mode: Unsupported value: "exit": supported values: "cgnat", "subnet"`}},
	{`{routes: [10.0.0.0/8], selector: {podSelector: {}}}`, []string{`spec.routes: Invalid value: ` +
		`routes need mode: subnet; write that, or remove the routes: in mode cgnat members reach tailnet peers only`}},
	{`{mode: cgnat, routes: [10.0.0.0/8], selector: {podSelector: {}}}`, []string{`spec.routes: Invalid value: ` +
		`routes need mode: subnet; write that, or remove the routes: in mode cgnat members reach tailnet peers only`}},
	{subnet(`10.0.0.0/8, "fd00::/8", 10.0.0.0/8`), []string{`spec.routes[2]: Duplicate value: "10.0.0.0/8"`}},
	{subnet(`10.0.0, "", "a\nb", 10.0.0.0/33, 010.0.0.0/8, "fd00::1%eth0/128"`), []string{
		`spec.routes[0]: Invalid value: "10.0.0": "10.0.0" is not a CIDR; ` + cidrHelp,
		`spec.routes[1]: Invalid value: "": "" is not a CIDR; ` + cidrHelp,
		`spec.routes[2]: Invalid value: "a\nb": "a\nb" is not a CIDR; ` + cidrHelp,
		`spec.routes[3]: Invalid value: "10.0.0.0/33": "10.0.0.0/33" is not a CIDR; ` + cidrHelp,
		`spec.routes[4]: Invalid value: "010.0.0.0/8": "010.0.0.0/8" is not a CIDR; ` + cidrHelp,
		`spec.routes[5]: Invalid value: "fd00::1%eth0/128": "fd00::1%eth0/128" is not a CIDR; ` + cidrHelp,
	}},
	{subnet(`10.0.0.1, "fd00::1"`), []string{
		`spec.routes[0]: Invalid value: "10.0.0.1": 10.0.0.1 is an address; write the CIDR 10.0.0.1/32`,
		`spec.routes[1]: Invalid value: "fd00::1": fd00::1 is an address; write the CIDR fd00::1/128`,
	}},
	{subnet(`"::ffff:10.0.0.0/104", "::FFFF:10.1.0.1"`), []string{
		`spec.routes[0]: Invalid value: "::ffff:10.0.0.0/104": ::ffff:10.0.0.0/104 is IPv4 written as IPv6; write it as IPv4, such as 10.0.0.0/8`,
		`spec.routes[1]: Invalid value: "::FFFF:10.1.0.1": ::FFFF:10.1.0.1 is IPv4 written as IPv6; write it as IPv4, such as 10.0.0.0/8`,
	}},
	{subnet(`10.1.2.3/8, "fd00:1::1/48", "FD00:1::/48", "fd00:0001::/48"`), []string{
		`spec.routes[0]: Invalid value: "10.1.2.3/8": 10.1.2.3/8 is not in canonical form; write 10.0.0.0/8`,
		`spec.routes[1]: Invalid value: "fd00:1::1/48": fd00:1::1/48 is not in canonical form; write fd00:1::/48`,
		`spec.routes[2]: Invalid value: "FD00:1::/48": FD00:1::/48 is not in canonical form; write fd00:1::/48`,
		`spec.routes[3]: Invalid value: "fd00:0001::/48": fd00:0001::/48 is not in canonical form; write fd00:1::/48`,
	}},
	{subnet(`0.0.0.0/0, "::/0", 10.0.0.0/0`), []string{
		`spec.routes[0]: Invalid value: "0.0.0.0/0": 0.0.0.0/0 is a default route; remove it, and name an exitNode to send everything through the tailnet`,
		`spec.routes[1]: Invalid value: "::/0": ::/0 is a default route; remove it, and name an exitNode to send everything through the tailnet`,
		`spec.routes[2]: Invalid value: "10.0.0.0/0": 10.0.0.0/0 is a default route; remove it, and name an exitNode to send everything through the tailnet`,
	}},
	{subnet(strings.Repeat("x", 44)), []string{`spec.routes[0]: Too long: may not be more than 43 bytes`}},
	{subnet(`10.0.0.0/8` + strings.Repeat(", x", 256)), []string{
		`spec.routes: Too many: 257: must have at most 256 items`, `spec.routes[2]: Duplicate value: "x"`,
	}},
}

// notRouted are prefixes that no route may lie in, and tailgates those that members' own addresses come from.
var (
	notRouted = []string{
		"0.0.0.0/8", "0.1.0.0/16", "127.0.0.0/8", "127.0.0.1/32", "169.254.0.0/16", "169.254.0.0/17", "169.254.169.254/32", "224.0.0.0/4", "239.1.0.0/16",
		"255.255.255.255/32", "::/128", "::1/128", "::/127", "fe80::/10", "fe80::/64", "febf::/16", "ff00::/8", "ff02::1/128",
	}
	tailgates = []string{
		ident.MemberV4.String(), ident.MemberV6.String(), ident.GatewayV4.String() + "/32", ident.GatewayV6.String() + "/128",
		"169.254.127.0/24",
	}
)

var badExitNodes = []bad{
	{exit(`{}`), []string{`spec.exitNode.nodeID: Required value`}},
	{exit(`{nodeID: ""}`), []string{`spec.exitNode.nodeID: Invalid value: "": "" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: "auto:fra"}`), []string{`spec.exitNode.nodeID: Invalid value: "auto:fra": "auto:fra" is no choice that a gateway can make; ` + exitHelp}},
	{exit(`{nodeID: "auto:any "}`), []string{`spec.exitNode.nodeID: Invalid value: "auto:any ": "auto:any " is no choice that a gateway can make; ` + exitHelp}},
	{exit(`{nodeID: "exit fra"}`), []string{`spec.exitNode.nodeID: Invalid value: "exit fra": "exit fra" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: " exit-fra"}`), []string{`spec.exitNode.nodeID: Invalid value: " exit-fra": " exit-fra" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: exit_fra.ts.net}`), []string{`spec.exitNode.nodeID: Invalid value: "exit_fra.ts.net": "exit_fra.ts.net" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: exit..net}`), []string{`spec.exitNode.nodeID: Invalid value: "exit..net": "exit..net" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: -exit}`), []string{`spec.exitNode.nodeID: Invalid value: "-exit": "-exit" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: 8.8.8.8}`), []string{`spec.exitNode.nodeID: Invalid value: "8.8.8.8": ` +
		`8.8.8.8 is not an address of the tailnet, which are in 100.64.0.0/10 and fd7a:115c:a1e0::/48; ` + exitHelp}},
	{exit(`{nodeID: "2001:db8::1"}`), []string{`spec.exitNode.nodeID: Invalid value: "2001:db8::1": ` +
		`2001:db8::1 is not an address of the tailnet, which are in 100.64.0.0/10 and fd7a:115c:a1e0::/48; ` + exitHelp}},
	{exit(`{nodeID: "::ffff:100.64.0.1"}`), []string{`spec.exitNode.nodeID: Invalid value: "::ffff:100.64.0.1": "::ffff:100.64.0.1" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: 100.64.1.300}`), []string{`spec.exitNode.nodeID: Invalid value: "100.64.1.300": "100.64.1.300" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: 100.64.0.1/32}`), []string{`spec.exitNode.nodeID: Invalid value: "100.64.0.1/32": "100.64.0.1/32" cannot be an exit node; ` + exitHelp}},
	{exit(`{nodeID: 5}`), []string{`spec.exitNode.nodeID: Invalid value: "integer": spec.exitNode.nodeID in body must be of type string: "integer"`}},
	{exit(`{nodeID: ` + strings.Repeat("x", 254) + `}`), []string{`spec.exitNode.nodeID: Too long: may not be more than 253 bytes`}},
	{exit(`{nodeID: x, allowLANAccess: "yes"}`), []string{`spec.exitNode.allowLANAccess: Invalid value: "string": ` +
		`spec.exitNode.allowLANAccess in body must be of type boolean: "string"`}},
}

var badRest = []bad{
	{all(`tags: []`), []string{`spec.tags: Invalid value: tags is empty, and a gateway needs a tag; ` +
		`name one, or remove tags to get tag:egress- and the group's name`}},
	{all(`tags: [egress, "tag:", "tag:1a", "tag:a_b", "tag:a,tag:b", "tag:a "]`), []string{
		`spec.tags[0]: Invalid value: "egress": egress lacks its prefix; write tag:egress`,
		`spec.tags[1]: Invalid value: "tag:": "tag:" is not a tag; ` + tagHelp,
		`spec.tags[2]: Invalid value: "tag:1a": "tag:1a" is not a tag; ` + tagHelp,
		`spec.tags[3]: Invalid value: "tag:a_b": "tag:a_b" is not a tag; ` + tagHelp,
		`spec.tags[4]: Invalid value: "tag:a,tag:b": "tag:a,tag:b" is not a tag; ` + tagHelp,
		`spec.tags[5]: Invalid value: "tag:a ": "tag:a " is not a tag; ` + tagHelp,
	}},
	{all(`tags: ["tag:a", "tag:a"]`), []string{`spec.tags[1]: Duplicate value: "tag:a"`}},
	{all(`replicas: 2`), []string{`spec.replicas: Invalid value: 2: replicas cannot be 2 yet; write 1 or remove it: each node that has members has one gateway`}},
	{all(`replicas: 0`), []string{`spec.replicas: Invalid value: 0: replicas cannot be 0 yet; write 1 or remove it: each node that has members has one gateway`}},
	{all(`attach: tunnel`), []string{`spec.attach: Unsupported value: "tunnel": supported values: "routed"`}},
	{all(`datapath: ebpf`), []string{`spec.datapath: Unsupported value: "ebpf": supported values: "kernel"`}},
	{all(`gateway: {nodes: some}`), []string{`spec.gateway.nodes: Unsupported value: "some": supported values: "members", "all"`}},
	{all(`gateway: {resources: {claims: [{name: gpu}]}}`), []string{
		`spec.gateway.resources.claims: Invalid value: gateways take no resource claims; remove claims`,
	}},
	{all(`gateway: {resources: {requests: {cpu: 1, mem: 1Gi}, limits: {memroy: 1Gi}}}`), []string{
		`spec.gateway.resources.limits: Invalid value: limits can be for cpu, memory and ephemeral-storage; remove what else is in {"memroy":"1Gi"}`,
		`spec.gateway.resources.requests: Invalid value: requests can be for cpu, memory and ephemeral-storage; remove what else is in {"cpu":1, "mem":"1Gi"}`,
	}},
	{all(`gateway: {resources: {requests: {cpu: -1}, limits: {memory: "-1Gi"}}}`), []string{
		`spec.gateway.resources.limits: Invalid value: limits are quantities from zero up, such as 20m for cpu and 64Mi for memory; correct {"memory":"-1Gi"}`,
		`spec.gateway.resources.requests: Invalid value: requests are quantities from zero up, such as 20m for cpu and 64Mi for memory; correct {"cpu":-1}`,
	}},
	{all(`gateway: {resources: {requests: {memory: lots}, limits: {cpu: ten}}}`), []string{
		`spec.gateway.resources.limits.cpu: Invalid value: "ten": spec.gateway.resources.limits.cpu in body should match '` + quantityPattern + `'`,
		`spec.gateway.resources.limits: Invalid value: limits are quantities from zero up, such as 20m for cpu and 64Mi for memory; correct {"cpu":"ten"}`,
		`spec.gateway.resources.requests.memory: Invalid value: "lots": spec.gateway.resources.requests.memory in body should match '` + quantityPattern + `'`,
		`spec.gateway.resources.requests: Invalid value: requests are quantities from zero up, such as 20m for cpu and 64Mi for memory; correct {"memory":"lots"}`,
	}},
	{all(`gateway: {resources: {requests: {cpu: 0.5}}}`), []string{
		`spec.gateway.resources.requests.cpu: Invalid value: "number": spec.gateway.resources.requests.cpu in body must be of type integer,string: "number"`,
		`spec.gateway.resources.requests.cpu: Invalid value: "number": spec.gateway.resources.requests.cpu in body must be of type integer: "number"`,
	}},
	{all(`gateway: {resources: {requests: {memory: 1Gi}, limits: {memory: 512Mi}}}`), []string{
		`spec.gateway.resources.requests: Invalid value: the request for memory is above its limit; lower the request or raise the limit`,
	}},
	{all(`gateway: {resources: {requests: {cpu: 2}, limits: {cpu: 500m, memory: 1}}}`), []string{
		`spec.gateway.resources.requests: Invalid value: the request for cpu is above its limit; lower the request or raise the limit`,
	}},
	{all(`route: [10.0.0.0/8], exitNode: {id: x, nodeID: y}`), []string{
		`EgressGroup in version "v1alpha1" cannot be handled as a EgressGroup: ` +
			`strict decoding error: unknown field "spec.exitNode.id", unknown field "spec.route"`,
	}},
}

var badGateways = []bad{
	{`{}`, []string{`spec.group: Required value`, `spec.node: Required value`}},
	{`{group: "", node: ""}`, []string{
		`spec.group: Invalid value: "": "" cannot be the name of an EgressGroup; write lower case letters, digits, dashes and dots, such as payments`,
		`spec.node: Invalid value: "": "" cannot be the name of a node; write lower case letters, digits, dashes and dots, such as worker-1.example.com`,
	}},
	{`{group: Payments, node: worker_1}`, []string{
		`spec.group: Invalid value: "Payments": "Payments" cannot be the name of an EgressGroup; write lower case letters, digits, dashes and dots, such as payments`,
		`spec.node: Invalid value: "worker_1": "worker_1" cannot be the name of a node; write lower case letters, digits, dashes and dots, such as worker-1.example.com`,
	}},
	{`{group: ` + strings.Repeat("x", 254) + `, node: node-1}`, []string{`spec.group: Too long: may not be more than 253 bytes`}},
	{`{group: g, node: node-1, members: 1}`, []string{
		`EgressGateway in version "v1alpha1" cannot be handled as a EgressGateway: strict decoding error: unknown field "spec.members"`,
	}},
}

// all, subnet and exit return specs that are good but for what they are given.
func all(rest string) string        { return `{selector: {podSelector: {}}, ` + rest + `}` }
func subnet(routes string) string   { return all(`mode: subnet, routes: [` + routes + `]`) }
func exit(exitNode string) string   { return all(`exitNode: ` + exitNode) }
func quoted(routes []string) string { return `"` + strings.Join(routes, `", "`) + `"` }

// otherPart returns the cases that have one part of a selector for the other part.
func otherPart(cases []bad) []bad {
	swap := strings.NewReplacer("podSelector:", "namespaceSelector:", "namespaceSelector:", "podSelector:",
		".podSelector", ".namespaceSelector", ".namespaceSelector", ".podSelector")
	var swapped []bad
	for _, c := range cases {
		if spec := swap.Replace(c.spec); spec != c.spec && strings.Contains(c.want[0], "Selector.") {
			swapped = append(swapped, bad{spec, []string{}})
			for _, fault := range c.want {
				last := &swapped[len(swapped)-1]
				last.want = append(last.want, swap.Replace(fault))
			}
		}
	}
	return swapped
}

func TestRefused(t *testing.T) {
	env := kubetest.Shared(t)
	for kind, tables := range map[string][][]bad{
		"EgressGroup":   {badSelectors, otherPart(badSelectors), badRoutes, badExitNodes, badRest},
		"EgressGateway": {badGateways},
	} {
		for _, table := range tables {
			for _, tt := range table {
				if diff := cmp.Diff(tt.want, dryRun(t, env, object(t, kind, "bad", tt.spec))); diff != "" {
					t.Errorf("faults of %s %s (-want +got):\n%s", kind, tt.spec, diff)
				}
			}
		}
	}
}

func TestRoutesThatAreNotRouted(t *testing.T) {
	env := kubetest.Shared(t)
	for why, routes := range map[string][]string{
		"is loopback, link-local, multicast or the like, which is not routed; remove it": notRouted,
		"lies in what tailgate gives its members as addresses; remove it":                tailgates,
	} {
		for _, route := range routes {
			want := []string{`spec.routes[0]: Invalid value: "` + route + `": ` + route + " " + why}
			got := dryRun(t, env, object(t, "EgressGroup", "bad", subnet(quoted([]string{route}))))
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("faults of route %s (-want +got):\n%s", route, diff)
			}
		}
	}
}
