//go:build linux

package kernel

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink/nl"
)

func TestInterruptedDumpIsAskedForAgain(t *testing.T) {
	other := errors.New("other")
	for _, tt := range []struct {
		name        string
		interrupted int
		err         error
		tries       int
		want        error
	}{
		{name: "whole at once", tries: 1},
		{name: "interrupted twice", interrupted: 2, tries: 3},
		{name: "interrupted, then another error", interrupted: 1, err: other, tries: 2, want: other},
		{name: "never whole", interrupted: dumpTries + 1, tries: dumpTries, want: nl.ErrDumpInterrupted},
	} {
		tries := 0
		msgs, err := retryInterrupted(func() ([][]byte, error) {
			if tries++; tries <= tt.interrupted {
				return [][]byte{[]byte("half")}, fmt.Errorf("dump: %w", nl.ErrDumpInterrupted)
			}
			return [][]byte{[]byte("whole")}, tt.err
		})
		if !errors.Is(err, tt.want) || tries != tt.tries {
			t.Errorf("%s: %d tries, error %v; want %d and %v", tt.name, tries, err, tt.tries, tt.want)
		}
		if err == nil && string(msgs[0]) != "whole" {
			t.Errorf("%s: took %q for an answer", tt.name, msgs)
		}
	}
}
