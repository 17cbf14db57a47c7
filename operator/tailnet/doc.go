// Package tailnet speaks to the Tailscale API for the operator: it mints and revokes auth keys, and
// deletes and tags devices, with the credentials of an OAuth client.
//
// It promises that every call ends: each HTTP request is bounded in time, and requests leave at a bounded
// rate. What goes wrong is always an [*Error], whose reason is one word and whose text is a
// sentence that says what to do. Deleting what is absent succeeds. Nothing is tried again but one request
// whose access token had ended; when to try again is the caller's to know. No secret is in an error, and none shows however a
// value of this package is printed or logged.
//
// It must never look a device up by name: two clusters may share a tailnet. The API is described
// at https://tailscale.com/api.
package tailnet
