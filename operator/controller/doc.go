// Package controller is what the operator does: it makes gateways of EgressGroups and takes them
// away again. Three controllers share the work. That of an EgressGroup makes its objects, mints its
// auth keys and writes its status. That of an EgressGateway keeps the tags of one tailnet device,
// and deletes the device when the gateway goes. That of a Node keeps the labels that send gateways
// to it; nobody else writes these.
//
// It promises that a write happens only when something differs, that every step can be cut off at
// any point and done again, and that a device is deleted by its ID only, if its tags are such as its group's gateways
// have, and once no gateway on the node can register it anew. What happens later (renewal, revocation, giving up) is derived from what is
// stored in the cluster and the clock, so that a new leader knows all of it.
//
// It must never watch pods, which would make memory grow with the cluster: whether
// gateway pods are gone is asked of the server, and only while something is being deleted. It must never write a
// secret to a log, an event, a status or an error, nor anything to the status of an EgressGateway, which is its agent's.
package controller
