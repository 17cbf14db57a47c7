package v1alpha1

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// A label value and the name part of a label key have at most 63 characters; a DaemonSet's name becomes a
// prefix of its pods' names and leaves room for a suffix there, of which Kubernetes cuts the prefix at 58.
const (
	maxLabel = 63
	maxName  = 47
	hashLen  = 10 // hex digits: 40 bits tell apart a million names with odds of one in two
)

// GroupKey returns what stands for a group in labels: its name if that is short enough, else the
// beginning of it, a dash and a hash of the whole. At most 63 characters, and another for every other group.
func GroupKey(group string) string { return shorten(group, maxLabel) }

// GroupObjectName returns the name of what is made for a group in tailgate's namespace (DaemonSet,
// ConfigMap, Secret, ServiceAccount): "gw-" and the group's name with dots as dashes, cut and hashed as
// [GroupKey] when it is long or has dots. A DNS label of at most 50 characters, and another for every other group.
func GroupObjectName(group string) string {
	if strings.Contains(group, ".") {
		// "a.b" and "a-b" are two groups.
		return "gw-" + withHash(strings.ReplaceAll(group, ".", "-"), group, maxName)
	}
	return "gw-" + shorten(group, maxName)
}

// GatewayName returns the name of the EgressGateway of a group on a node. It is a DNS label of at most 63
// characters, and another for every other pair.
func GatewayName(group, node string) string {
	g := strings.ReplaceAll(group, ".", "-")
	n := strings.ReplaceAll(node, ".", "-")
	return withHash(cut(g, 25)+"-"+cut(n, 26), group+"/"+node, maxLabel)
}

// NodeLabel returns the key of the label that sends a group's gateways to a node.
func NodeLabel(group string) string { return NodeLabelPrefix + GroupKey(group) }

// DefaultTag returns the tailnet tag of a group that names none. Tailscale allows
// letters, digits and dashes.
func DefaultTag(group string) string { return "tag:egress-" + strings.ReplaceAll(group, ".", "-") }

func shorten(name string, limit int) string {
	if len(name) <= limit && !hashed(name) {
		return name
	}
	return withHash(name, name, limit)
}

// hashed says whether a name looks like one that withHash made. Such a name is hashed, too: else somebody
// could give a group the name that another has here.
func hashed(name string) bool {
	at := len(name) - hashLen - 1
	return at >= 0 && name[at] == '-' && strings.Trim(name[at+1:], "0123456789abcdef") == ""
}

// withHash returns text, cut so that all has at most limit characters, and a hash of what it stands for.
func withHash(text, of string, limit int) string {
	sum := sha256.Sum256([]byte(of))
	return cut(text, limit-hashLen-1) + "-" + hex.EncodeToString(sum[:])[:hashLen]
}

// cut returns the first limit characters of s without what may not end a label.
func cut(s string, limit int) string { return strings.TrimRight(s[:min(len(s), limit)], "-.") }
