package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGenerated fails when something generated is not what would be generated now.
func TestGenerated(t *testing.T) {
	deploy, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	files, err := chartFiles(deploy)
	if err != nil {
		t.Fatal(err)
	}
	copies, err := filepath.Glob(filepath.Join(deploy, chartCRDs, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if want := len(files) - len(accounts()); len(copies) != want || len(copies) == 0 {
		t.Errorf("the chart has the CRDs %q, and should have %d", copies, want)
	}
	// Before the rendering, which reads the chart's files as they are.
	for name, want := range files {
		compare(t, filepath.Join(deploy, name), want)
	}
	want, err := render(t.Context(), deploy)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, filepath.Join(deploy, manifests), want)
}

func compare(t *testing.T, file string, want []byte) {
	t.Helper()
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Fatalf("%s is not what it is generated from (go generate ./deploy) (-want +got):\n%s", file, diff)
	}
}
