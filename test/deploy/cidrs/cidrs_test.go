package cidrs

import (
	"fmt"
	"strings"
	"testing"
)

// TestFewest: what is within another prefix says nothing more.
func TestFewest(t *testing.T) {
	for all, want := range map[string]string{
		"":                                      "",
		"10.244.1.0/24,10.244.0.0/16":           "10.244.0.0/16",
		"10.244.0.0/16,10.244.0.0/16":           "10.244.0.0/16",
		"fd00::/64,10.96.0.0/16,10.244.0.0/24":  "10.96.0.0/16 10.244.0.0/24 fd00::/64",
		"10.0.0.0/9,10.128.0.0/24,10.1.0.0/16":  "10.0.0.0/9 10.128.0.0/24",
		"fd00:1::/64,fd00::/16,fd00:1:0:1::/64": "fd00::/16",
	} {
		ps, err := Parse(all)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Trim(fmt.Sprint(fewest(ps)), "[]"); got != want {
			t.Errorf("fewest of %s: %s, want %s", all, got, want)
		}
	}
}
