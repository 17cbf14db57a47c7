package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// maxBinary is the most that the plugin may weigh, in bytes.
const maxBinary = 8 << 20

// testVersion is what the build stamps.
const testVersion = "v0.0.0-test"

var build = struct {
	once sync.Once
	dir  string
	err  error
}{}

func TestMain(m *testing.M) {
	code := m.Run()
	_ = os.RemoveAll(build.dir)
	os.Exit(code)
}

// binary returns the path of the plugin, built as it ships.
func binary(tb testing.TB) string {
	tb.Helper()
	build.once.Do(func() {
		if build.dir, build.err = os.MkdirTemp("", "tailgate-cni-test"); build.err != nil {
			return
		}
		cmd := exec.CommandContext(tb.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w -X github.com/rajsinghtech/tailgate/internal/cli.version="+testVersion,
			"-o", filepath.Join(build.dir, "tailgate-cni"), ".")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			build.err = fmt.Errorf("build the plugin: %w\n%s", err, out)
		}
	})
	if build.err != nil {
		tb.Fatal(build.err)
	}
	return filepath.Join(build.dir, "tailgate-cni")
}

// agent serves a socket as an agent does, with what answer says, and returns its path.
func agent(tb testing.TB, answer func(cnirpc.Request) cnirpc.Reply) string {
	tb.Helper()
	socket := filepath.Join(tb.TempDir(), "cni.sock")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				if q, err := cnirpc.ReadRequest(conn); err == nil {
					_ = cnirpc.WriteReply(conn, answer(q))
				}
			}()
		}
	}()
	return socket
}

// command returns the plugin's process with a runtime's environment.
func command(tb testing.TB, verb, stdin string, args ...string) *exec.Cmd {
	tb.Helper()
	cmd := exec.CommandContext(tb.Context(), binary(tb), args...)
	cmd.Env = []string{
		"CNI_COMMAND=" + verb, "CNI_CONTAINERID=c0ffee", "CNI_IFNAME=eth0", "CNI_NETNS=/var/run/netns/none", "CNI_PATH=/opt/cni/bin",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=payments;K8S_POD_NAME=web-0",
	}
	cmd.Stdin = strings.NewReader(stdin)
	return cmd
}

