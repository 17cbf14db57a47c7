package tailnet

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	tsapi "tailscale.com/client/tailscale/v2"
)

// MaxLifetime is how long an auth key can last at most.
const MaxLifetime = 90 * 24 * time.Hour

// KeyRequest says what auth key to mint.
type KeyRequest struct {
	// Tags become those of every device that logs in with the key; one at least.
	Tags []string
	// Lifetime is how long it can be used, in whole seconds, at most [MaxLifetime].
	Lifetime time.Duration
	// Description is for people who look at the admin console; see [KeyDescription].
	Description string
}

// Key is an auth key as minted. However it is printed, logged or encoded, the key does not show.
type Key struct {
	// ID names the key.
	ID string
	// Key is what devices log in with.
	Key string
	// Created and Expires bound its life, by the API's clock, in whole seconds.
	Created, Expires time.Time
}

// String returns the key's ID.
func (k Key) String() string { return "auth key " + k.ID }

// GoString is [Key.String], so that %#v shows no secret either.
func (k Key) GoString() string { return k.String() }

// LogValue is what slog prints.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID) }

// MarshalJSON encodes what [Key.String] returns.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(k.String()) }

// MintKey makes an auth key that is preauthorized and reusable, for devices that stay when
// they are offline. When the answer is lost the key may exist all the same, until it expires.
func (c *Client) MintKey(ctx context.Context, r KeyRequest) (Key, error) {
	op := operation{name: "mint_key", verb: "mint an auth key", scope: "auth_keys", tags: tidy(r.Tags), inTailnet: true}
	switch {
	case len(op.tags) == 0:
		return Key{}, rejected(op, "a key needs a tag, because a key of an OAuth client belongs to no user")
	case r.Lifetime < time.Second || r.Lifetime > MaxLifetime:
		return Key{}, rejected(op, "a key lasts from a second to 90 days, not "+r.Lifetime.String())
	}
	req := tsapi.CreateKeyRequest{ExpirySeconds: int64(r.Lifetime / time.Second), Description: r.Description}
	create := &req.Capabilities.Devices.Create
	create.Reusable, create.Preauthorized, create.Tags = true, true, op.tags
	var made *tsapi.Key
	if err := c.call(ctx, op, func(ctx context.Context) (err error) {
		made, err = c.api.Keys().CreateAuthKey(ctx, req)
		return err
	}); err != nil {
		return Key{}, err
	}
	if made.Key == "" || made.ID == "" || made.Expires.IsZero() {
		return Key{}, badResponse(op, http.StatusOK, "it lacks the key, its ID or its end")
	}
	return Key{ID: made.ID, Key: made.Key, Created: made.Created.UTC(), Expires: made.Expires.UTC()}, nil
}

// RevokeKey ends the auth key with that ID; one that is absent or ended already is no error. Devices that it
// logged in stay.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	op := operation{name: "revoke_key", verb: "revoke auth key " + id, scope: "auth_keys"}
	if !validID(id) {
		return rejected(op, "that is no ID of a key")
	}
	err := c.call(ctx, op, func(ctx context.Context) error { return c.api.Keys().Delete(ctx, id) })
	if !isNotFound(err) {
		return err
	}
	// Which of the two in /tailnet/{tailnet}/keys/{id} is not there? The API answers 404 for both.
	op.name, op.inTailnet = "list_keys", true
	return c.call(ctx, op, func(ctx context.Context) error {
		_, err := c.api.Keys().List(ctx, false)
		return err
	})
}

// DeviceTags returns the tags of the device with that ID (StableNodeID), sorted; a device of a user has none. One that is
// absent is an error with reason [NotFound].
func (c *Client) DeviceTags(ctx context.Context, id string) ([]string, error) {
	op := operation{name: "get_device", verb: "look at device " + id, scope: "devices:core"}
	if !validID(id) {
		return nil, rejected(op, "that is no ID of a device")
	}
	var device *tsapi.Device
	if err := c.call(ctx, op, func(ctx context.Context) (err error) {
		device, err = c.api.Devices().Get(ctx, id)
		return err
	}); err != nil {
		return nil, err
	}
	// The API has two IDs for a device and takes either.
	if device.NodeID != id && device.ID != id {
		return nil, badResponse(op, http.StatusOK, "it is about another device")
	}
	return tidy(device.Tags), nil
}

// DeleteDevice removes the device with that ID (StableNodeID) from its tailnet; one that is absent is no error.
func (c *Client) DeleteDevice(ctx context.Context, id string) error {
	op := operation{name: "delete_device", verb: "delete device " + id, scope: "devices:core"}
	if !validID(id) {
		return rejected(op, "that is no ID of a device")
	}
	err := c.call(ctx, op, func(ctx context.Context) error { return c.api.Devices().Delete(ctx, id) })
	if isNotFound(err) {
		return nil
	}
	return err
}

// SetTags replaces the tags of the device with that ID; one at least. The device keeps its
// connections, its keys and its addresses. One that is absent is an error with reason [NotFound].
func (c *Client) SetTags(ctx context.Context, deviceID string, tags []string) error {
	op := operation{name: "set_tags", verb: "set the tags of device " + deviceID, scope: "devices:core", tags: tidy(tags)}
	switch {
	case !validID(deviceID):
		return rejected(op, "that is no ID of a device")
	case len(op.tags) == 0:
		return rejected(op, "a device that a tag owns needs one")
	}
	return c.call(ctx, op, func(ctx context.Context) error { return c.api.Devices().SetTags(ctx, deviceID, op.tags) })
}

// tidy returns tags sorted, each once.
func tidy(tags []string) []string { return slices.Compact(slices.Sorted(slices.Values(tags))) }

// validID keeps everything out of a URL's path that could lead elsewhere: IDs come from objects
// of the cluster.
func validID(id string) bool {
	return id != "" && len(id) <= 128 && !strings.ContainsFunc(id, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

func isNotFound(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Reason == NotFound
}
