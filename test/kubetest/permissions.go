package kubetest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"

	"github.com/rajsinghtech/tailgate/internal/permission"
)

// Recorder notes which permissions requests need. The zero value is ready; put it in front of a client by
// rest.Config's Wrap.
type Recorder struct {
	// Namespace is the one of which a role would be; what is asked elsewhere needs a cluster's role.
	Namespace string
	// Named are the resources that are granted by name.
	Named []string

	mu     sync.Mutex
	needed sets.Set[string]
}

// Wrap returns next with the recorder in front of it.
func (r *Recorder) Wrap(next http.RoundTripper) http.RoundTripper {
	return recording{r, next}
}

type recording struct {
	r    *Recorder
	next http.RoundTripper
}

func (t recording) RoundTrip(q *http.Request) (*http.Response, error) {
	needs, err := t.r.needs(q)
	if err != nil {
		return nil, err
	}
	t.r.mu.Lock()
	if t.r.needed == nil {
		t.r.needed = sets.New[string]()
	}
	t.r.needed.Insert(needs...)
	t.r.mu.Unlock()
	return t.next.RoundTrip(q)
}

// Needed returns what all requests so far needed, in the words of [Granted].
func (r *Recorder) Needed() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return sets.List(r.needed)
}

// needs returns what one request needs.
func (r *Recorder) needs(q *http.Request) ([]string, error) {
	info, err := (&request.RequestInfoFactory{APIPrefixes: sets.NewString("api", "apis"), GrouplessAPIPrefixes: sets.NewString("api")}).NewRequestInfo(q)
	if err != nil {
		return nil, fmt.Errorf("understand request for %s: %w", q.URL.Path, err)
	}
	if !info.IsResourceRequest {
		return nil, nil // discovery, which everybody may
	}
	resource := info.APIGroup + "/" + info.Resource
	if info.Subresource != "" {
		resource += "/" + info.Subresource
	}
	scope := "namespace"
	if info.Namespace != r.Namespace || info.Resource == "events" { // which are wherever the object is
		scope = "cluster"
	}
	verbs := []string{info.Verb}
	if strings.Contains(q.Header.Get("Content-Type"), "apply-patch") {
		verbs = append(verbs, "create") // when there is none
	}
	if info.Verb == "watch" && q.URL.Query().Get("sendInitialEvents") == "true" {
		verbs = append(verbs, "list") // what it stands for, and what is asked of servers that do not know it
	}
	name := ""
	for _, n := range r.Named {
		if n == info.Resource && info.Name != "" && info.Verb != "create" {
			name = " " + info.Name
		}
	}
	var all []string
	for _, verb := range verbs {
		all = append(all, fmt.Sprintf("%s %s %s%s", scope, verb, resource, name))
	}
	return all, nil
}

// Granted returns what permissions grant, a line each: scope ("cluster" or "namespace"), verb, resource and perhaps a name.
// It fails the test for one without a reason.
func Granted(tb interface {
	Helper()
	Errorf(string, ...any)
}, cluster, namespace []permission.Permission) []string {
	tb.Helper()
	all := sets.New[string]()
	for scope, ps := range map[string][]permission.Permission{"cluster": cluster, "namespace": namespace} {
		for _, p := range ps {
			if p.Why == "" {
				tb.Errorf("no reason is given for %v", p.PolicyRule)
			}
			for _, verb := range p.Verbs {
				line := fmt.Sprintf("%s %s %s/%s", scope, verb, p.APIGroups[0], p.Resources[0])
				if len(p.ResourceNames) > 0 {
					line += " " + p.ResourceNames[0]
				}
				all.Insert(line)
			}
		}
	}
	return sets.List(all)
}
