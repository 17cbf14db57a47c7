package controller

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/rajsinghtech/tailgate/operator/render"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestDue(t *testing.T) {
	good := render.AuthKey{Key: "tskey-auth-x", ID: "k1", Minted: noon, Expires: noon.Add(24 * time.Hour), Tags: []string{"tag:a"}, Client: "c"}
	want := keyWant{tags: []string{"tag:a"}, client: "c"}
	with := func(change func(*render.AuthKey, *keyWant)) (render.AuthKey, keyWant) {
		k, w := good, want
		change(&k, &w)
		return k, w
	}
	tests := []struct {
		name   string
		change func(*render.AuthKey, *keyWant)
		after  time.Duration
		reason string
		wait   time.Duration
	}{
		{"new", func(*render.AuthKey, *keyWant) {}, 0, "", 12 * time.Hour},
		{"before half", func(*render.AuthKey, *keyWant) {}, 12*time.Hour - time.Second, "", time.Second},
		{"half", func(*render.AuthKey, *keyWant) {}, 12 * time.Hour, ReasonKeyAged, 0},
		{"none", func(k *render.AuthKey, _ *keyWant) { *k = render.AuthKey{} }, 0, ReasonKeyMissing, 0},
		{"no bookkeeping", func(k *render.AuthKey, _ *keyWant) { k.Minted = time.Time{} }, 0, ReasonKeyMissing, 0},
		{"other tags", func(_ *render.AuthKey, w *keyWant) { w.tags = []string{"tag:b"} }, 0, ReasonTagsChanged, 0},
		{"other client", func(_ *render.AuthKey, w *keyWant) { w.client = "d" }, 0, ReasonClientReplaced, 0},
		{"refused before it was minted", func(_ *render.AuthKey, w *keyWant) { w.refused = noon }, time.Hour, "", 11 * time.Hour},
		{"refused a moment after", func(_ *render.AuthKey, w *keyWant) { w.refused = noon.Add(time.Second) }, time.Minute, "", time.Minute},
		{"refused", func(_ *render.AuthKey, w *keyWant) { w.refused = noon.Add(time.Hour) }, time.Hour, ReasonKeyRefused, 0},
		{"refused by a clock that is ahead", func(_ *render.AuthKey, w *keyWant) { w.refused = noon.Add(time.Hour) }, time.Minute, "", time.Minute},
	}
	for _, tt := range tests {
		k, w := with(tt.change)
		if reason, wait := due(k, w, noon.Add(tt.after)); reason != tt.reason || wait != tt.wait {
			t.Errorf("%s: got %q after %v, want %q after %v", tt.name, reason, wait, tt.reason, tt.wait)
		}
	}
}

func TestReplace(t *testing.T) {
	earlier := render.RetiredKey{ID: "k0", Revoke: noon}
	old := render.AuthKey{ID: "k1", Retired: []render.RetiredKey{earlier}}
	for reason, revoke := range map[string]time.Time{
		ReasonKeyAged: noon.Add(10 * time.Minute), ReasonTagsChanged: noon.Add(10 * time.Minute),
		ReasonKeyRefused: noon, ReasonKeyMissing: noon,
	} {
		want := render.AuthKey{ID: "k2", Retired: []render.RetiredKey{earlier, {ID: "k1", Revoke: revoke}}}
		got := replace(old, render.AuthKey{ID: "k2"}, reason, noon)
		if diff := cmp.Diff(want.Retired, got.Retired); diff != "" || got.ID != "k2" {
			t.Errorf("%s (-want +got):\n%s", reason, diff)
		}
	}
	old.Tags, old.Former = []string{"tag:b", "tag:a"}, []string{"tag:c", "tag:n"}
	if got := replace(old, render.AuthKey{ID: "k2", Tags: []string{"tag:a", "tag:n"}}, ReasonTagsChanged, noon); !slices.Equal(got.Former, []string{"tag:b", "tag:c"}) {
		t.Errorf("tags that devices may still have: %v", got.Former)
	}
	if got := replace(render.AuthKey{}, render.AuthKey{ID: "k1"}, ReasonKeyMissing, noon); len(got.Retired) > 0 {
		t.Errorf("retired: %v", got.Retired)
	}
}

