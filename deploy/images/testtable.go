package main

import (
	"slices"
	"strings"
)

// testTable is every image that is for trying and testing tailgate. They are made when --only names them, never shipped, and
// nothing in the chart asks for them.
var testTable = []image{
	{
		name:        "tailgate-tailnet",
		description: "A hermetic tailnet to try tailgate with; never for real use",
		binaries:    []binary{{name: "tailnet", folder: "test/tailnet/cmd/tailnet"}},
		user:        "65532:65532",
	},
}

// choose returns the images that --only names; "" is what ships.
func choose(list string) ([]image, error) {
	var some []image
	var rest []string
	for name := range strings.SplitSeq(list, ",") {
		i := slices.IndexFunc(testTable, func(img image) bool { return img.short() == strings.TrimSpace(name) })
		if i < 0 {
			rest = append(rest, name)
			continue
		}
		some = append(some, testTable[i])
	}
	if len(rest) == 0 {
		return some, nil
	}
	ship, err := selected(table, strings.Join(rest, ","))
	return append(some, ship...), err
}
