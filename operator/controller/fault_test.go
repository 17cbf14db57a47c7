package controller_test

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

// TestTailnetFaults: whatever is wrong with the API, the group says it in a word and a sentence, all that
// needs no API is done, and it mends when the API does.
func TestTailnetFaults(t *testing.T) {
	keys := func(f testtailnet.Fault) testtailnet.Fault {
		f.Method, f.Path = http.MethodPost, "/api/v2/tailnet/*/keys"
		return f
	}
	tests := map[tailnet.Reason]testtailnet.Fault{
		tailnet.CredentialsRefused: {Path: "/api/v2/oauth/token", Code: 401},
		tailnet.PermissionDenied:   keys(testtailnet.Fault{Code: 403, Message: "calling actor does not have enough permissions to perform this function"}),
		tailnet.TailnetNotFound:    keys(testtailnet.Fault{Code: 404, Message: "tailnet not found"}),
		tailnet.RateLimited:        keys(testtailnet.Fault{Code: 429, RetryAfter: time.Second}),
		tailnet.Unavailable:        keys(testtailnet.Fault{Code: 503}),
		tailnet.TimedOut:           keys(testtailnet.Fault{}),
		tailnet.BadResponse:        keys(testtailnet.Fault{Code: 200, Body: "<html>sign in</html>", ContentType: "text/html"}),
	}
	w := newWorld(t)
	w.operator()
	for i, reason := range slices.Sorted(maps.Keys(tests)) {
		w.must(w.tailnet.Fail(tests[reason]))
		w.tailnet.ExpireTokens() // one of the faults is that there is no other
		name := fmt.Sprintf("group-%03d", i)
		w.create(group(name))
		c := w.condition(name, v1alpha1.ConditionAuthKeyReady, string(reason))
		if c.Status != metav1.ConditionFalse || !strings.Contains(c.Message, "cannot") {
			t.Errorf("%s: %+v", reason, c)
		}
		w.checkMade(name, false)
		w.condition(name, v1alpha1.ConditionConfigRendered, controller.ReasonRendered)
		w.event(name, string(reason))
		w.tailnet.ClearFaults()
		if reason != tailnet.RateLimited && reason != tailnet.TimedOut {
			w.tryNow() // two wait for it
		}
		w.condition(name, v1alpha1.ConditionReady, controller.ReasonNoMembers)
		w.checkMade(name, true)
	}
}

// TestHangingAPI: a group's configuration changes at once, although nobody answers for the keys of many.
func TestHangingAPI(t *testing.T) {
	w := newWorld(t)
	w.operator()
	g := group("payments")
	w.create(g)
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonNoMembers)
	w.must(w.tailnet.Fail(testtailnet.Fault{}))
	const others = 25
	for i := range others {
		w.create(group(fmt.Sprintf("group-%03d", i)))
	}
	for i := range others {
		w.condition(fmt.Sprintf("group-%03d", i), v1alpha1.ConditionAuthKeyReady, string(tailnet.TimedOut))
	}
	begun := time.Now()
	w.change(g, `{"spec":{"acceptRoutes":false}}`)
	w.until("configuration written", func() string {
		if w.getGroup("payments").Status.ObservedGeneration < 2 {
			return "it is not"
		}
		return ""
	})
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	w.tailnet.ClearFaults()
	w.tryNow()
	for i := range others {
		w.condition(fmt.Sprintf("group-%03d", i), v1alpha1.ConditionAuthKeyReady, controller.ReasonKeyValid)
	}
}

// tryNow writes the credentials: whoever does wants them tried.
func (w *world) tryNow() {
	w.Helper()
	w.change(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: credentialsName}},
		fmt.Sprintf(`{"metadata":{"annotations":{"test/try":%q}}}`, time.Now()))
}

// TestKeyNotWritten: no key is left in the tailnet that the cluster does not know of.
func TestKeyNotWritten(t *testing.T) {
	w := newWorld(t)
	var broken atomic.Bool
	broken.Store(true)
	w.operator(func(s *settings) {
		s.transport = func(*requests) *requests {
			return &requests{intercept: func(req *http.Request, _ []byte, next http.RoundTripper) (*http.Response, error) {
				if req.Method == http.MethodPatch && strings.Contains(req.URL.Path, "/secrets/") && broken.Load() {
					return nil, errors.New("the server does not answer")
				}
				return next.RoundTrip(req)
			}}
		}
	})
	w.create(group("payments"))
	w.condition("payments", v1alpha1.ConditionAuthKeyReady, controller.ReasonApplyFailed)
	w.until("no good key", func() string {
		if keys := w.validKeys(); len(w.tailnet.Keys()) == 0 || len(keys) > 0 {
			return fmt.Sprintf("%v of %d", keys, len(w.tailnet.Keys()))
		}
		return ""
	})
	broken.Store(false)
	key := w.key("payments", "")
	if diff := cmp.Diff([]string{key.ID}, w.validKeys()); diff != "" {
		t.Errorf("good keys (-want +got):\n%s", diff)
	}
}
