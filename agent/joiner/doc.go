// Package joiner joins member namespaces to the namespace they are attached to, repairs
// what drifted, and takes members out again.
//
// It promises that a member's routes fail closed before its link exists and after it is gone;
// that joining a member that is joined changes nothing, its link's index included; that a join is
// known by what the kernel holds (link names and aliases), so that no database outlives or
// contradicts it; that a caller who does not know everything yet can have what was found kept (see [Keep]); that queries
// for names are redirected only while there is a link to send them by, and that connections translated so far are
// forgotten when that ends; and that leaving leaves nothing, two sysctls apart that mean nothing without a member's marks.
// It must never touch what is not tailgate's, and knows no Kubernetes: namespaces come in as handles.
package joiner
