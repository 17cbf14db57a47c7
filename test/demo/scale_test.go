//go:build linux

package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseLog(t *testing.T) {
	for _, tt := range []struct {
		log  string
		want pinged
	}{
		{`2026-11-24T15:00:00.1Z stdout F 1: from 100.64.0.1 in 1.2ms
2026-11-24T15:00:02.1Z stdout F 2: read ip 0.0.0.0: i/o timeout
2026-11-24T15:00:04.1Z stdout F 3: from 100.64.0.1 in 1ms
`, pinged{first: "from 100.64.0.1 in 1.2ms", sent: 3, lost: 1}},
		{"2026-11-24T15:00:00.1Z stdout F 1: destination unreachable\nsomething else\n", pinged{first: "destination unreachable", sent: 1, lost: 1}},
		{"", pinged{}},
	} {
		if diff := cmp.Diff(&tt.want, parseLog(tt.log), cmp.AllowUnexported(pinged{})); diff != "" {
			t.Errorf("pings (-want +got):\n%s", diff)
		}
	}
}
