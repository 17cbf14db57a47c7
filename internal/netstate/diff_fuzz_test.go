package netstate_test

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/internal/netstate"
	"github.com/rajsinghtech/tailgate/internal/netstate/netstatetest"
)

func FuzzDiff(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 500 {
		data := make([]byte, 256)
		for i := range data {
			data[i] = byte(rng.Uint32())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		src := netstatetest.NewSource(data)
		have, want := src.State(), src.State()
		if plan := netstate.Diff(want, want); !plan.Empty() {
			t.Fatalf("a difference of\n%v\nfrom itself:\n%v", want, plan)
		}
		src.Tamper(&have)

		plan := netstate.Diff(have, want)
		got, err := plan.Apply(have)
		if err != nil {
			t.Fatalf("%v\nhave\n%v\nwant\n%v\nplan\n%v", err, have, want, plan)
		}
		if diff := cmp.Diff(expected(have, want).String(), got.String()); diff != "" {
			t.Fatalf("(-want +got)\n%s\nhave\n%v\nwant\n%v\nplan\n%v", diff, have, want, plan)
		}
		if again := netstate.Diff(got, want); !again.Empty() {
			t.Fatalf("after\n%v\nstill to do\n%v", plan, again)
		}
		if other := netstate.Diff(shuffled(have, data), shuffled(want, data)); other.String() != plan.String() {
			t.Fatalf("the plan depends on order:\n%v\n%v", plan, other)
		}
	})
}

// expected is what must be there in the end: want, with what it leaves alone as have
// has it. It is told from the documentation, not from the code under test.
func expected(have, want netstate.State) netstate.State {
	want = want.Sorted()
	for i, l := range want.Links {
		for _, h := range have.Links {
			if h.Name != l.Name {
				continue
			}
			l.MTU, l.TxQueueLen = orLeft(l.MTU, h.MTU), orLeft(l.TxQueueLen, h.TxQueueLen)
			l.MAC, l.Alias = orLeft(l.MAC, h.MAC), orLeft(l.Alias, h.Alias)
			l.Peer = h.Peer // compared by nothing
		}
		want.Links[i] = l
	}
	for _, h := range have.Sysctls {
		if !slices.ContainsFunc(want.Sysctls, func(s netstate.Sysctl) bool { return s.Key == h.Key }) {
			want.Sysctls = append(want.Sysctls, h)
		}
	}
	return want
}

func orLeft[T comparable](want, have T) T {
	var zero T
	if want == zero {
		return have
	}
	return want
}

func shuffled(s netstate.State, data []byte) netstate.State {
	seed := uint64(len(data))
	for _, b := range data {
		seed = seed*31 + uint64(b)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	s.Links, s.Addrs, s.Neighs = shuffle(rng, s.Links), shuffle(rng, s.Addrs), shuffle(rng, s.Neighs)
	s.Routes, s.Rules, s.Sysctls = shuffle(rng, s.Routes), shuffle(rng, s.Rules), shuffle(rng, s.Sysctls)
	for i := range s.Links {
		s.Links[i].MAC = strings.ToUpper(s.Links[i].MAC)
	}
	return s
}

func shuffle[T any](rng *rand.Rand, list []T) []T {
	list = slices.Clone(list)
	rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	return list
}
