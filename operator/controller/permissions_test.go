package controller_test

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
)

// TestPermissions does all that an operator does, by two operators that elect a leader, and compares what was asked
// for with what they may. (That they may do what they need shows in every test: operators run with these
// permissions.)
func TestPermissions(t *testing.T) {
	w := newWorld(t)
	first := w.operator(elected)
	w.node("node-a")
	w.create(group("payments"))
	gw := w.join("payments", "node-a")
	w.condition("payments", v1alpha1.ConditionReady, controller.ReasonReady)
	w.announce("never-there", "node-a")
	w.event(v1alpha1.GatewayName("never-there", "node-a"), controller.ReasonGroupGone)

	// Another waits, and takes over when the first ends.
	second := w.operator(elected)
	w.until("another operator waits", func() string {
		if strings.Count(w.log.String(), "Starting workers") > 3 {
			return "it works"
		}
		if strings.Count(w.log.String(), `msg="Starting EventSource"`) < 2*strings.Count(w.log.String(), `msg="Starting workers"`) {
			return "its watches are not established"
		}
		return ""
	})
	first.stop()
	g := group("payments")
	g.Name = "peers"
	w.create(g)
	key := w.key("peers", "")
	// The same event once more is a patch.
	w.pass(13*time.Hour, g)
	key = w.key("peers", key.ID)
	w.pass(13*time.Hour, g)
	w.key("peers", key.ID)
	w.until("a repeated event", func() string {
		e := w.events("peers")[controller.ReasonKeyMinted]
		if e.Series == nil {
			return "it is not"
		}
		return ""
	})
	w.clock.SetTime(time.Now()) // the server's, by which deletions are dated
	for _, name := range []string{"payments", "peers"} {
		w.must(w.client.Delete(w.ctx(), group(name)))
		w.gone(name)
	}
	w.event(gw.Name, controller.ReasonDeviceDeleted)
	second.stop()

	used := sets.New[string]()
	for _, r := range w.requests.list() {
		used.Insert(w.verbs(r)...)
	}
	granted := sets.New[string]()
	for scope, ps := range map[string][]permission.Permission{"cluster": controller.ClusterPermissions(), "namespace": controller.NamespacePermissions()} {
		for _, p := range ps {
			if p.Why == "" {
				t.Errorf("no reason is given for %v", p.PolicyRule)
			}
			granted.Insert(verbsOf(scope, p.PolicyRule)...)
		}
	}
	// Admission asks for it, not a request of ours; without it, no object is made.
	granted.Delete("cluster update " + v1alpha1.GroupVersion.Group + "/egressgroups/finalizers")
	if diff := cmp.Diff(sets.List(granted), sets.List(used)); diff != "" {
		t.Errorf("permissions (-granted +used):\n%s", diff)
	}
}

func elected(s *settings) { s.manager.LeaderElection = true }

func verbsOf(scope string, r rbacv1.PolicyRule) (out []string) {
	for _, verb := range r.Verbs {
		line := fmt.Sprintf("%s %s %s/%s", scope, verb, r.APIGroups[0], r.Resources[0])
		if len(r.ResourceNames) > 0 {
			line += " " + r.ResourceNames[0]
		}
		out = append(out, line)
	}
	return out
}

// verbs returns what a request needs, in the words of [verbsOf].
func (w *world) verbs(r asked) []string {
	w.Helper()
	info, err := (&request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}).
		NewRequestInfo(&http.Request{Method: r.method, URL: &url.URL{Path: r.path, RawQuery: r.query}})
	w.must(err)
	if !info.IsResourceRequest {
		return nil // discovery, which everybody may
	}
	resource := info.APIGroup + "/" + info.Resource
	if info.Subresource != "" {
		resource += "/" + info.Subresource
	}
	scope, name := "namespace", ""
	switch {
	case info.Namespace != w.ns, info.Resource == "events":
		scope = "cluster"
	}
	if info.Resource == "namespaces" || info.Resource == "leases" && info.Verb != "create" {
		name = " " + info.Name
	}
	verbs := []string{info.Verb}
	if strings.Contains(r.kind, "apply-patch") {
		verbs = append(verbs, "create") // when there is none
	}
	if info.Verb == "watch" && strings.Contains(r.query, "sendInitialEvents=true") {
		verbs = append(verbs, "list") // what it stands for, and what is asked of servers that do not know it
	}
	for i, verb := range verbs {
		verbs[i] = fmt.Sprintf("%s %s %s%s", scope, verb, resource, name)
	}
	return slices.Clip(verbs)
}
