package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
)

// Annotations of the auth key Secret: all that an operator must know of the keys of a group when it
// becomes the leader, and never a key itself.
const (
	// AnnotationKeyID is the key's ID in the tailnet's API.
	AnnotationKeyID = "tailscale.rajsingh.info/auth-key-id"
	// AnnotationKeyMinted and AnnotationKeyExpires bound the key's life, as RFC 3339 in UTC.
	AnnotationKeyMinted  = "tailscale.rajsingh.info/auth-key-minted"
	AnnotationKeyExpires = "tailscale.rajsingh.info/auth-key-expires"
	// AnnotationKeyTags are the tags that the key gives, separated by commas.
	AnnotationKeyTags = "tailscale.rajsingh.info/auth-key-tags"
	// AnnotationKeyTagsFormer are tags that only earlier keys gave, in the same form. Devices may still have them.
	AnnotationKeyTagsFormer = "tailscale.rajsingh.info/auth-key-tags-former"
	// AnnotationKeyClient says which credentials minted the key.
	AnnotationKeyClient = "tailscale.rajsingh.info/auth-key-client"
	// AnnotationKeysRetired is a JSON list of the group's earlier keys that are not revoked yet.
	AnnotationKeysRetired = "tailscale.rajsingh.info/auth-keys-retired"
)

// AuthKey is a group's auth key and what is known of it. However it is printed or logged, the key
// does not show. Times have whole seconds.
type AuthKey struct {
	// Key is what gateways log in with; "" while there is none.
	Key string
	// ID is the key's name in the tailnet's API.
	ID string
	// Minted and Expires bound its life.
	Minted, Expires time.Time
	// Tags are those that a device gets by it; sorted.
	Tags []string
	// Former are tags that devices got by earlier keys of the group and not by this one; sorted.
	Former []string
	// Client says which credentials minted it; opaque here, no secret.
	Client string
	// Retired are the group's earlier keys that are still to be revoked, oldest first.
	Retired []RetiredKey
	// Secret is the UID of the Secret that it was read from; "" for a key that was minted since.
	Secret types.UID
}

// RetiredKey is a key that was replaced.
type RetiredKey struct {
	// ID is the key's name in the tailnet's API.
	ID string `json:"id"`
	// Revoke is when to revoke it: late enough that no gateway is still logging in with it.
	Revoke time.Time `json:"revoke"`
}

// String returns the key's ID.
func (k AuthKey) String() string { return "auth key " + k.ID }

// GoString is [AuthKey.String], so that %#v shows no secret either.
func (k AuthKey) GoString() string { return k.String() }

// LogValue is what slog prints.
func (k AuthKey) LogValue() slog.Value { return slog.StringValue(k.ID) }

// MarshalJSON encodes what [AuthKey.String] returns.
func (k AuthKey) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// AuthKeySecret returns the Secret that holds a group's auth key, with its bookkeeping in annotations.
// [ParseAuthKeySecret] reads it back. A key that was read from a Secret fits that one only: applied when it was deleted meanwhile,
// it is a conflict, since whoever deletes the Secret wants another key.
func AuthKeySecret(g *v1alpha1.EgressGroup, o Options, k AuthKey) *corev1ac.SecretApplyConfiguration {
	s := corev1ac.Secret(v1alpha1.GroupObjectName(g.Name), o.Namespace).
		WithLabels(Labels(g.Name)).
		WithAnnotations(annotations(g, k.annotations())).
		WithOwnerReferences(owner(g)).
		WithType(corev1.SecretTypeOpaque)
	if k.Secret != "" {
		s.WithUID(k.Secret)
	}
	if k.Key != "" {
		s.WithData(map[string][]byte{AuthKeyKey: []byte(k.Key)})
	}
	return s
}

func (k AuthKey) annotations() map[string]string {
	a := map[string]string{}
	put := func(name, value string) {
		if value != "" {
			a[name] = value
		}
	}
	put(AnnotationKeyID, k.ID)
	put(AnnotationKeyMinted, stamp(k.Minted))
	put(AnnotationKeyExpires, stamp(k.Expires))
	put(AnnotationKeyTags, strings.Join(k.Tags, ","))
	put(AnnotationKeyTagsFormer, strings.Join(k.Former, ","))
	put(AnnotationKeyClient, k.Client)
	if len(k.Retired) > 0 {
		retired := make([]RetiredKey, len(k.Retired))
		for i, r := range k.Retired {
			retired[i] = RetiredKey{ID: r.ID, Revoke: r.Revoke.UTC().Truncate(time.Second)}
		}
		// Strings and times of four-digit years cannot fail to encode.
		b, _ := json.Marshal(retired)
		a[AnnotationKeysRetired] = string(b)
	}
	return a
}

// ParseAuthKeySecret returns the auth key that a Secret of [AuthKeySecret] holds. When something is missing
// or unreadable the error says so in a sentence; the rest is returned all the same, so that keys that
// can be read can be revoked. A Secret without a key but otherwise in order is no error.
func ParseAuthKeySecret(s *corev1.Secret) (AuthKey, error) {
	k := AuthKey{
		Key: string(s.Data[AuthKeyKey]), ID: s.Annotations[AnnotationKeyID], Client: s.Annotations[AnnotationKeyClient], Secret: s.UID,
	}
	var errs []error
	note := func(err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("Secret %s/%s: %w", s.Namespace, s.Name, err)) //nolint:staticcheck // Kubernetes' name of the kind
		}
	}
	var err error
	k.Minted, err = readStamp(s, AnnotationKeyMinted)
	note(err)
	k.Expires, err = readStamp(s, AnnotationKeyExpires)
	note(err)
	k.Tags, k.Former = readTags(s, AnnotationKeyTags), readTags(s, AnnotationKeyTagsFormer)
	if retired := s.Annotations[AnnotationKeysRetired]; retired != "" {
		if err := json.Unmarshal([]byte(retired), &k.Retired); err != nil {
			k.Retired = nil
			note(fmt.Errorf("annotation %s is no list of keys; delete it, and revoke the group's old keys in the tailnet's admin console: %w", AnnotationKeysRetired, err))
		}
	}
	switch complete := k.ID != "" && !k.Minted.IsZero() && !k.Expires.IsZero() && len(k.Tags) > 0; {
	case k.Key != "" && !complete:
		note(errors.New("it holds an auth key but not all annotations that say which; the key has to be replaced"))
	case k.Key == "" && k.ID != "":
		note(fmt.Errorf("auth key %s is gone from it; it has to be replaced", k.ID))
	}
	return k, errors.Join(errs...)
}

// stamp returns t as annotations have it; "" for the zero time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339)
}

func readTags(s *corev1.Secret, name string) []string {
	if s.Annotations[name] == "" {
		return nil
	}
	return strings.Split(s.Annotations[name], ",")
}

func readStamp(s *corev1.Secret, name string) (time.Time, error) {
	v := s.Annotations[name]
	if v == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, v)
	if err != nil {
		return time.Time{}, fmt.Errorf("annotation %s is no time such as 2026-01-02T15:04:05Z; the key has to be replaced: %w", name, err)
	}
	return t.UTC(), nil
}
