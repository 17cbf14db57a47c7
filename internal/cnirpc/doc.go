// Package cnirpc is the wire between the CNI plugin and its node's agent: one request and one reply, each a
// line of JSON, over a unix socket that only root may open.
//
// It promises that plugin and agent of different versions understand each other: fields that a
// reader does not know are ignored, a verb that the agent does not know is answered with [Unsupported], and a kind
// of error that the plugin does not know never fails a pod. What would break that gets a socket of another name.
// A client keeps its side of the connection open until it has the reply, as the end of it tells the agent that
// nobody waits any more. No message is larger than [MaxRequest] or [MaxReply], and a client gives up within [ConnectTimeout] when nobody
// listens. It must never import anything outside the standard library: the plugin starts once for every pod.
package cnirpc
