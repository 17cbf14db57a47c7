// Package kubetest gives Go tests a real Kubernetes API: etcd and kube-apiserver, started by
// controller-runtime's envtest from the binaries of test/lab. It is the API only: no controller
// manager, no scheduler, no node. So nothing collects garbage, ends a namespace, counts a DaemonSet or
// runs a pod; a test that needs those plays their part.
//
// A package whose tests share one server has
//
//	func TestMain(m *testing.M) { kubetest.Main(m, kubetest.Options{CRDs: true}) }
//
// and each of its tests asks [Shared] for it; [Start] makes one more, for a test of its own. A program that is no test, such
// as a bench, has [Run]. A server takes three or
// four seconds to start. Packages may run side by side: ports are free ones, data is in folders of their own.
//
// It promises to leave nothing: servers end with the test or the package, and also when the test process
// is killed, since each asks the kernel to die with it (PR_SET_PDEATHSIG, see launch.go). What a killed test leaves in
// the folder for temporary files is removed by the next one. It never skips a test: missing
// binaries are built, which takes about ten minutes, once. It never uses a cluster that the
// environment names, and signals no process but its own.
package kubetest