func TestBreaker(t *testing.T) {
	clock := clocktesting.NewFakePassiveClock(noon)
	api := &fakeTailnet{}
	b := &breaker{Tailnet: api, clock: clock}
	call := func() (asked bool, wait time.Duration) {
		before := api.calls
		err := b.DeleteDevice(context.Background(), "n1")
		return api.calls > before, retryAfter(err)
	}
	expect := func(what string, asked bool, wait time.Duration) {
		t.Helper()
		if a, w := call(); a != asked || w != wait {
			t.Errorf("%s: asked %v, wait %v; want %v, %v", what, a, w, asked, wait)
		}
	}
	expect("all is well", true, 0)
	api.err = &tailnet.Error{Reason: tailnet.PermissionDenied}
	expect("one scope is missing", true, 0)
	expect("which says nothing of other calls", true, 0)
	api.err = &tailnet.Error{Reason: tailnet.TimedOut}
	expect("it hangs", true, 0)
	expect("so nobody else waits for it", false, time.Second)
	clock.SetTime(noon.Add(time.Second))
	expect("one tries again", true, 0)
	expect("the pause is longer now", false, 2*time.Second)
	clock.SetTime(noon.Add(time.Hour))
	api.err = &tailnet.Error{Reason: tailnet.RateLimited, RetryAfter: 30 * time.Second}
	expect("it asks for a pause", true, 30*time.Second)
	clock.SetTime(noon.Add(time.Hour + 29*time.Second))
	expect("which is kept", false, time.Second)
	clock.SetTime(noon.Add(time.Hour + 30*time.Second))
	api.err = nil
	expect("it is well again", true, 0)
	expect("for all", true, 0)
	api.err = &tailnet.Error{Reason: tailnet.Canceled}
	expect("the operator ends", true, 0)
	expect("which is not the API's fault", true, 0)
}

type fakeTailnet struct {
	Tailnet
	calls int
	err   error
}

func (f *fakeTailnet) DeleteDevice(context.Context, string) error {
	f.calls++
	return f.err
}

func TestResult(t *testing.T) {
	tests := []struct {
		name         string
		wait         time.Duration
		err          error
		least, most  time.Duration
		isLeftToList bool
	}{
		{"fine", time.Hour, nil, time.Hour, time.Hour, false},
		{"an error backs off", time.Hour, errors.New("x"), 0, 0, true},
		{"the API says when", 0, &tailnet.Error{RetryAfter: 40 * time.Second}, 40 * time.Second, 51 * time.Second, false},
		{"something else is earlier", time.Second, &tailnet.Error{RetryAfter: 40 * time.Second}, time.Second, time.Second, false},
		{"joined", 0, errors.Join(errors.New("x"), &pausedError{err: errors.New("y"), wait: 8 * time.Second}), 8 * time.Second, 11 * time.Second, false},
	}
	for _, tt := range tests {
		got, err := result(t.Context(), tt.wait, tt.err)
		if (err != nil) != tt.isLeftToList || got.RequeueAfter < tt.least || got.RequeueAfter > tt.most {
			t.Errorf("%s: %v, %v", tt.name, got.RequeueAfter, err)
		}
	}
}

// TestLockLeavesTheConfigAlone: the lease has a short time limit, and watches on the same configuration have none.
func TestLockLeavesTheConfigAlone(t *testing.T) {
	cfg := &rest.Config{Host: "http://127.0.0.1:1", UserAgent: "mine"}
	if _, err := newLock(cfg, "tailgate-system"); err != nil {
		t.Fatal(err)
	}
	if cfg.Timeout != 0 || cfg.UserAgent != "mine" {
		t.Errorf("the configuration has now a time limit of %v and the user agent %q", cfg.Timeout, cfg.UserAgent)
	}
}
