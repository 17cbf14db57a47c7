package rbac

import (
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

// requestInfo is the API server's own reading of a request (see its NewRequestInfoResolver).
var requestInfo = request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

// Recorder notes what permissions a client's requests need. Its zero value is ready, and it may be used by several
// goroutines. Discovery and health are not noted: everybody who is logged in may read them.
//
// Two permissions cannot be seen in requests and are for the caller to add to what was used: update on
// a resource's finalizers, which admission asks for where an owner reference blocks deletion, and what the operator
// does only where something fails.
type Recorder struct {
	mu   sync.Mutex
	used map[Permission]bool
}

// Wrap notes the requests that go through next; it fits rest.Config.Wrap.
func (r *Recorder) Wrap(next http.RoundTripper) http.RoundTripper {
	return roundTripper(func(req *http.Request) (*http.Response, error) {
		resp, err := next.RoundTrip(req)
		if info, ierr := requestInfo.NewRequestInfo(req); ierr == nil && info.IsResourceRequest {
			r.note(info, info.Verb)
			// Server-side apply of what is not there creates it, for which the server asks, too.
			apply := strings.HasPrefix(req.Header.Get("Content-Type"), string(types.ApplyPatchType))
			if err == nil && apply && resp.StatusCode == http.StatusCreated {
				r.note(info, "create")
			}
			// A watch that begins with what is there stands for a list, which servers that do not know it are asked for.
			if info.Verb == "watch" && req.URL.Query().Get("sendInitialEvents") == "true" {
				r.note(info, "list")
			}
		}
		return resp, err
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func (r *Recorder) note(info *request.RequestInfo, verb string) {
	p := Permission{Verb: verb, Group: info.APIGroup, Resource: info.Resource, Namespace: info.Namespace, Name: info.Name}
	if p.Resource == "namespaces" {
		p.Namespace = "" // the server says that a namespace is in itself
	}
	if info.Subresource != "" {
		p.Resource += "/" + info.Subresource
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.used == nil {
		r.used = map[Permission]bool{}
	}
	r.used[p] = true
}

// Used returns what was needed so far, sorted, each once.
func (r *Recorder) Used() []Permission {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.SortedFunc(maps.Keys(r.used), compare)
}
