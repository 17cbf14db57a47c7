package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

const (
	// revokeGrace is how long a key that was replaced stays good: kubelets bring the new one to the
	// gateways within a minute or two, and a gateway may be logging in meanwhile.
	revokeGrace = 10 * time.Minute
	// refusalGrace is how long a new key gets until a refusal counts as its own: until kubelets brought it,
	// gateways are refused the old one. It also bounds how fast keys are minted when all are refused.
	refusalGrace = 2 * time.Minute
)

// keyWant is what a group wants of its auth key.
type keyWant struct {
	tags    []string  // sorted
	client  string    // account.client
	refused time.Time // the last time that a gateway was refused a key; zero: never
}

// due returns why the key has to be replaced, "" when it has not, and then when to look again.
func due(key render.AuthKey, want keyWant, now time.Time) (reason string, wait time.Duration) {
	half := key.Minted.Add(key.Expires.Sub(key.Minted) / 2)
	switch {
	case key.Key == "" || key.ID == "" || key.Minted.IsZero() || key.Expires.IsZero():
		return ReasonKeyMissing, 0
	case !slices.Equal(key.Tags, want.tags):
		return ReasonTagsChanged, 0
	case key.Client != want.client:
		return ReasonClientReplaced, 0
	case !now.Before(half):
		return ReasonKeyAged, 0
	}
	wait = half.Sub(now)
	if want.refused.After(key.Minted) {
		settled := key.Minted.Add(refusalGrace)
		if !now.Before(settled) {
			return ReasonKeyRefused, 0
		}
		wait = min(wait, settled.Sub(now))
	}
	return "", wait
}

// replace returns next in place of old, which is to be revoked after the grace, or at once if it is no good.
func replace(old, next render.AuthKey, reason string, now time.Time) render.AuthKey {
	next.Retired, next.Former = slices.Clone(old.Retired), former(old, next.Tags)
	if old.ID == "" {
		return next
	}
	revoke := now.Add(revokeGrace)
	if reason == ReasonKeyRefused || reason == ReasonKeyMissing {
		revoke = now
	}
	next.Retired = append(next.Retired, render.RetiredKey{ID: old.ID, Revoke: revoke})
	return next
}

// former returns the tags that the group's keys gave until old, but for those that the next one gives.
func former(old render.AuthKey, next []string) []string {
	given := slices.Concat(old.Former, old.Tags)
	slices.Sort(given)
	return slices.DeleteFunc(slices.Compact(given), func(tag string) bool { return slices.Contains(next, tag) })
}

// authKey mints, renews and revokes.
func (r *groupRun) authKey(ctx context.Context) (time.Duration, error) {
	account, err := r.creds.get(ctx)
	if err != nil {
		r.set(v1alpha1.ConditionAuthKeyReady, metav1.ConditionFalse, reasonOf(err), "%s", err)
		var wrong *credentialsError
		if errors.As(err, &wrong) {
			return 0, nil // the Secret is watched
		}
		return 0, err
	}
	want := keyWant{tags: render.Tags(r.group), client: account.client, refused: r.refused()}
	key, err := r.readKey(ctx, r.client, r.group.Name)
	if err != nil {
		return 0, err
	}
	reason, wait := due(key, want, r.Clock.Now())
	var mintErr error
	fresh := false // key is what was written just now
	if reason != "" {
		key, fresh, reason, mintErr = r.renew(ctx, account, want)
		_, wait = due(key, want, r.Clock.Now())
	}
	if key.Key != "" || mintErr != nil {
		r.setKeyCondition(key, reason, mintErr)
	}
	retired := len(key.Retired)
	key, revoke, err := r.revokeDue(ctx, account, key)
	err = errors.Join(mintErr, err)
	if key.ID != "" && (!fresh || len(key.Retired) != retired) {
		// Also when there is nothing new: somebody may have changed the Secret.
		err = errors.Join(err, r.writeKey(ctx, key))
	}
	return sooner(wait, revoke), err
}

// readKey returns a group's key, zero without a Secret.
func (s *shared) readKey(ctx context.Context, from client.Reader, group string) (render.AuthKey, error) {
	secret := &corev1.Secret{}
	name := client.ObjectKey{Namespace: s.Render.Namespace, Name: v1alpha1.GroupObjectName(group)}
	if err := from.Get(ctx, name, secret); err != nil {
		if apierrors.IsNotFound(err) {
			return render.AuthKey{}, nil
		}
		return render.AuthKey{}, fmt.Errorf("read the auth key of EgressGroup %s: %w", group, err)
	}
	key, err := render.ParseAuthKeySecret(secret)
	if err != nil {
		// Gateways may have the key all the same, so it stays until there is another.
		log.FromContext(ctx).Info("the auth key's Secret was changed by somebody else", "cause", err.Error())
		key.Minted = time.Time{}
	}
	return key, nil
}

