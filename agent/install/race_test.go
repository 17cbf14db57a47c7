package install

import (
	"fmt"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
)

// A runtime that looks at any moment finds a configuration that it can read, with and without the entry.
func TestNeverHalf(t *testing.T) {
	n := newNode(t, map[string]string{"10-aws.conflist": sample(t, "aws-vpc.conflist")})
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		seen := map[int]int{}
		for stop := false; !stop; {
			select {
			case <-done:
				stop = true
			default:
			}
			files, err := libcni.ConfFiles(n.conf, []string{".conf", ".conflist", ".json"})
			if err != nil || len(files) != 1 {
				t.Errorf("files %v, error %v", files, err)
				return
			}
			l, err := libcni.NetworkConfFromFile(files[0])
			if err != nil {
				t.Errorf("a runtime finds: %v", err)
				return
			}
			seen[len(l.Plugins)]++
		}
		if seen[3]+seen[4] == 0 || len(seen) > 2 {
			t.Errorf("numbers of plugins seen: %v", seen)
		}
	})
	for range 40 {
		i := n.installer(t)
		i.look()
		if s := i.Status(); s.State != Ready {
			t.Fatalf("status %+v", s)
		}
		if err := i.Uninstall(); err != nil {
			t.Fatal(err)
		}
	}
	close(done)
	wg.Wait()
}

// What another writes at the very moment of a change is never lost, whichever way it writes.
func TestNothingLost(t *testing.T) {
	const versions = 300
	text := func(v int) string { return fmt.Sprintf(`{"name":"n%d","plugins":[{"type":"a"}]}`, v) }
	n := newNode(t, map[string]string{"10-a.conflist": text(0)})
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			i := n.installer(t)
			i.look()
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for v := range versions {
		n.atomically(t, "10-a.conflist", text(v))
	}
	close(done)
	wg.Wait()
	i := n.installer(t)
	i.look()
	if err := i.Uninstall(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(text(versions-1), n.read(t, "10-a.conflist")); diff != "" {
		t.Errorf("the last version (-want +got):\n%s", diff)
	}
}
