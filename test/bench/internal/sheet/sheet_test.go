package sheet

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestLines(t *testing.T) {
	lines := []Line{
		NewLine("w", "writes", "", 0, AtMost(0)), NewLine("x", "writes", "", 1, AtMost(0)),
		NewLine("m", "memory", "MB", 63.96, Below(64)), NewLine("n", "memory", "MB", 64, Below(64)),
		NewLine("s", "time", "s", 1.2345, Goal{}), NewLine("g", "writes a group", "", 9.6666, Goal{}),
		NewLine("r", "ratio", "", 0.94, AtLeast(0.95)), NewLine("q", "ratio", "", 0.95, AtLeast(0.95)),
	}
	if diff := cmp.Diff([]string{"x", "n", "r"}, Unmet(lines)); diff != "" {
		t.Errorf("not reached (-want +got):\n%s", diff)
	}
	var out strings.Builder
	Print(&out, lines)
	want := `MEASURE         VALUE  UNIT  GOAL    MET
writes          0            ≤ 0     yes
writes          1            ≤ 0     NO
memory          64.0   MB    < 64    yes
memory          64.0   MB    < 64    NO
time            1.23   s             
writes a group  9.67                 
ratio           0.940        ≥ 0.95  NO
ratio           0.950        ≥ 0.95  yes
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
