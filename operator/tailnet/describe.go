package tailnet

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxDescription is how long Tailscale lets a key's description be; it may have letters, digits, hyphens and
// spaces (https://tailscale.com/api#tag/keys).
const maxDescription = 50

// KeyDescription returns a description of the key of a group, for people who look at the admin console: which
// cluster and which group. It is within what Tailscale allows whatever the names are; what
// had to be cut ends in a hash of the whole.
func KeyDescription(cluster, group string) string {
	const clusterPart = 8 // as much of a UID as tells apart the clusters of a tailnet
	d := "tailgate " + plain(cluster)[:min(len(plain(cluster)), clusterPart)] + " " + plain(group)
	if len(d) <= maxDescription {
		return d
	}
	sum := sha256.Sum256([]byte(group))
	hash := "-" + hex.EncodeToString(sum[:])[:8]
	return strings.TrimRight(d[:maxDescription-len(hash)], "- ") + hash
}

// plain returns s with hyphens for all that a description must not have.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, s)
}
