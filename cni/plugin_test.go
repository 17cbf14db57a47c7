package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/types/create"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// Results as rich as their versions allow, with a key that no version has, and a number that a float64 has not.
const (
	rich02 = `{
		"cniVersion": %q,
		"ip4": {"ip": "10.244.0.7/24", "gateway": "10.244.0.1", "routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.96.0.0/12", "gw": "10.244.0.1"}]},
		"ip6": {"ip": "fd00:10:244::7/64", "gateway": "fd00:10:244::1", "routes": [{"dst": "::/0", "gw": "fd00:10:244::1"}]},
		"dns": {"nameservers": ["10.96.0.10"], "domain": "cluster.local", "search": ["svc.cluster.local"], "options": ["ndots:5"]},
		"example.com/more": {"big": 9007199254740993, "text": "<&\u2028"}
	}`
	rich04 = `{
		"cniVersion": %q,
		"interfaces": [
			{"name": "cni0", "mac": "02:00:00:00:00:01"},
			{"name": "veth1", "mac": "02:00:00:00:00:02"},
			{"name": "eth0", "mac": "02:00:00:00:00:03", "sandbox": "/var/run/netns/cni-1"}
		],
		"ips": [
			{"version": "4", "address": "10.244.0.7/24", "gateway": "10.244.0.1", "interface": 2},
			{"version": "6", "address": "fd00:10:244::7/64", "gateway": "fd00:10:244::1", "interface": 2},
			{"version": "4", "address": "192.0.2.9/32"}
		],
		"routes": [{"dst": "0.0.0.0/0"}, {"dst": "10.96.0.0/12", "gw": "10.244.0.1"}, {"dst": "::/0", "gw": "fd00:10:244::1"}],
		"dns": {"nameservers": ["10.96.0.10", "fd00:10:96::a"], "domain": "cluster.local", "search": ["svc.cluster.local"], "options": ["ndots:5"]},
		"example.com/more": {"big": 9007199254740993, "text": "<&\u2028"}
	}`
	rich10 = `{
		"cniVersion": %q,
		"interfaces": [
			{"name": "cni0", "mac": "02:00:00:00:00:01", "mtu": 1500},
			{"name": "veth1", "mac": "02:00:00:00:00:02", "mtu": 1500, "socketPath": "/run/vhost/1.sock", "pciID": "0000:3b:02.1"},
			{"name": "eth0", "mac": "02:00:00:00:00:03", "mtu": 1450, "sandbox": "/var/run/netns/cni-1"}
		],
		"ips": [
			{"address": "10.244.0.7/24", "gateway": "10.244.0.1", "interface": 2},
			{"address": "fd00:10:244::7/64", "gateway": "fd00:10:244::1", "interface": 2},
			{"address": "192.0.2.9/32"}
		],
		"routes": [
			{"dst": "0.0.0.0/0", "gw": "10.244.0.1", "mtu": 1400, "advmss": 1360, "priority": 100, "table": 254, "scope": 0},
			{"dst": "10.96.0.0/12", "scope": 253, "table": 0},
			{"dst": "::/0", "gw": "fd00:10:244::1", "priority": 0}
		],
		"dns": {"nameservers": ["10.96.0.10", "fd00:10:96::a"], "domain": "cluster.local", "search": ["svc.cluster.local"], "options": ["ndots:5"]},
		"example.com/more": {"big": 9007199254740993, "text": "<&\u2028"}
	}`
)

// rich returns a result of the given version.
func rich(v string) string {
	switch v {
	case "0.1.0", "0.2.0":
		return fmt.Sprintf(rich02, v)
	case "0.3.0", "0.3.1", "0.4.0":
		return fmt.Sprintf(rich04, v)
	}
	return fmt.Sprintf(rich10, v)
}

// answer is an agent that says reply or err, and keeps what it was asked.
type answer struct {
	reply cnirpc.Reply
	err   error
	asked []cnirpc.Request
}