// refused returns when a gateway was last refused a key.
func (r *groupRun) refused() (last time.Time) {
	for i := range r.gateways {
		c := meta.FindStatusCondition(r.gateways[i].Status.Conditions, v1alpha1.ConditionAuthKeyAccepted)
		if c != nil && c.Status == metav1.ConditionFalse && !deleting(&r.gateways[i]) && c.LastTransitionTime.After(last) {
			last = c.LastTransitionTime.Time
		}
	}
	return last
}

// renew mints a key and writes it. It returns the key that gateways have now, and why that is not
// the one wanted: "" after success.
func (r *groupRun) renew(ctx context.Context, account account, want keyWant) (_ render.AuthKey, minted bool, reason string, err error) {
	// The cache may not show yet what was minted a moment ago.
	old, err := r.readKey(ctx, r.live, r.group.Name)
	if err != nil {
		return old, false, ReasonApplyFailed, err
	}
	now := r.Clock.Now()
	reason, _ = due(old, want, now)
	if reason == "" {
		return old, false, "", nil
	}
	fresh, err := account.MintKey(ctx, tailnet.KeyRequest{
		Tags: want.tags, Lifetime: r.KeyLifetime, Description: tailnet.KeyDescription(r.Cluster, r.group.Name),
	})
	if err != nil {
		return old, false, reason, err
	}
	// By our own clock: what counts is how long the key lasts from now.
	next := replace(old, render.AuthKey{
		Key: fresh.Key, ID: fresh.ID, Tags: want.tags, Client: want.client,
		Minted: now, Expires: now.Add(fresh.Expires.Sub(fresh.Created)),
	}, reason, now)
	if err := r.writeKey(ctx, next); err != nil {
		return old, false, reason, errors.Join(err, r.discard(ctx, account, fresh.ID))
	}
	r.Metrics.keyMinted(reason)
	r.event(r.group, corev1.EventTypeNormal, ReasonKeyMinted, "Mint", "auth key %s is minted, because of %s", next.ID, reason)
	return next, true, "", nil
}

func (r *groupRun) writeKey(ctx context.Context, key render.AuthKey) error {
	err := apply(ctx, r.shared, render.AuthKeySecret(r.group, r.Render, key), &corev1.Secret{})
	return err
}

// discard revokes a key that could not be written, so that none is left that nobody knows of. Should the write
// have happened although its answer was lost, the key is in use.
func (r *groupRun) discard(ctx context.Context, account account, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	written, err := r.readKey(ctx, r.live, r.group.Name)
	if err != nil || written.ID == id {
		return err // unknown: the key expires by itself
	}
	return account.RevokeKey(ctx, id)
}

// setKeyCondition says how things are with the key that gateways have. reason is why it should be
// another, and err why it is not.
func (r *groupRun) setKeyCondition(key render.AuthKey, reason string, err error) {
	const kind = v1alpha1.ConditionAuthKeyReady
	expires := key.Expires.UTC().Format(time.RFC3339)
	good := key.Key != "" && r.Clock.Now().Before(key.Expires)
	switch {
	case err == nil:
		r.set(kind, metav1.ConditionTrue, ReasonKeyValid, "auth key %s is good until %s and will be renewed before", key.ID, expires)
	case good && (reason == ReasonKeyAged || reason == ReasonClientReplaced):
		r.set(kind, metav1.ConditionTrue, ReasonRenewalDelayed, "auth key %s is good until %s, but there is no new one: %s", key.ID, expires, err)
	case good && reason == ReasonTagsChanged:
		r.set(kind, metav1.ConditionFalse, reasonOf(err), "gateways still get the tags %s: %s", strings.Join(key.Tags, ", "), err)
	default:
		r.set(kind, metav1.ConditionFalse, reasonOf(err), "gateways that are logged in go on, new ones cannot log in: %s", err)
	}
}

// revokeDue revokes the retired keys whose time has come. It returns the key without these, and when the next
// one's time comes.
func (r *groupRun) revokeDue(ctx context.Context, account account, key render.AuthKey) (render.AuthKey, time.Duration, error) {
	var wait time.Duration
	var keep []render.RetiredKey
	var errs error
	now := r.Clock.Now()
	for _, old := range key.Retired {
		if left := old.Revoke.Sub(now); left > 0 {
			wait = sooner(wait, left)
			keep = append(keep, old)
			continue
		}
		if err := account.RevokeKey(ctx, old.ID); err != nil {
			errs = errors.Join(errs, fmt.Errorf("revoke auth key %s of EgressGroup %s: %w", old.ID, r.group.Name, err))
			keep = append(keep, old)
			continue
		}
		r.Metrics.keyRevoked()
	}
	key.Retired = keep
	return key, wait, errs
}
