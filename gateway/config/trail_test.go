package config

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFollow(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Mkdir(dir+"/d", 0o755), os.WriteFile(dir+"/d/f", nil, 0o600),
		os.Symlink("loop", dir+"/loop"), os.Symlink("../d/./f", dir+"/d/l"))
	base := follow([]string{dir}).nodes
	for path, want := range map[string][]string{
		dir + "/missing/c": nil,
		dir + "/loop":      nil,
		dir + "/loop/x":    nil,
		dir + "/d/f/x":     {dir + "/d", dir + "/d/f"},
		dir + "/d/l":       {dir + "/d", dir + "/d/f"},
		dir + "/d":         {dir + "/d"},
	} {
		var got []string
		for p := range follow([]string{path}).nodes {
			if _, ok := base[p]; !ok {
				got = append(got, p)
			}
		}
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s leads through (-want +got):\n%s", path, diff)
		}
	}
}
