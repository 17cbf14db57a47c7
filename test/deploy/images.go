package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

const defaultRepository = "ghcr.io/rajsinghtech"

// tailnetImage is that of the hermetic tailnet. The chart does not know it.
const tailnetImage = "tailgate-tailnet"

// values are where the chart has the images, by their names.
var values = map[string][]string{
	"tailgate-agent":    {"agent", "image"},
	"tailgate-gateway":  {"gateway", "image"},
	"tailgate-operator": {"image"},
}

// image is one that the cluster is to run.
type image struct {
	repository, tag string
}

func (i image) String() string { return i.repository + ":" + i.tag }

// images are what the cluster is to run, by name.
type images struct {
	all map[string]image
	// pullPolicy is Kubernetes'. What was loaded must never be pulled: there is nothing of that name anywhere.
	pullPolicy string
}

// published returns the images that a registry has.
func published(root, repository, tag string) (images, error) {
	if tag == "" {
		var chart struct {
			AppVersion string `json:"appVersion"`
		}
		text, err := os.ReadFile(filepath.Join(root, chartFolder, "Chart.yaml"))
		if err == nil {
			err = yaml.Unmarshal(text, &chart)
		}
		if err != nil {
			return images{}, fmt.Errorf("tag of the images: %w", err)
		}
		tag = chart.AppVersion
	}
	i := images{all: map[string]image{}, pullPolicy: "IfNotPresent"}
	for _, name := range append(slices.Sorted(maps.Keys(values)), tailnetImage) {
		i.all[name] = image{repository + "/" + name, tag}
	}
	return i, nil
}

// build makes the images as users do, for this machine's architecture, with tags that change when the images do, and returns
// their archives. The tailnet's is among them when it is wanted.
func build(ctx context.Context, root string, tailnet bool) (i images, archives []string, err error) {
	out := filepath.Join(root, ".cache", "deploy", "images")
	// What an older tree made is not this one's.
	if err := os.RemoveAll(out); err != nil {
		return i, nil, err
	}
	args := []string{"run", "./deploy/images", "--platform=local", "--tag=content", "--repository=localhost/tailgate", "--out=" + out}
	runs := [][]string{args}
	if tailnet {
		runs = append(runs, append(args[:len(args):len(args)], "--only="+strings.TrimPrefix(tailnetImage, "tailgate-")))
	}
	for _, args := range runs {
		c := exec.CommandContext(ctx, "go", args...)
		c.Dir = root
		if text, err := c.CombinedOutput(); err != nil {
			return i, nil, fmt.Errorf("make images: %w\n%s", err, text)
		}
	}
	i, err = readDigests(out)
	if err != nil {
		return i, nil, fmt.Errorf("make images: %w", err)
	}
	archives, err = filepath.Glob(filepath.Join(out, "*-linux-*.tar"))
	return i, archives, err
}

// readDigests reads what images were made.
func readDigests(dir string) (images, error) {
	i := images{all: map[string]image{}, pullPolicy: "Never"}
	files, err := filepath.Glob(filepath.Join(dir, "*.digest"))
	if err == nil && len(files) == 0 {
		err = errors.New("none was made")
	}
	if err != nil {
		return i, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return i, err
		}
		ref, _, _ := strings.Cut(string(text), "@")
		colon := strings.LastIndex(ref, ":")
		if colon < 0 {
			return i, fmt.Errorf("%s names no tag: %q", file, text)
		}
		i.all[strings.TrimSuffix(filepath.Base(file), ".digest")] = image{ref[:colon], ref[colon+1:]}
	}
	return i, nil
}

// put writes the images into the values of the chart.
func (i images) put(into map[string]any) error {
	for name, img := range i.all {
		if name == tailnetImage {
			continue
		}
		path, ok := values[name]
		if !ok {
			return fmt.Errorf("there is an image %s, and no value of the chart is known for it; add it to values in test/deploy/images.go", name)
		}
		at := into
		for _, key := range path[:len(path)-1] {
			next, ok := at[key].(map[string]any)
			if !ok {
				next = map[string]any{}
				at[key] = next
			}
			at = next
		}
		at[path[len(path)-1]] = map[string]any{"repository": img.repository, "tag": img.tag, "pullPolicy": i.pullPolicy}
	}
	return nil
}
