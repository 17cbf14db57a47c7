package v1alpha1_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// TestSelector reads texts as a LabelSelector of ours and as Kubernetes' own: they select the same, or both fail.
func TestSelector(t *testing.T) {
	for text, want := range map[string]string{
		`null`:                     "",
		`{}`:                       "",
		`{matchLabels: {}}`:        "",
		`{matchLabels: {a: b}}`:    "a=b",
		`{matchExpressions: null}`: "",
		`{matchLabels: {a: b, x.io/c: ""}, matchExpressions: [{key: d, operator: In, values: [e, f]}]}`:                                          "a=b,d in (e,f),x.io/c=",
		`{matchExpressions: [{key: a, operator: NotIn, values: [b]}, {key: c, operator: Exists}, {key: d, operator: DoesNotExist, values: []}]}`: "a notin (b),c,!d",
		`{matchExpressions: [{key: a, operator: In}]}`:                                                                                           "fails",
		`{matchExpressions: [{key: a, operator: Exists, values: [b]}]}`:                                                                          "fails",
		`{matchExpressions: [{key: a, operator: Is, values: [b]}]}`:                                                                              "fails",
		`{matchLabels: {"a b": c}}`:                                        "fails",
		`{matchLabels: {a: "b c"}}`:                                        "fails",
		`{matchExpressions: [{key: a, operator: NotIn, values: ["b c"]}]}`: "fails",
	} {
		var ours v1alpha1.LabelSelector
		var theirs metav1.LabelSelector
		for _, s := range []any{&ours, &theirs} {
			if err := yaml.UnmarshalStrict([]byte(text), s); err != nil {
				t.Fatalf("%s: %v", text, err)
			}
		}
		got, wantLib := selected(ours.Selector()), selected(metav1.LabelSelectorAsSelector(&theirs))
		if got != want || wantLib != want {
			t.Errorf("%s selects %q, metav1.LabelSelector %q, want %q", text, got, wantLib, want)
		}
		back, err := yaml.Marshal(ours)
		if err != nil {
			t.Fatal(err)
		}
		wantBack, err := yaml.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(wantBack), string(back)); diff != "" {
			t.Errorf("%s written again (-metav1.LabelSelector +ours):\n%s", text, diff)
		}
	}
	var missing *v1alpha1.LabelSelector
	if got := selected(missing.Selector()); got != "" {
		t.Errorf("no selector selects %q, want everything", got)
	}
}

func selected(s labels.Selector, err error) string {
	if err != nil {
		return "fails"
	}
	return s.String()
}
