package lab

import (
	"path/filepath"

	"github.com/rajsinghtech/tailgate/test/lab/internal/machine"
)

// pkiDir is where the control plane finds what [writePKI] wrote.
const pkiDir = "/etc/kubernetes/"

// fast lifts the limit of requests that a client of the API server sets itself: at 20 a second, making its
// service accounts alone takes the controller manager five seconds.
var fast = [2]string{"--kube-api-qps=1000", "--kube-api-burst=1000"}

// storage are the processes of the first machine that come first.
const storage = 2

// controlPlane are the processes of the first machine, by the plan, in the order in which they start.
func controlPlane(plan Plan) [][]string {
	services := join(plan.ServiceNets)
	return [][]string{
		{
			"etcd", "--name=lab", "--data-dir=/var/lib/etcd", "--unsafe-no-fsync", "--log-level=warn",
			"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
			"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
			"--initial-cluster=lab=http://127.0.0.1:2380",
		},
		{
			"kube-apiserver", "--etcd-servers=http://127.0.0.1:2379",
			"--advertise-address=" + plan.ControlPlane[0].String(), "--bind-address=::", "--secure-port=6443",
			"--tls-cert-file=" + pkiDir + "apiserver.crt", "--tls-private-key-file=" + pkiDir + "apiserver.key",
			"--client-ca-file=" + pkiDir + "ca.crt",
			"--kubelet-client-certificate=" + pkiDir + "apiserver-kubelet.crt",
			"--kubelet-client-key=" + pkiDir + "apiserver-kubelet.key",
			"--kubelet-preferred-address-types=InternalIP",
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + pkiDir + "sa.pub", "--service-account-signing-key-file=" + pkiDir + "sa.key",
			"--service-cluster-ip-range=" + services,
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
			"--allow-privileged=true", "--profiling=false",
		},
		{
			"kube-controller-manager", fast[0], fast[1], "--kubeconfig=" + pkiDir + "kube-controller-manager.conf",
			"--bind-address=127.0.0.1", "--leader-elect=false", "--use-service-account-credentials=true",
			// A node's networks are in the plan: they stay the same when it is deleted and comes back.
			"--allocate-node-cidrs=false", "--service-cluster-ip-range=" + services,
			"--root-ca-file=" + pkiDir + "ca.crt", "--service-account-private-key-file=" + pkiDir + "sa.key",
			"--cluster-signing-cert-file=" + pkiDir + "ca.crt", "--cluster-signing-key-file=" + pkiDir + "ca.key",
			"--node-monitor-period=2s", "--node-monitor-grace-period=20s",
			"--flex-volume-plugin-dir=/var/lib/volumeplugins",
		},
		{
			"kube-scheduler", fast[0], fast[1], "--kubeconfig=" + pkiDir + "kube-scheduler.conf",
			"--bind-address=127.0.0.1", "--leader-elect=false",
		},
	}
}

// nodeConfDir is where a node's services find their configuration.
const nodeConfDir = "/etc/kubernetes/"

// Service is a process of every node.
type Service string

// Services.
const (
	Containerd Service = "containerd"
	Kubelet    Service = "kubelet"
	KubeProxy  Service = "kube-proxy"
)

// Services returns those of a node, in the order in which they start.
func Services() []Service { return []Service{Containerd, Kubelet, KubeProxy} }

// args is the command line of a service.
func (s Service) args(n *NodePlan) []string {
	switch s {
	case Containerd:
		return []string{"containerd", "--config=/etc/containerd/config.toml"}
	case Kubelet:
		return []string{
			"kubelet", "--config=" + nodeConfDir + "kubelet.yaml", "--kubeconfig=" + nodeConfDir + "kubelet.conf",
			"--hostname-override=" + n.Name, "--node-ip=" + join(n.Addrs),
		}
	case KubeProxy:
		return []string{"kube-proxy", "--config=" + nodeConfDir + "kube-proxy.yaml", "--hostname-override=" + n.Name}
	}
	return nil
}

// process is a command of binDir that logs to the file of its machine and name.
func process(dir, on string, args []string) machine.Process {
	return machine.Process{
		Name: args[0],
		Args: append([]string{filepath.Join(binDir, args[0])}, args[1:]...),
		Env:  environment(dir),
		Log:  logFile(dir, on, args[0]),
	}
}

// environment is that of every process of the lab.
func environment(dir string) []string {
	return []string{pathVar, "HOME=/root", "TERM=xterm", machine.MarkVar + "=" + dir}
}

func logFile(dir, on, name string) string { return filepath.Join(dir, "log", on+"-"+name+".log") }
