package v1alpha1_test

import (
	"errors"
	"slices"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

func TestMain(m *testing.M) { kubetest.Main(m, kubetest.Options{CRDs: true}) }

// object returns an object of a kind of ours; its spec is YAML.
func object(t *testing.T, kind, name, spec string) *unstructured.Unstructured {
	t.Helper()
	o := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte("spec: "+spec), &o.Object); err != nil {
		t.Fatalf("%v in:\n%s", err, spec)
	}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetName(name)
	if kind == "EgressGateway" {
		o.SetNamespace(metav1.NamespaceDefault)
	}
	return o
}

// dryRun asks the server for o as it would be, and as kubectl does refuses unknown fields. It returns
// what the server has against it, a line for each fault.
func dryRun(t *testing.T, env *kubetest.Env, o *unstructured.Unstructured) []string {
	t.Helper()
	return faults(t, env.Client.Create(env.Context, o, client.DryRunAll, client.FieldValidation(metav1.FieldValidationStrict)))
}

// faults returns what a server said, a line for each fault, in order: the server has none.
func faults(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var status *apierrors.StatusError
	if !errors.As(err, &status) {
		t.Fatal(err)
	}
	details := status.Status().Details
	if details == nil || len(details.Causes) == 0 {
		return []string{status.Status().Message}
	}
	var lines []string
	for _, cause := range details.Causes {
		// Without a field: a remark that other faults may hide behind these.
		if cause.Field != "<nil>" {
			lines = append(lines, cause.Field+": "+cause.Message)
		}
	}
	slices.Sort(lines)
	return lines
}

// text returns a value as YAML with its keys in order, to compare it without regard to Go types.
func text(t *testing.T, value any) string {
	t.Helper()
	out, err := yaml.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
