package main

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// omitted are the build tags of GATEWAY_TAGS in the Taskfile, each on a line of its own.
var omitted = regexp.MustCompile(`(?m)^ +- (ts_omit_\w+)$`)

// The template engine calls methods by names that the linker cannot know, so with it the binary keeps every
// exported method of every type in use: 6 MB more, of 21, for a few pages of HTML.
func TestNoTemplateEngine(t *testing.T) {
	taskfile, err := os.ReadFile("../Taskfile.yml")
	if err != nil {
		t.Fatal(err)
	}
	var tags []string
	for _, m := range omitted.FindAllSubmatch(taskfile, -1) {
		tags = append(tags, string(m[1]))
	}
	if len(tags) == 0 {
		t.Fatal("the Taskfile has no GATEWAY_TAGS")
	}
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-tags", strings.Join(tags, ","),
		"-f", `{{.ImportPath}}{{range .Imports}} {{.}}{{end}}`, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux") // as the Taskfile builds it
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list what the gateway is built of: %v", err)
	}
	engine := []string{"text/template", "html/template"}
	found := map[string]bool{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		importer, imports := fields[0], fields[1:]
		found[importer] = true
		for _, pkg := range engine {
			if slices.Contains(imports, pkg) && !slices.Contains(engine, importer) {
				t.Errorf("%s imports %s", importer, pkg)
			}
		}
	}
	// A list without these would not be the gateway's.
	for _, pkg := range []string{"reflect", "tailscale.com/ipn/ipnlocal", "github.com/rajsinghtech/tailgate/gateway/debug"} {
		if !found[pkg] {
			t.Errorf("%s is not in the list", pkg)
		}
	}
}
