package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// Selector picks pods; its two parts are ANDed.
//
// +kubebuilder:validation:XValidation:rule="has(self.namespaceSelector) || has(self.podSelector)",message="selector is empty; write a namespaceSelector, a podSelector or both, or podSelector: {} to select every pod of the cluster"
type Selector struct {
	// namespaceSelector selects namespaces by their labels; the label
	// kubernetes.io/metadata.name is a namespace's name. A missing one selects all
	// namespaces.
	// +optional
	// +structType=atomic
	NamespaceSelector *LabelSelector `json:"namespaceSelector,omitempty"`
	// podSelector selects pods by their labels. A missing one selects all pods.
	// +optional
	// +structType=atomic
	PodSelector *LabelSelector `json:"podSelector,omitempty"`
}

// LabelSelector selects objects by their labels: those that meet all of
// matchLabels and matchExpressions. {} selects all.
//
// It is metav1.LabelSelector in every respect but its limits: the API server
// refuses rules for a type whose lists have none, and with the rules it
// refuses selectors that select nothing because they are wrong.
type LabelSelector struct {
	// matchLabels are labels that the object has, each with this value.
	// +optional
	// +kubebuilder:validation:MaxProperties=32
	// +kubebuilder:validation:XValidation:rule="self.all(k, !format.qualifiedName().validate(k).hasValue())",messageExpression="'these cannot be keys of labels: %s; write at most 63 letters, digits, dashes, underscores and dots, such as app, with a DNS name and a slash before them if need be, such as example.com/app'.format([self.filter(k, format.qualifiedName().validate(k).hasValue())])"
	MatchLabels map[string]LabelValue `json:"matchLabels,omitempty"`
	// matchExpressions are requirements on the object's labels.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MatchExpressions []LabelSelectorRequirement `json:"matchExpressions,omitempty"`
}

// LabelSelectorRequirement is what one label of an object must be like.
//
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['In', 'NotIn']) || (has(self.values) && self.values.size() > 0)",fieldPath=".values",messageExpression="'operator ' + self.operator + ' needs values; write those that label ' + strings.quote(self.key) + (self.operator == 'In' ? ' may have, or operator: Exists for any' : ' must not have, or operator: DoesNotExist for none')"
// +kubebuilder:validation:XValidation:rule="!(self.operator in ['Exists', 'DoesNotExist']) || !has(self.values) || self.values.size() == 0",fieldPath=".values",messageExpression="'operator ' + self.operator + ' takes no values; remove them, or write operator: ' + (self.operator == 'Exists' ? 'In' : 'NotIn')"
type LabelSelectorRequirement struct {
	// key is the key of the label.
	// +required
	// +kubebuilder:validation:MaxLength=317
	// +kubebuilder:validation:XValidation:rule="!format.qualifiedName().validate(self).hasValue()",messageExpression="strings.quote(self) + ' cannot be the key of a label; write at most 63 letters, digits, dashes, underscores and dots, such as app, with a DNS name and a slash before them if need be, such as example.com/app'"
	Key string `json:"key"`
	// operator relates the label to the values. In: its value is one of them.
	// NotIn: its value is none of them, or there is no such label. Exists: there
	// is such a label. DoesNotExist: there is none.
	// +required
	// +kubebuilder:validation:Enum=In;NotIn;Exists;DoesNotExist
	Operator metav1.LabelSelectorOperator `json:"operator"`
	// values are what In and NotIn look for; Exists and DoesNotExist have none.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=256
	Values []LabelValue `json:"values,omitempty"`
}

// LabelValue is the value of a label.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule="!format.labelValue().validate(self).hasValue()",messageExpression="strings.quote(self) + ' cannot be the value of a label; write letters, digits, dashes, underscores and dots, with a letter or a digit at both ends'"
type LabelValue string

// Selector returns what s selects; nil selects all, as it does in a
// [Selector]. It fails for what admission refuses.
func (s *LabelSelector) Selector() (labels.Selector, error) {
	if s == nil {
		return labels.Everything(), nil
	}
	m := &metav1.LabelSelector{MatchLabels: make(map[string]string, len(s.MatchLabels))}
	for key, value := range s.MatchLabels {
		m.MatchLabels[key] = string(value)
	}
	for _, r := range s.MatchExpressions {
		values := make([]string, len(r.Values))
		for i, value := range r.Values {
			values[i] = string(value)
		}
		m.MatchExpressions = append(m.MatchExpressions,
			metav1.LabelSelectorRequirement{Key: r.Key, Operator: r.Operator, Values: values})
	}
	return metav1.LabelSelectorAsSelector(m)
}