// exit runs cmd and returns what it printed and its exit code.
func exit(tb testing.TB, cmd *exec.Cmd) (stdout, stderr string, code int) {
	tb.Helper()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		tb.Fatal(err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

func TestBinary(t *testing.T) {
	info, err := os.Stat(binary(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the plugin has %.1f MB", float64(info.Size())/(1<<20))
	if info.Size() > maxBinary {
		t.Errorf("the plugin has %d bytes, of which %d are allowed", info.Size(), maxBinary)
	}
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	allowed := []string{
		"github.com/containernetworking/cni/", "github.com/rajsinghtech/tailgate/cni", "github.com/rajsinghtech/tailgate/internal/cli",
		"github.com/rajsinghtech/tailgate/internal/cnirpc", "github.com/vishvananda/netns", "golang.org/x/sys/unix",
	}
	deps := strings.Fields(string(out))
	for _, pkg := range deps {
		if !slices.ContainsFunc(allowed, func(p string) bool { return strings.HasPrefix(pkg, p) }) {
			t.Errorf("the plugin is built of %s, too", pkg)
		}
	}
	if !slices.Contains(deps, "github.com/containernetworking/cni/pkg/skel") {
		t.Errorf("%q is not the plugin's list", deps)
	}
}

func TestCommandLine(t *testing.T) {
	versions := fmt.Sprintf(`{"cniVersion":"1.1.0","supportedVersions":["%s"]}`, strings.Join(version.All.SupportedVersions(), `","`))
	for _, tt := range []struct {
		name, verb, stdin string
		args              []string
		code              int
		out, log          string
	}{
		{name: "version", args: []string{"--version"}, out: testVersion + "\n"},
		{name: "help", args: []string{"--help"}, out: `{"type": "tailgate-cni"`},
		{name: "argument", args: []string{"add"}, code: 1, log: "it takes no arguments but --version and --help"},
		{name: "no command", log: "CNI protocol versions supported: 0.1.0"},
		{name: "VERSION", verb: "VERSION", out: versions},
		{name: "unknown command", verb: "TUNE", stdin: `{"cniVersion":"1.0.0","name":"n"}`, code: 1, out: `"code": 4`},
		{name: "ADD without configuration", verb: "ADD", code: 1, out: `"code": 6`},
		{name: "ADD of a version to come", verb: "ADD", stdin: `{"cniVersion":"9.0.0","name":"n"}`, code: 1, out: `"code": 1`},
		{name: "ADD with a wrong type", verb: "ADD", stdin: `{"cniVersion":"1.0.0","name":"n","socket":7}`, code: 1, out: `"code": 7`},
		{name: "DEL without configuration", verb: "DEL", log: "DEL succeeds although"},
		{name: "DEL of a version to come", verb: "DEL", stdin: `{"cniVersion":"9.0.0","name":"n"}`, log: "DEL succeeds although"},
		{name: "DEL without a name", verb: "DEL", stdin: `{"cniVersion":"1.0.0"}`, log: "DEL succeeds although"},
		{name: "GC before its version", verb: "GC", stdin: `{"cniVersion":"1.0.0","name":"n"}`, code: 1, out: `"code": 1`},
		{name: "STATUS", verb: "STATUS", stdin: `{"cniVersion":"1.1.0","name":"n","socket":"/nowhere/s"}`},
		{
			name: "STATUS that requires the agent", verb: "STATUS", stdin: `{"cniVersion":"1.1.0","name":"n","socket":"/nowhere/s","statusRequiresAgent":true}`,
			code: 1, out: `"code": 50`,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, log, code := exit(t, command(t, tt.verb, tt.stdin, tt.args...))
			if code != tt.code || !strings.Contains(out, tt.out) || !strings.Contains(log, tt.log) || tt.out == "" && out != "" || tt.log == "" && log != "" {
				t.Errorf("exit code %d, stdout %q, stderr %q; want %d, %q, %q", code, out, log, tt.code, tt.out, tt.log)
			}
		})
	}
}

// runtimeExec runs plugins as libcni does, but for the type "main", which only returns its configured result.
type runtimeExec struct{ invoke.DefaultExec }

func (e *runtimeExec) FindInPath(plugin string, paths []string) (string, error) {
	if plugin == "main" {
		return "main", nil
	}
	return e.DefaultExec.FindInPath(plugin, paths)
}

func (e *runtimeExec) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	if path != "main" {
		return e.DefaultExec.ExecPlugin(ctx, path, stdin, environ)
	}
	var conf struct{ Result json.RawMessage }
	err := json.Unmarshal(stdin, &conf)
	return conf.Result, err
}

// A runtime's own library runs the plugin in a chain, in every version.
func TestChain(t *testing.T) {
	var mu sync.Mutex
	var asked []cnirpc.Verb
	socket := agent(t, func(q cnirpc.Request) cnirpc.Reply {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, q.Verb)
		if q.Pod != (cnirpc.Pod{Namespace: "payments", Name: "web-0"}) && q.Verb != cnirpc.GC && q.Verb != cnirpc.Status {
			t.Errorf("%s: pod %+v", q.Verb, q.Pod)
		}
		return cnirpc.Reply{Member: true}
	})
	rt := &libcni.RuntimeConf{
		ContainerID: "c0ffee", NetNS: "/var/run/netns/none", IfName: "eth0",
		Args: [][2]string{{"K8S_POD_NAMESPACE", "payments"}, {"K8S_POD_NAME", "web-0"}},
	}
	for _, v := range version.All.SupportedVersions() {
		t.Run(v, func(t *testing.T) {
			runtime := libcni.NewCNIConfigWithCacheDir([]string{filepath.Dir(binary(t))}, t.TempDir(),
				&runtimeExec{invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: io.Discard}}})
			list := func(more string) *libcni.NetworkConfigList {
				l, err := libcni.NetworkConfFromBytes(fmt.Appendf(nil,
					`{"cniVersion":%q,"name":"n","plugins":[{"type":"main","result":%s}%s]}`, v, rich(v), more))
				if err != nil {
					t.Fatal(err)
				}
				return l
			}
			alone, err := runtime.AddNetworkList(t.Context(), list(""), rt)
			if err != nil {
				t.Fatal(err)
			}
			chain := list(fmt.Sprintf(`,{"type":"tailgate-cni","socket":%q,"statusRequiresAgent":true}`, socket))
			chained, err := runtime.AddNetworkList(t.Context(), chain, rt)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(alone, chained); diff != "" {
				t.Errorf("result without and with tailgate:\n%s", diff)
			}
			want := []cnirpc.Verb{cnirpc.Add}
			if ok, _ := version.GreaterThanOrEqualTo(v, "0.4.0"); ok {
				want = append(want, cnirpc.Check)
				if err := runtime.CheckNetworkList(t.Context(), chain, rt); err != nil {
					t.Error(err)
				}
			}
			if ok, _ := version.GreaterThanOrEqualTo(v, "1.1.0"); ok {
				want = append(want, cnirpc.Status, cnirpc.GC)
				if err := runtime.GetStatusNetworkList(t.Context(), chain); err != nil {
					t.Error(err)
				}
				args := &libcni.GCArgs{ValidAttachments: []types.GCAttachment{{ContainerID: rt.ContainerID, IfName: rt.IfName}}}
				if err := runtime.GCNetworkList(t.Context(), chain, args); err != nil {
					t.Error(err)
				}
			}
			want = append(want, cnirpc.Del)
			if err := runtime.DelNetworkList(t.Context(), chain, rt); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			if diff := cmp.Diff(want, asked); diff != "" {
				t.Errorf("the agent was asked (-want +got):\n%s", diff)
			}
			asked = nil
		})
	}
}

// An agent that takes the request and then says nothing holds a pod for as long as the configuration says, no longer; one
// that is away does not hold it at all.
func TestAgentUnwell(t *testing.T) {
	hung := agent(t, func(cnirpc.Request) cnirpc.Reply {
		<-t.Context().Done()
		return cnirpc.Reply{}
	})
	for _, tt := range []struct {
		name, socket string
		least, most  time.Duration
	}{
		{"away", filepath.Join(t.TempDir(), "absent.sock"), 0, 2 * time.Second},
		{"hung", hung, 300 * time.Millisecond, 4 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cmd := command(t, "ADD", fmt.Sprintf(`{"cniVersion":"1.0.0","name":"n","socket":%q,"timeout":"300ms","prevResult":%s}`, tt.socket, rich("1.0.0")))
			start := time.Now()
			out, log, code := exit(t, cmd)
			if took := time.Since(start); took < tt.least || took > tt.most {
				t.Errorf("took %v, want %v to %v", took, tt.least, tt.most)
			}
			if code != 0 || !strings.Contains(log, "pod=web-0") {
				t.Errorf("exit code %d, stderr %q", code, log)
			}
			if diff := cmp.Diff(value(t, rich("1.0.0")), value(t, out)); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}
