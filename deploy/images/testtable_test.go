package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// TestTestImages: images of tests are made when they are named and never otherwise.
func TestTestImages(t *testing.T) {
	for _, img := range testTable {
		for _, b := range img.binaries {
			if _, err := os.Stat(filepath.Join(moduleDir, b.folder, "main.go")); err != nil {
				t.Errorf("binary %s: %v", b.name, err)
			}
		}
	}
	for list, want := range map[string][]string{
		"":                  shortNames(table),
		"tailnet":           {"tailnet"},
		"gateway, tailnet":  {"tailnet", "gateway"},
		"operator,gateway":  {"operator", "gateway"},
		"tailnet,operator ": {"tailnet", "operator"},
	} {
		images, err := choose(list)
		if err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(want, shortNames(images)); diff != "" {
			t.Errorf("--only=%q (-want +got):\n%s", list, diff)
		}
	}
	if slices.Contains(shortNames(table), "tailnet") {
		t.Error("the tailnet of tests ships")
	}
}

// TestContentTag: such a tag follows the image.
func TestContentTag(t *testing.T) {
	digest := v1.Hash{Algorithm: "sha256", Hex: "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"}
	for tag, want := range map[string]string{"content": "r.example/x/tailgate-hello:0123456789ab", "1.2": "r.example/x/tailgate-hello:1.2"} {
		ref, err := newTag(hello, settings{repository: "r.example/x", tag: tag}, digest)
		if err != nil || ref.Name() != want {
			t.Errorf("--tag=%s makes %s (%v), want %s", tag, ref, err, want)
		}
	}
}
