package kind_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/test/kind"
)

// nodeEngine answers as Docker and podman do of a container that runs, until it is killed.
const nodeEngine = `#!/bin/sh
dir=${0%/*}
echo "$*" >> "$dir/asked"
last() { for x; do :; done; echo "$x"; }
node=$(last "$@")
if test "$1" = --version; then echo "podman version 4.3.1"; exit; fi
if test "$1" = ps; then exit; fi
if test "$node" != tailgate-worker; then echo "Error: no such container $node" >&2; exit 125; fi
case $1 in
inspect) if test -e "$dir/killed"; then echo 0; else echo 4711; fi ;;
kill) touch "$dir/killed"; echo "$node" ;;
wait) echo 137 ;;
start) rm "$dir/killed"; echo "$node" ;;
esac
`

// TestNodes asks a stand-in for the engine, on its command line, for what tests do to nodes.
func TestNodes(t *testing.T) {
	engine(t) // nothing else is found
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "podman"), []byte(nodeEngine), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("KIND_EXPERIMENTAL_PROVIDER", "podman")
	tool, err := kind.Build(t.Context(), root, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	ctx, node := t.Context(), "tailgate-worker"
	running := func(want int, wantErr error) {
		t.Helper()
		if pid, err := tool.PID(ctx, node); pid != want || !errors.Is(err, wantErr) {
			t.Errorf("process 1 is %d, %v, want %d, %v", pid, err, want, wantErr)
		}
	}
	running(4711, nil)
	if err := tool.Crash(ctx, node); err != nil {
		t.Fatal(err)
	}
	running(0, kind.ErrDown)
	if err := tool.Start(ctx, node); err != nil {
		t.Fatal(err)
	}
	running(4711, nil)
	_, err = tool.PID(ctx, "tailgate-worker9")
	if err == nil || !strings.Contains(err.Error(), "find process 1 of node tailgate-worker9: podman inspect") || !strings.Contains(err.Error(), "no such container") {
		t.Errorf("a node that there is not: %v", err)
	}
	asked, err := os.ReadFile(filepath.Join(dir, "asked"))
	if err != nil {
		t.Fatal(err)
	}
	inspect := "inspect --type container --format {{.State.Pid}} tailgate-worker\n"
	want := inspect + "kill tailgate-worker\nwait tailgate-worker\n" + inspect + "start tailgate-worker\n" + inspect + strings.Replace(inspect, "worker", "worker9", 1)
	if diff := cmp.Diff(want, string(asked)); diff != "" {
		t.Errorf("asked of the engine (-want +got):\n%s", diff)
	}
}
