package rbac

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Permission is one verb on one resource, as a role grants it or a request needs it. The zero value of a field
// is no wildcard but in Name and Namespace.
type Permission struct {
	Verb     string // such as get, list or patch
	Group    string // API group; "" is the core group
	Resource string // plural, with its subresource: pods, nodes/status
	// Namespace is where it holds: "" in a role is every namespace and objects outside of namespaces, in a request one or all
	// of those.
	Namespace string
	// Name is the one object that it holds for: "" in a role is all, in a request none in particular.
	Name string
}

// String returns the permission as a line: "get secrets x in namespace y".
func (p Permission) String() string {
	var b strings.Builder
	b.WriteString(p.Verb + " " + p.Resource)
	if p.Group != "" {
		b.WriteString("." + p.Group)
	}
	if p.Name != "" {
		b.WriteString(" " + p.Name)
	}
	if p.Namespace != "" {
		b.WriteString(" in namespace " + p.Namespace)
	}
	return b.String()
}

func compare(a, b Permission) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Group, b.Group),
		cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Verb, b.Verb), cmp.Compare(a.Name, b.Name))
}

// object is what is read of a manifest: the union of roles and bindings.
type object struct {
	Kind     string
	Metadata struct{ Name, Namespace string }
	Rules    []rbacv1.PolicyRule
	RoleRef  rbacv1.RoleRef
	Subjects []rbacv1.Subject
}

// Rules returns what manifests grant to whom: for each service account, as NAMESPACE/NAME, the permissions of every Role and
// ClusterRole that a binding gives to it, sorted. It is an error when a role is bound by nothing, a binding has no role or
// gives it to something else than service accounts, or a rule has a wildcard or says something else than verbs on resources.
func Rules(manifests []byte) (map[string][]Permission, error) {
	objects, err := decode(manifests)
	if err != nil {
		return nil, err
	}
	granted := map[string][]Permission{}
	var wrong []error
	bound := map[int]bool{}
	for _, o := range objects {
		if o.Kind != "RoleBinding" && o.Kind != "ClusterRoleBinding" {
			continue
		}
		i := slices.IndexFunc(objects, func(r object) bool {
			return r.Kind == o.RoleRef.Kind && r.Metadata.Name == o.RoleRef.Name &&
				(r.Kind == "ClusterRole" || r.Metadata.Namespace == o.Metadata.Namespace)
		})
		if i < 0 || len(o.Subjects) == 0 {
			wrong = append(wrong, fmt.Errorf("%s %s binds nobody, or the %s %s, which is not there", o.Kind, o.Metadata.Name, o.RoleRef.Kind, o.RoleRef.Name))
			continue
		}
		bound[i] = true
		some, err := expandAll(objects[i].Rules, o.Metadata.Namespace)
		if err != nil {
			wrong = append(wrong, fmt.Errorf("%s %s: %w", o.RoleRef.Kind, o.RoleRef.Name, err))
		}
		for _, s := range o.Subjects {
			if s.Kind != rbacv1.ServiceAccountKind {
				wrong = append(wrong, fmt.Errorf("%s %s binds the %s %s, which is no service account", o.Kind, o.Metadata.Name, s.Kind, s.Name))
			}
			account := s.Namespace + "/" + s.Name
			granted[account] = append(granted[account], some...)
		}
	}
	for i, o := range objects {
		if (o.Kind == "Role" || o.Kind == "ClusterRole") && !bound[i] {
			wrong = append(wrong, fmt.Errorf("%s %s is bound by nothing", o.Kind, o.Metadata.Name))
		}
	}
	for account, some := range granted {
		slices.SortFunc(some, compare)
		granted[account] = slices.Compact(some)
	}
	return granted, errors.Join(wrong...)
}

func decode(manifests []byte) ([]object, error) {
	var objects []object
	for d := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(manifests), 4096); ; {
		var o object
		err := d.Decode(&o)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read manifests: %w", err)
		}
		objects = append(objects, o)
	}
}

// expandAll returns the permissions of rules in a namespace; "" is everywhere.
func expandAll(rules []rbacv1.PolicyRule, namespace string) (all []Permission, err error) {
	for _, rule := range rules {
		some, wrong := expand(rule, namespace)
		all, err = append(all, some...), errors.Join(err, wrong)
	}
	return all, err
}

// expand returns those of one rule.
func expand(rule rbacv1.PolicyRule, namespace string) ([]Permission, error) {
	if len(rule.NonResourceURLs) > 0 || len(rule.Verbs)*len(rule.APIGroups)*len(rule.Resources) == 0 {
		return nil, fmt.Errorf("rule %v grants something else than verbs on resources", rule)
	}
	for _, word := range slices.Concat(rule.Verbs, rule.APIGroups, rule.Resources) {
		if strings.Contains(word, "*") {
			return nil, fmt.Errorf("rule %v has a wildcard", rule)
		}
	}
	names := rule.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	var all []Permission
	for _, verb := range rule.Verbs {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					all = append(all, Permission{Verb: verb, Group: group, Resource: resource, Namespace: namespace, Name: name})
				}
			}
		}
	}
	return all, nil
}
