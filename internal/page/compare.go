package page

import (
	"fmt"
	"strings"
)

// Comparison is something as wanted, as found, and what would be changed, line by line; no lines: nothing.
type Comparison struct {
	Difference []string `json:"difference"`
	Desired    []string `json:"desired"`
	Observed   []string `json:"observed"`
}

// Compare splits texts into a comparison.
func Compare(difference, desired, observed string) Comparison {
	return Comparison{lines(difference), lines(desired), lines(observed)}
}

// lines splits text into its lines; never nil, so that JSON has a list.
func lines(text string) []string {
	if text == "" {
		return []string{}
	}
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}

// LineDiff returns what turns have into want: lines to go begin with "-", lines to come with "+", in
// the order of the texts; "" when they are the same. It is quadratic, and made for tables of tens of lines.
func LineDiff(have, want string) string {
	a, b := lines(have), lines(want)
	// common[i][j] is the length of the longest common subsequence of a[i:] and b[j:].
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	var out strings.Builder
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			fmt.Fprintf(&out, "- %s\n", a[i])
			i++
		default:
			fmt.Fprintf(&out, "+ %s\n", b[j])
			j++
		}
	}
	return out.String()
}
