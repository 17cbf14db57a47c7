package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// versionVar is the variable that holds a binary's version.
const versionVar = "github.com/rajsinghtech/tailgate/internal/cli.version"

// source is what is built.
type source struct {
	dir      string    // of the module's root
	version  string    // as stamped
	revision string    // the commit; empty when it is not known
	time     time.Time // of everything made from it
}

// readSource describes the module that dir is in. Version "" asks git. Without git the version
// is "devel" and the time 0, unless SOURCE_DATE_EPOCH says another
// (https://reproducible-builds.org/specs/source-date-epoch/).
func readSource(ctx context.Context, dir, version string) (source, error) {
	gomod, err := output(ctx, dir, os.Environ(), "go", "env", "GOMOD")
	if err != nil {
		return source{}, fmt.Errorf("find the module: %w", err)
	}
	if gomod == "" || gomod == os.DevNull {
		return source{}, errors.New("this is no Go module; run it in a checkout of tailgate")
	}
	s := source{dir: filepath.Dir(gomod), version: version, time: time.Unix(0, 0).UTC()}
	git := func(args ...string) string {
		// What git does not know, for lack of git or of a repository, has a default.
		text, _ := output(ctx, s.dir, os.Environ(), "git", args...)
		return text
	}
	s.revision = git("rev-parse", "HEAD")
	if s.version == "" {
		s.version = git("describe", "--tags", "--always", "--dirty")
	}
	if s.version == "" {
		s.version = "devel"
	}
	epoch := os.Getenv("SOURCE_DATE_EPOCH")
	if epoch == "" {
		epoch = git("log", "-1", "--format=%ct")
	}
	if epoch != "" {
		seconds, err := strconv.ParseInt(epoch, 10, 64)
		if err != nil {
			return source{}, fmt.Errorf("SOURCE_DATE_EPOCH %q is no time; write seconds since 1970, such as 1767225600", epoch)
		}
		s.time = time.Unix(seconds, 0).UTC()
	}
	return s, nil
}

// goCommand builds binaries whose bytes depend on the source and on the Go release, not on who builds them.
type goCommand struct {
	source
	env []string
}

// kept are the settings of the go command that say where it finds things. No other setting of the user reaches the
// build: GOFLAGS, GOAMD64 or GOEXPERIMENT would change its bytes.
var kept = []string{
	"GOCACHE", "GOMODCACHE", "GOPATH", "GOTMPDIR", "GOTOOLCHAIN",
	"GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE", "GOAUTH", "GOVCS",
}

func newGoCommand(ctx context.Context, s source) (*goCommand, error) {
	text, err := output(ctx, s.dir, os.Environ(), "go", append([]string{"env", "-json"}, kept...)...)
	if err != nil {
		return nil, fmt.Errorf("ask the go command for its settings: %w", err)
	}
	var found map[string]string
	if err := json.Unmarshal([]byte(text), &found); err != nil {
		return nil, fmt.Errorf("read the settings of the go command: %w", err)
	}
	g := &goCommand{source: s, env: []string{"GOENV=off", "GOWORK=off", "CGO_ENABLED=0"}}
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		if !strings.HasPrefix(name, "GO") && !strings.HasPrefix(name, "CGO_") {
			g.env = append(g.env, v)
		}
	}
	for _, name := range kept {
		g.env = append(g.env, name+"="+found[name])
	}
	return g, nil
}

// build makes one binary for a platform, in the folder out, under its own name.
func (g *goCommand) build(ctx context.Context, b binary, p v1.Platform, out string) error {
	tags, err := b.tags(g.dir)
	if err != nil {
		return err
	}
	out, err = filepath.Abs(out)
	if err != nil {
		return err
	}
	env := append(g.env[:len(g.env):len(g.env)], "GOOS="+p.OS, "GOARCH="+p.Architecture)
	// The linker strips what debuggers need (-s -w); without it, packages compile in a fifth less time.
	_, err = output(ctx, g.dir, env, "go", "build", "-trimpath", "-buildvcs=false", "-tags", strings.Join(tags, ","),
		"-gcflags", "all=-dwarf=false", "-ldflags", "-s -w -X "+versionVar+"="+g.version, "-o", filepath.Join(out, b.name), "./"+b.folder)
	if err != nil {
		return fmt.Errorf("build %s for %s: %w", b.name, p, err)
	}
	return nil
}

// output returns what a program prints, without white space around it. What it says of an error is part of the error.
func output(ctx context.Context, dir string, env []string, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir, cmd.Env = dir, env
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, args[0], err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(stdout.String()), nil
}
