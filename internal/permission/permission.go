package permission

import rbacv1 "k8s.io/api/rbac/v1"

// Permission is a rule of a role and the reason for it. Make it with [New].
type Permission struct {
	rbacv1.PolicyRule
	// Why is a phrase for a comment.
	Why string
}

// New returns the permission for verbs on a resource, which is written with its subresource, as in nodes/status. The
// group "" is the core API.
func New(why, group, resource string, verbs ...string) Permission {
	return Permission{rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}, why}
}

// Only returns p for the object of one name. The API server takes list and watch for such only with a field
// selector of metadata.name (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-resources).
func (p Permission) Only(name string) Permission {
	p.ResourceNames = []string{name}
	return p
}

// Rules returns the rules without the reasons, for a role.
func Rules(permissions []Permission) []rbacv1.PolicyRule {
	rules := make([]rbacv1.PolicyRule, len(permissions))
	for i, p := range permissions {
		rules[i] = p.PolicyRule
	}
	return rules
}
