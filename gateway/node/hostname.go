package node

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	"tailscale.com/ipn"
)

// maxLabel is the length of the longest DNS label (RFC 1035, section 2.3.4).
const maxLabel = 63

// HostLabel returns name as a DNS label: lower case, hyphens for what no label has, none at the ends. Of a name
// that is too long the beginning stays, and a hash of the whole tells it from others that begin alike. "" when
// nothing is left.
func HostLabel(name string) string {
	label := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z' || r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '-'
	}, name), "-")
	if len(label) <= maxLabel {
		return label
	}
	sum := sha256.Sum256([]byte(name))
	hash := "-" + hex.EncodeToString(sum[:])[:8]
	return strings.TrimRight(label[:maxLabel-len(hash)], "-") + hash
}

// addHostname puts a name into edits that name none.
func addHostname(edits *ipn.MaskedPrefs, name string) {
	if edits.Hostname == "" {
		edits.Hostname = HostLabel(name)
	}
}
