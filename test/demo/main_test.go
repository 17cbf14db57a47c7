//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		args string
		want settings
		err  string
	}{
		{"", settings{members: 100}, ""},
		{"--quick", settings{members: 20}, ""},
		{"--quick --members=50 --keep", settings{members: 50, keep: true}, ""},
		{"--quick --members=100", settings{members: 100}, ""},
		{"--members=4 --verbose", settings{members: 4, verbose: true}, ""},
		{"--members=3", settings{}, "4 to 400"},
		{"--members=401", settings{}, "4 to 400"},
		{"keep", settings{}, `"keep" is no flag`},
	} {
		got, err := parse(strings.Fields(tt.args), new(strings.Builder))
		switch {
		case tt.err != "":
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want one with %q", tt.args, err, tt.err)
			}
		case err != nil:
			t.Errorf("%q: %v", tt.args, err)
		case got != tt.want:
			t.Errorf("%q: %+v, want %+v", tt.args, got, tt.want)
		}
	}
}
