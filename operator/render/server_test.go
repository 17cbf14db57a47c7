package render_test

import (
	"encoding/json"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m, kubetest.Options{CRDs: true}) }

// TestServerTakesAll has a real API server judge everything that is rendered, by server-side apply, which takes
// no unknown field, and finds that applying it again changes nothing.
func TestServerTakesAll(t *testing.T) {
	env := kubetest.Shared(t)
	o := options
	o.Namespace = env.Namespace()
	apply := func(u *unstructured.Unstructured) string {
		t.Helper()
		u = u.DeepCopy()
		if err := env.Client.Apply(env.Context, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner("tailgate-operator")); err != nil {
			t.Errorf("%s %.30s: %v", u.GetKind(), u.GetName(), err)
		}
		return u.GetResourceVersion()
	}
	for _, name := range []string{"payments", "pay.ments", longName} {
		g := group(name)
		if err := env.Client.Create(env.Context, g); err != nil {
			t.Fatal(err)
		}
		for _, object := range objects(t, g, o) {
			u := &unstructured.Unstructured{}
			if err := json.Unmarshal([]byte(asJSON(t, object)), u); err != nil {
				t.Fatal(err)
			}
			if first, again := apply(u), apply(u); first != again {
				t.Errorf("%s of %.30s changes when it is applied again", u.GetKind(), name)
			}
		}
	}
}
