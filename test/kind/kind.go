package kind

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Name is the cluster's, as in the files of the folder kind.
const Name = "tailgate"

// Families are the files there are, by name.
func Families() []string { return []string{"dual", "v4", "v6"} }

// engines are those that kind can use, in the order in which it looks for them, with what they begin to say of
// themselves: a program "docker" may be podman's.
var engines = []struct{ name, says string }{{"docker", "Docker version"}, {"podman", "podman version"}}

// engineVar is how kind itself is told which to use.
const engineVar = "KIND_EXPERIMENTAL_PROVIDER"

// ErrNoEngine says that no container engine runs.
var ErrNoEngine = errors.New("neither Docker nor podman runs here: start one, or use a cluster that needs neither: go tool task lab:up")

// FindEngine returns the engine that answers, or the one that the user chose for kind.
func FindEngine(ctx context.Context) (string, error) {
	if chosen := os.Getenv(engineVar); chosen != "" {
		return chosen, nil
	}
	for _, e := range engines {
		said, err := exec.CommandContext(ctx, e.name, "--version").Output()
		if err != nil || !strings.HasPrefix(string(said), e.says) {
			continue
		}
		// A client answers that without its server; this it does not.
		if exec.CommandContext(ctx, e.name, "ps", "--quiet").Run() == nil {
			return e.name, nil
		}
	}
	return "", ErrNoEngine
}

// Tool is a kind that was built, with its engine.
type Tool struct {
	binary, engine, root string
	out                  io.Writer
}

// Build finds the engine and builds kind into the cache folder of the repository at root, which takes a minute the first
// time and nothing when it is there. What kind says goes to out.
func Build(ctx context.Context, root string, out io.Writer) (*Tool, error) {
	engine, err := FindEngine(ctx)
	if err != nil {
		return nil, err
	}
	root, err = filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	t := &Tool{binary: filepath.Join(root, ".cache/bin/kind"), engine: engine, root: root, out: out}
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(root, "test/tools/kind"), "-trimpath", "-ldflags=-s -w", "-o", t.binary, "tool")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build kind: %w\n%s", err, out)
	}
	return t, nil
}

// Engine is the container engine's name.
func (t *Tool) Engine() string { return t.engine }

func (t *Tool) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, t.binary, args...)
	cmd.Stderr = t.out
	if t.engine != engines[0].name { // kind takes the first by itself, and makes a remark when it is told to
		cmd.Env = append(os.Environ(), engineVar+"="+t.engine)
	}
	return cmd
}

// run runs kind for what it does.
func (t *Tool) run(ctx context.Context, args ...string) error {
	cmd := t.command(ctx, args...)
	cmd.Stdout = t.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kind %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// ask runs kind for what it prints. What it says of an error is part of the error.
func (t *Tool) ask(ctx context.Context, args ...string) ([]byte, error) {
	cmd := t.command(ctx, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	text, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("kind %s: %w\n%s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return text, nil
}

// Exists is whether the cluster is there.
func (t *Tool) Exists(ctx context.Context) (bool, error) {
	text, err := t.ask(ctx, "get", "clusters", "--quiet")
	return slices.Contains(strings.Fields(string(text)), Name), err
}

// Up makes the cluster of a family. Flags are further ones of "kind create cluster".
func (t *Tool) Up(ctx context.Context, family string, flags ...string) error {
	file := filepath.Join(t.root, "kind", family+".yaml")
	if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("there is no family %q: use %s", family, strings.Join(Families(), ", "))
	}
	exists, err := t.Exists(ctx)
	if err != nil {
		return err
	}
	if exists {
		_, err := fmt.Fprintf(t.out, "the kind cluster %s is up already; to make it anew, end it first: go tool task kind:down\n", Name)
		return err
	}
	return t.run(ctx, append([]string{"create", "cluster", "--config", file, "--wait", "2m"}, flags...)...)
}

// Down ends the cluster. That there is none is no error.
func (t *Tool) Down(ctx context.Context) error {
	return t.run(ctx, "delete", "cluster", "--name", Name)
}

// Load brings image archives into every node.
func (t *Tool) Load(ctx context.Context, archives ...string) error {
	for _, a := range archives {
		if err := t.run(ctx, "load", "image-archive", a, "--name", Name); err != nil {
			return err
		}
	}
	return nil
}

// Kubeconfig returns the cluster's, whatever the user's own has.
func (t *Tool) Kubeconfig(ctx context.Context) ([]byte, error) {
	return t.ask(ctx, "get", "kubeconfig", "--name", Name)
}