func (a *answer) call(_ context.Context, _ string, q cnirpc.Request) (cnirpc.Reply, error) {
	a.asked = append(a.asked, q)
	if a.reply.Error != nil {
		return a.reply, fmt.Errorf("ask agent: %w", a.reply.Error)
	}
	return a.reply, a.err
}

func says(k cnirpc.Kind) *answer {
	return &answer{reply: cnirpc.Reply{Member: true, Error: &cnirpc.Error{Kind: k, Message: "the agent's sentence"}}}
}

// outcome is what one command of the plugin did.
type outcome struct {
	out, log string
	err      error
}

func run(a *answer, command string, args *skel.CmdArgs) outcome {
	var out, log bytes.Buffer
	p := &plugin{out: &out, log: logger(&log), call: a.call}
	f := map[string]func(*skel.CmdArgs) error{"ADD": p.add, "DEL": p.del, "CHECK": p.check, "GC": p.gc, "STATUS": p.status}[command]
	err := f(args)
	return outcome{out: out.String(), log: log.String(), err: err}
}

func stdin(conf string) *skel.CmdArgs { return &skel.CmdArgs{StdinData: []byte(conf)} }

// value decodes JSON without loss.
func value(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if d.More() {
		t.Fatalf("more than one value in %q", text)
	}
	return v
}

func TestResultHandedOn(t *testing.T) {
	agents := map[string]*answer{
		"not a member": {},
		"member":       {reply: cnirpc.Reply{Member: true}},
		"away":         {err: cnirpc.ErrAway},
		"hangs":        {err: context.DeadlineExceeded},
		"older":        says(cnirpc.Unsupported),
		"newer":        says("cosmic"),
		"confused":     says(cnirpc.Invalid),
		"busy":         says(cnirpc.Unavailable),
		"broken":       says(cnirpc.Internal),
	}
	for _, v := range version.All.SupportedVersions() {
		for name, agent := range agents {
			t.Run(v+" "+name, func(t *testing.T) {
				prev := rich(v)
				got := run(agent, "ADD", stdin(fmt.Sprintf(`{"cniVersion":%q,"name":"n","type":"tailgate-cni","prevResult":%s}`, v, prev)))
				if got.err != nil {
					t.Fatal(got.err)
				}
				if diff := cmp.Diff(value(t, prev), value(t, got.out)); diff != "" {
					t.Errorf("result (-want +got):\n%s", diff)
				}
				if _, err := create.Create(v, []byte(got.out)); err != nil {
					t.Errorf("libcni does not understand the result: %v", err)
				}
				if wantLog := agent.err != nil || agent.reply.Error != nil; wantLog != (got.log != "") {
					t.Errorf("log %q, want one: %v", got.log, wantLog)
				}
			})
		}
	}
}

// As Multus starts a plugin that a NetworkAttachmentDefinition names.
func TestNoPreviousResult(t *testing.T) {
	for _, v := range append(version.All.SupportedVersions(), "") {
		for _, prev := range []string{"", `,"prevResult":null`} {
			conf := `{"name":"n"` + prev + `}`
			want := "0.1.0"
			if v != "" {
				conf, want = fmt.Sprintf(`{"cniVersion":%q,"name":"n"%s}`, v, prev), v
			}
			got := run(&answer{}, "ADD", stdin(conf))
			if got.err != nil {
				t.Fatal(got.err)
			}
			if diff := cmp.Diff(map[string]any{"cniVersion": want}, value(t, got.out)); diff != "" {
				t.Errorf("%s: result (-want +got):\n%s", conf, diff)
			}
			if _, err := create.CreateFromBytes([]byte(got.out)); err != nil {
				t.Errorf("%s: libcni does not understand %s: %v", conf, got.out, err)
			}
		}
	}
}

