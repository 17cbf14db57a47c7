package controller

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// Which device is a gateway's is known from its EgressGateway, which the agent of a node writes. The OAuth client may
// delete every device of the tailnet, so whoever takes over one node could have any of them deleted: somebody's
// database server, by its ID. So each device is looked at first, and touched only if all of its tags are such as
// the group's gateways were given. What was given is not asked of the agent either: the Secret of the group's key says it, which
// only the operator writes, of this key and of those before it; and a device gets other tags only once there is a
// key that gives these ([gateways.setTags]). The default tag counts always, also when the Secret is gone: it follows from the
// group's name, and it is nobody else's.
//
// So a device whose group changed its tags, a moment ago or long since, is known, and so is one whose
// group or node is gone. A device that a person gave another tag is that person's from then on.

// foreignError is why a device is not touched.
type foreignError struct{ device, tags, given string }

func (e *foreignError) Error() string {
	return fmt.Sprintf("device %s is left alone: it has the tags [%s], and the group gives its gateways [%s]", e.device, e.tags, e.given)
}

// check returns a *foreignError if a device is none of the group's.
func (r *gateways) check(ctx context.Context, api Tailnet, device, group string) error {
	tags, err := api.DeviceTags(ctx, device)
	if err != nil {
		return err
	}
	given, err := r.given(ctx, group)
	if err != nil {
		return err
	}
	foreign := func(tag string) bool { return !slices.Contains(given, tag) }
	if len(tags) == 0 || slices.ContainsFunc(tags, foreign) {
		return &foreignError{device: device, tags: strings.Join(tags, " "), given: strings.Join(given, " ")}
	}
	return nil
}

// given returns the tags that gateways of a group have or had.
func (r *gateways) given(ctx context.Context, group string) ([]string, error) {
	key, err := r.readKey(ctx, r.client, group)
	if err == nil && key.ID == "" {
		// The cache may not show yet what was written last.
		key, err = r.readKey(ctx, r.live, group)
	}
	return slices.Concat(key.Tags, key.Former, []string{v1alpha1.DefaultTag(group)}), err
}

// deleteDevice deletes the gateway's device, by its ID.
func (r *gateways) deleteDevice(ctx context.Context, gw *v1alpha1.EgressGateway) error {
	id := gw.Status.DeviceID
	if id == "" {
		return nil // it never logged in
	}
	account, err := r.creds.get(ctx)
	if err != nil {
		return err
	}
	err = r.check(ctx, account, id, gw.Spec.Group)
	var foreign *foreignError
	if errors.As(err, &foreign) {
		r.refuse(ctx, gw, foreign, "delete it in the tailnet's admin console")
		return nil
	}
	if err == nil {
		err = account.DeleteDevice(ctx, id)
	}
	if err != nil && !isAbsent(err) {
		return err
	}
	r.Metrics.device(ReasonDeviceDeleted)
	r.event(gw, corev1.EventTypeNormal, ReasonDeviceDeleted, "Delete", "device %s of node %s is deleted from the tailnet", id, gw.Spec.Node)
	return nil
}

// refuse tells that a device is not touched, and what to do if it should be.
func (r *gateways) refuse(ctx context.Context, gw *v1alpha1.EgressGateway, why *foreignError, advice string) {
	log.FromContext(ctx).Error(why, "an EgressGateway names a device that is no gateway of its group", "node", gw.Spec.Node)
	r.Metrics.device(ReasonDeviceForeign)
	r.event(gw, corev1.EventTypeWarning, ReasonDeviceForeign, "Refuse", "%s; if it is the gateway of node %s all the same, %s",
		limit(why.Error(), maxMessage/2), gw.Spec.Node, advice)
}

// isAbsent reports whether the tailnet has no such device.
func isAbsent(err error) bool {
	var api *tailnet.Error
	return errors.As(err, &api) && api.Reason == tailnet.NotFound
}

// setTags gives the device the group's tags. A new key would not: a device keeps the tags that it logged in with.
func (r *gateways) setTags(ctx context.Context, gw *v1alpha1.EgressGateway, group *v1alpha1.EgressGroup) (time.Duration, error) {
	name := client.ObjectKeyFromObject(gw)
	id, want := gw.Status.DeviceID, render.Tags(group)
	have := slices.Sorted(slices.Values(gw.Status.Tags))
	if id == "" || len(have) == 0 || slices.Equal(have, want) {
		r.tagged.forget(name)
		return 0, nil
	}
	what := strings.Join(slices.Concat([]string{id}, have, []string{"to"}, want), " ")
	if wait, known := r.tagged.wait(name, what); known {
		return wait, nil
	}
	key, err := r.readKey(ctx, r.client, group.Name)
	if err != nil || !slices.Equal(key.Tags, want) {
		return 0, err // when there is such a key, its Secret changes
	}
	account, err := r.creds.get(ctx)
	var wrong *credentialsError
	if errors.As(err, &wrong) {
		return 0, nil // the Secret is watched
	}
	if err == nil {
		err = r.check(ctx, account, id, group.Name)
	}
	if err == nil {
		err = account.SetTags(ctx, id, want)
	}
	var foreign *foreignError
	switch {
	case errors.As(err, &foreign):
		r.refuse(ctx, gw, foreign, "give it the group's tags in the tailnet's admin console")
		return r.tagged.note(name, what, 0), nil
	case isAbsent(err):
		return 0, nil // it registers anew, with a key that gives the tags
	case err != nil:
		return 0, fmt.Errorf("tag the device of EgressGateway %s: %w", gw.Name, err)
	}
	r.Metrics.device(ReasonDeviceTagged)
	r.event(gw, corev1.EventTypeNormal, ReasonDeviceTagged, "Tag", "device %s has the tags %s now", id, strings.Join(want, ", "))
	return r.tagged.note(name, what, tagPatience), nil
}
