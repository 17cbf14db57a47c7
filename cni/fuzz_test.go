package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// FuzzStdin gives the commands any configuration. An ADD that succeeds prints one object that has all of
// the previous result; one that fails prints nothing; no other command prints anything, and DEL and GC succeed.
func FuzzStdin(f *testing.F) {
	for _, v := range version.All.SupportedVersions() {
		f.Add(fmt.Appendf(nil, `{"cniVersion":%q,"name":"n","type":"tailgate-cni","prevResult":%s}`, v, rich(v)), "K8S_POD_NAME=p")
	}
	f.Add([]byte(`{"name":"n","timeout":"1s","socket":"/s","statusRequiresAgent":true,"cni.dev/attachments":[{"ifname":"e"}]}`), ";;=;=")
	f.Add([]byte(`{"cniVersion":"\"\u0000","prevResult":{}}`), "")
	f.Add([]byte(`{"cniVersion":"1.0.0","prevResult":{"cniVersion":null,"ips":[{"interface":9}]}}`), "")
	f.Add([]byte(`[`), "")
	f.Fuzz(func(t *testing.T, stdin []byte, cniArgs string) {
		agent := &answer{err: cnirpc.ErrAway}
		for _, command := range []string{"ADD", "DEL", "CHECK", "GC", "STATUS"} {
			got := run(agent, command, &skel.CmdArgs{StdinData: stdin, Args: cniArgs})
			switch {
			case command == "ADD" && got.err == nil:
				checkResult(t, stdin, got.out)
			case got.out != "":
				t.Errorf("%s printed %q", command, got.out)
			case (command == "DEL" || command == "GC") && got.err != nil:
				t.Errorf("%s failed: %v", command, got.err)
			}
		}
		for _, q := range agent.asked {
			if err := cnirpc.WriteRequest(&bytes.Buffer{}, q); err != nil && len(stdin) < 10_000 {
				t.Errorf("a request that cannot be sent: %v", err)
			}
		}
	})
}

// checkResult compares what was printed with the previous result in stdin. Where a version had to be set or changed, only
// that it is there.
func checkResult(t *testing.T, stdin []byte, printed string) {
	t.Helper()
	var conf map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &conf); err != nil {
		t.Fatalf("ADD succeeded with %q", stdin)
	}
	var result map[string]any
	if err := json.Unmarshal([]byte(printed), &result); err != nil {
		t.Fatalf("printed %q: %v", printed, err)
	}
	prev, ok := conf["prevResult"]
	if !ok || string(prev) == "null" {
		if len(result) != 1 || result["cniVersion"] == "" {
			t.Errorf("printed %q without a previous result", printed)
		}
		return
	}
	var want map[string]any
	if err := json.Unmarshal(prev, &want); err != nil {
		t.Fatalf("ADD succeeded with %q", stdin)
	}
	var has struct{ CNIVersion any }
	_ = json.Unmarshal(prev, &has)
	var version string
	_ = json.Unmarshal(conf["cniVersion"], &version)
	if has.CNIVersion != nil && has.CNIVersion != version && has.CNIVersion != "" {
		return // converted
	}
	if has.CNIVersion == nil {
		delete(want, "cniVersion")
		delete(result, "cniVersion")
	}
	if diff := cmp.Diff(want, result); diff != "" {
		t.Errorf("result (-previous +printed):\n%s", diff)
	}
}
