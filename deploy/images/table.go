package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// What the images say of themselves, whichever they are.
const (
	defaultRepository = "ghcr.io/rajsinghtech"
	sourceURL         = "https://github.com/rajsinghtech/tailgate"
	licenses          = "Apache-2.0"
)

// image is one container image: some binaries in its root folder, root certificates, and nothing else.
type image struct {
	name        string   // the last part of its name
	description string   // of org.opencontainers.image.description
	binaries    []binary // the first is the entrypoint
	user        string   // UID:GID; there is no /etc/passwd that could know a name
}

// binary is one static program.
type binary struct {
	name    string // of the file
	folder  string // of its package main, from the module's root
	tagsVar string // the variable of the Taskfile that lists its build tags; empty: none
}

// table is every image. Agent and gateway are root because added capabilities reach no other user
// (https://kubernetes.io/docs/tasks/configure-pod-container/security-context/), and because what they share with the node is
// root's: CNI's folders, the namespaces of pods, their sockets. Their pods drop the capabilities that they do not need.
// Nothing else is root. A binary is added when its folder is, and deploy/docker then wants a Dockerfile, too.
var table = []image{
	{
		name:        "tailgate-agent",
		description: "Joins the pods of a Kubernetes node to its tailnet gateways",
		// The plugin does not run in this image: the agent copies it to the node.
		binaries: []binary{{name: "tailgate-agent", folder: "agent"}, {name: "tailgate-cni", folder: "cni"}},
		user:     "0:0",
	},
	{
		name:        "tailgate-gateway",
		description: "A Tailscale node on a kernel TUN that carries the traffic of Kubernetes pods",
		binaries:    []binary{{name: "tailgate-gateway", folder: "gateway", tagsVar: "GATEWAY_TAGS"}},
		user:        "0:0",
	},
	{
		name:        "tailgate-operator",
		description: "Makes the tailnet gateways of EgressGroups in a Kubernetes cluster",
		binaries:    []binary{{name: "tailgate-operator", folder: "operator"}},
		user:        "65532:65532",
	},
}

func (i image) short() string        { return strings.TrimPrefix(i.name, "tailgate-") }
func (i image) entrypoint() []string { return []string{"/" + i.binaries[0].name} }

func shortNames(images []image) []string {
	names := make([]string, len(images))
	for i, img := range images {
		names[i] = img.short()
	}
	return names
}

// selected returns the images of a comma-separated list of short names; "" is all.
func selected(images []image, list string) ([]image, error) {
	if list == "" {
		return images, nil
	}
	var some []image
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(images, func(img image) bool { return img.short() == strings.TrimSpace(name) })
		if i < 0 {
			return nil, fmt.Errorf("--only: there is no image %q; there are %s", name, strings.Join(shortNames(images), ", "))
		}
		some = append(some, images[i])
	}
	return some, nil
}

// tags returns the binary's build tags. They are written once, in the Taskfile, which says why each is there.
func (b binary) tags(moduleDir string) ([]string, error) {
	if b.tagsVar == "" {
		return nil, nil
	}
	var taskfile struct {
		Vars map[string]any `json:"vars"`
	}
	if err := readYAML(filepath.Join(moduleDir, "Taskfile.yml"), &taskfile); err != nil {
		return nil, fmt.Errorf("build tags of %s: %w", b.name, err)
	}
	list, ok := taskfile.Vars[b.tagsVar].([]any)
	if !ok || len(list) == 0 {
		return nil, fmt.Errorf("build tags of %s: the Taskfile has no list %s among its vars", b.name, b.tagsVar)
	}
	tags := make([]string, len(list))
	for i, tag := range list {
		tags[i] = fmt.Sprint(tag)
	}
	return tags, nil
}

// chartAppVersion returns the version that the chart installs, which is the tag of the images it asks for.
func chartAppVersion(moduleDir string) (string, error) {
	var chart struct {
		AppVersion string `json:"appVersion"`
	}
	if err := readYAML(filepath.Join(moduleDir, "deploy/chart/tailgate-operator/Chart.yaml"), &chart); err != nil {
		return "", fmt.Errorf("tag of the images: %w", err)
	}
	return chart.AppVersion, nil
}

func readYAML(file string, into any) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	return nil
}
