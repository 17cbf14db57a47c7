// Package kind runs kind, built from its module: clusters of the files in the folder kind, as containers of Docker or
// podman, which it ends and starts one by one, too.
//
// It promises that kind is of the version that test/tools/kind pins, and to say in a sentence what to do on a machine with
// neither engine. It must never touch another cluster than the one named [Name].
package kind
