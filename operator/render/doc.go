// Package render turns an EgressGroup into the objects that run its gateways: configuration
// file, ConfigMap, auth key Secret, ServiceAccount and DaemonSet, as apply configurations for
// server-side apply.
//
// It promises to be pure: the same group and options give the same bytes, on every machine and
// in every order of calls. The pod template depends on the operator's options, on the group's
// name and on spec.gateway only; everything else of a group reaches running gateways through
// files (ConfigMap and Secret) or the tailnet's API (tags), so that changing it replaces no pod.
// Tests keep golden files of all of it.
//
// It must never do I/O, look at a clock, or import tailscale.com: the format of the configuration file is
// written out here, and a test compares it with Tailscale's own. It validates nothing that admission does.
package render