// Previous results that a runtime or a plugin should not have made.
func TestOddPreviousResult(t *testing.T) {
	for _, tt := range []struct{ name, version, prev, want string }{
		{"no version", "0.3.1", `{ "ips": [] }`, `{"cniVersion":"0.3.1","ips":[]}`},
		{"no version, nothing", "0.3.1", ` { } `, `{"cniVersion":"0.3.1"}`},
		{"no version at all", "", `{"ip4":{"ip":"10.0.0.1/8"}}`, `{"cniVersion":"0.1.0","ip4":{"ip":"10.0.0.1/8"}}`},
		{"empty version", "0.4.0", `{"cniVersion":""}`, `{"cniVersion":""}`},
		{
			"another version", "0.4.0", `{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.1/8"}]}`,
			`{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.1/8"}],"dns":{}}`,
		},
		{"unknown version", "1.0.0", `{"cniVersion":"7.0.0","warp":true}`, `{"cniVersion":"7.0.0","warp":true}`},
		{"version of another type", "1.0.0", `{"cniVersion":1}`, `{"cniVersion":1}`},
		{"unreadable", "1.0.0", `{"cniVersion":"1.0.0","ips":"all"}`, `{"cniVersion":"1.0.0","ips":"all"}`},
		{"holes", "1.0.0", `{"cniVersion":"1.0.0","interfaces":[null],"ips":[null]}`, `{"cniVersion":"1.0.0","interfaces":[null],"ips":[null]}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			agent := &answer{}
			got := run(agent, "ADD", stdin(fmt.Sprintf(`{"cniVersion":%q,"name":"n","prevResult":%s}`, tt.version, tt.prev)))
			if got.err != nil {
				t.Fatal(got.err)
			}
			if diff := cmp.Diff(value(t, tt.want), value(t, got.out)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
			if len(agent.asked) != 1 {
				t.Errorf("the agent was asked %d times", len(agent.asked))
			}
		})
	}
}

// What the agent is told.
func TestRequests(t *testing.T) {
	two := 2
	args := &skel.CmdArgs{
		ContainerID: "c0ffee", IfName: "eth0", Netns: "/var/run/netns/cni-1",
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=payments;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=c0ffee;K8S_POD_UID=f81d4fae;X=a=b;;Y",
	}
	base := cnirpc.Request{
		Plugin: cli.Version(), Network: "kindnet", ContainerID: "c0ffee", IfName: "eth0", Netns: "/var/run/netns/cni-1",
		Pod: cnirpc.Pod{Namespace: "payments", Name: "web-0", UID: "f81d4fae", InfraContainerID: "c0ffee"},
	}
	full, old, gc := base, base, cnirpc.Request{Plugin: cli.Version(), Network: "kindnet"}
	full.Interfaces = []cnirpc.Interface{
		{Name: "cni0", MAC: "02:00:00:00:00:01"}, {Name: "veth1", MAC: "02:00:00:00:00:02"},
		{Name: "eth0", MAC: "02:00:00:00:00:03", Sandbox: "/var/run/netns/cni-1"},
	}
	full.IPs = []cnirpc.IP{
		{Address: netip.MustParsePrefix("10.244.0.7/24"), Gateway: netip.MustParseAddr("10.244.0.1"), Interface: &two},
		{Address: netip.MustParsePrefix("fd00:10:244::7/64"), Gateway: netip.MustParseAddr("fd00:10:244::1"), Interface: &two},
		{Address: netip.MustParsePrefix("192.0.2.9/32")},
	}
	old.IPs = []cnirpc.IP{
		{Address: netip.MustParsePrefix("10.244.0.7/24"), Gateway: netip.MustParseAddr("10.244.0.1")},
		{Address: netip.MustParsePrefix("fd00:10:244::7/64"), Gateway: netip.MustParseAddr("fd00:10:244::1")},
	}
	gc.ValidAttachments = []cnirpc.Attachment{{ContainerID: "a", IfName: "eth0"}, {ContainerID: "b", IfName: "net1"}}
	none := gc
	none.ValidAttachments = []cnirpc.Attachment{}
	attachments := `[{"containerID":"a","ifname":"eth0"},{"containerID":"b","ifname":"net1"}]`

	for _, tt := range []struct {
		command, version, more string
		want                   *cnirpc.Request
	}{
		{"ADD", "1.1.0", `"prevResult":` + rich("1.1.0"), &full},
		{"ADD", "0.4.0", `"prevResult":` + rich("0.4.0"), &full},
		{"ADD", "0.2.0", `"prevResult":` + rich("0.2.0"), &old},
		{"ADD", "1.0.0", `"x":1`, &base},
		{"CHECK", "1.0.0", `"prevResult":` + rich("1.0.0"), &full},
		{"DEL", "1.0.0", `"prevResult":` + rich("1.0.0"), &full},
		{"DEL", "0.3.1", `"x":1`, &base},
		{"DEL", "1.0.0", `"timeout":5`, &base},
		{"GC", "1.1.0", `"cni.dev/valid-attachments":` + attachments, &gc},
		{"GC", "1.1.0", `"cni.dev/attachments":` + attachments, &gc},
		{"GC", "1.1.0", `"cni.dev/valid-attachments":[]`, &none},
		{"GC", "1.1.0", `"x":1`, nil},
		{"GC", "1.1.0", `"cni.dev/valid-attachments":"none"`, nil},
		{"STATUS", "1.1.0", `"statusRequiresAgent":true`, &cnirpc.Request{Plugin: cli.Version(), Network: "kindnet"}},
		{"STATUS", "1.1.0", `"x":1`, nil},
	} {
		t.Run(tt.command+" "+tt.version+" "+tt.more[:min(30, len(tt.more))], func(t *testing.T) {
			agent := &answer{}
			args.StdinData = fmt.Appendf(nil, `{"cniVersion":%q,"name":"kindnet",%s}`, tt.version, tt.more)
			if got := run(agent, tt.command, args); got.err != nil {
				t.Fatal(got.err)
			}
			var want []cnirpc.Request
			if tt.want != nil {
				q := *tt.want
				q.Verb = cnirpc.Verb(tt.command)
				if q.Verb == cnirpc.Add {
					q.Patience = defaultTimeout
				}
				want = []cnirpc.Request{q}
			}
			if diff := cmp.Diff(want, agent.asked, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

// Which errors of the agent's the runtime gets to see, by the code of the CNI specification; 0: success.
func TestCodes(t *testing.T) {
	agents := []struct {
		name                          string
		answer                        *answer
		add, del, check, gc, status   uint
		addMessage, wantStatusMessage string
	}{
		{name: "well", answer: &answer{reply: cnirpc.Reply{Member: true}}},
		{name: "away", answer: &answer{err: cnirpc.ErrAway}, status: 50},
		{name: "hangs", answer: &answer{err: context.DeadlineExceeded}, status: 50},
		{name: "unavailable", answer: says(cnirpc.Unavailable), status: 51},
		{name: "internal", answer: says(cnirpc.Internal), status: 51},
		{name: "unsupported", answer: says(cnirpc.Unsupported), status: 51},
		{name: "invalid", answer: says(cnirpc.Invalid), status: 51},
		{name: "of a kind to come", answer: says("cosmic"), status: 51},
		{name: "missing", answer: says(cnirpc.Missing), check: codeMissing, status: 51},
		{name: "try again", answer: says(cnirpc.TryAgain), add: 11, status: 51},
	}
	for _, a := range agents {
		for command, want := range map[string]uint{"ADD": a.add, "DEL": a.del, "CHECK": a.check, "GC": a.gc, "STATUS": a.status} {
			t.Run(a.name+" "+command, func(t *testing.T) {
				got := run(a.answer, command, stdin(
					`{"cniVersion":"1.1.0","name":"n","statusRequiresAgent":true,"cni.dev/valid-attachments":[],"prevResult":{"cniVersion":"1.1.0"}}`))
				var code uint
				if e, ok := errors.AsType[*types.Error](got.err); ok {
					code = e.Code
				} else if got.err != nil {
					t.Errorf("error %v is not CNI's", got.err)
				}
				if code != want {
					t.Errorf("code %d (%v), want %d", code, got.err, want)
				}
				if want != 0 && a.answer.reply.Error != nil && !strings.Contains(got.err.Error(), "the agent's sentence") {
					t.Errorf("error %v does not have the agent's sentence", got.err)
				}
				if printed := got.out != ""; printed != (command == "ADD" && want == 0) {
					t.Errorf("printed %q", got.out)
				}
			})
		}
	}
}

func TestParseConfig(t *testing.T) {
	defaults := config{name: "n", socket: cnirpc.Socket, timeout: 5 * time.Second}
	with := func(change func(*config)) config { c := defaults; change(&c); return c }
	for _, tt := range []struct {
		name, conf string
		want       config
		err        string
	}{
		{name: "nothing of ours", conf: `{"name":"n","type":"tailgate-cni","unknown":{"a":[1]}}`, want: defaults},
		{
			name: "all", conf: `{"name":"n","cniVersion":"1.1.0","socket":"/s","timeout":"1m","statusRequiresAgent":true}`,
			want: config{name: "n", cniVersion: "1.1.0", socket: "/s", timeout: time.Minute, statusRequiresAgent: true},
		},
		{name: "null is absent", conf: `{"name":"n","socket":null,"timeout":null,"prevResult":null,"statusRequiresAgent":null}`, want: defaults},
		{
			name: "number as timeout", conf: `{"name":"n","timeout": 5,"socket":"/s"}`, want: with(func(c *config) { c.socket = "/s" }),
			err: `"timeout" in the network configuration "n" is 5; write a length of time up to 1m in quotes, such as "5s"`,
		},
		{
			name: "no unit", conf: `{"name":"n","timeout":"5"}`, want: defaults,
			err: `"timeout" in the network configuration "n" is "5"; write a length of time up to 1m in quotes, such as "5s"`,
		},
		{
			name: "no time", conf: `{"name":"n","timeout":"0s"}`, want: defaults,
			err: `"timeout" in the network configuration "n" is "0s"; write a length of time up to 1m in quotes, such as "5s"`,
		},
		{
			name: "too much time", conf: `{"name":"n","timeout":"61s"}`, want: defaults,
			err: `"timeout" in the network configuration "n" is "61s"; write a length of time up to 1m in quotes, such as "5s"`,
		},
		{
			name: "relative socket", conf: `{"name":"n","socket":"cni.sock","timeout":"1s"}`, want: with(func(c *config) { c.timeout = time.Second }),
			err: `"socket" in the network configuration "n" is "cni.sock"; write the path of the agent's socket in quotes, such as "/run/tailgate/agent/cni.sock"`,
		},
		{
			name: "text as bool", conf: `{"name":"n","statusRequiresAgent":"yes"}`, want: defaults,
			err: `"statusRequiresAgent" in the network configuration "n" is "yes"; write true or false`,
		},
		{
			name: "list as result", conf: `{"name":"n","prevResult":[ "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" ]}`, want: defaults,
			err: `"prevResult" in the network configuration "n" is ["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…; write the result of the plugin before, an object`,
		},
		{
			name: "no object", conf: `[]`, want: config{socket: cnirpc.Socket, timeout: 5 * time.Second},
			err: `the network configuration is not a JSON object: json: cannot unmarshal array into Go value of type map[string]json.RawMessage`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseConfig([]byte(tt.conf))
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(config{})); diff != "" {
				t.Errorf("config (-want +got):\n%s", diff)
			}
			text := ""
			if err != nil {
				text = err.Error()
			}
			if text != tt.err {
				t.Errorf("error\n%s\nwant\n%s", text, tt.err)
			}
			// ADD, CHECK and STATUS say so; DEL and GC go on.
			for command, fails := range map[string]bool{"ADD": true, "CHECK": true, "STATUS": true, "DEL": false, "GC": false} {
				o := run(&answer{}, command, stdin(tt.conf))
				if e, _ := errors.AsType[*types.Error](o.err); (fails && tt.err != "") != (e != nil && e.Code == types.ErrInvalidNetworkConfig && e.Msg == tt.err) {
					t.Errorf("%s: error %v", command, o.err)
				}
			}
		})
	}
}
