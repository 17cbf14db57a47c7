// Command tailgate-cni is a chained CNI plugin: it tells the node's agent of each pod that starts or ends, and
// hands on the result of the plugins before it.
//
// It promises that the result is handed on as it came, and that a pod starts as it would without tailgate when the agent is
// away, slow or wrong. The one exception is the agent's own word that a member's traffic would leave by a way that its group
// forbids: then the pod is not started, and the runtime tries again. It must never touch a namespace, keep state, or
// import Kubernetes, Tailscale or netlink: it runs once for every pod.
//
// What it has to say goes to stderr, which runtimes put into their own journal, with its bounds and its clock. A
// log file would need all of these again, in a folder that is there only once an agent has run.
package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

const usage = `tailgate-cni is a CNI plugin, which a container runtime runs (CNI_COMMAND and the other variables of the
specification say for what). Chain it after the others in a network configuration list:

  {"type": "tailgate-cni", "socket": "` + cnirpc.Socket + `", "timeout": "5s"}

Flags:

  --version
      print the version and exit

CNI versions: `

func main() {
	if len(os.Args) > 1 {
		if err := flags(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, "tailgate-cni:", err)
			os.Exit(1)
		}
		return
	}
	p := &plugin{out: os.Stdout, log: logger(os.Stderr), call: cnirpc.Call}
	funcs := skel.CNIFuncs{Add: p.add, Del: p.del, Check: p.check, GC: p.gc, Status: p.status}
	e := skel.PluginMainFuncsWithError(funcs, version.All, "tailgate-cni "+cli.Version())
	switch {
	case e == nil:
	case os.Getenv("CNI_COMMAND") == "DEL" && e.Code != types.ErrInvalidEnvironmentVariables:
		// A configuration that is wrong must not keep a pod from ending.
		p.log.Warn("DEL succeeds although its configuration is wrong", "err", e)
	default:
		if err := e.Print(); err != nil {
			p.log.Error("the error could not be printed", "err", err)
		}
		os.Exit(1)
	}
}

// flags does what the command line asks for.
func flags(args []string) error {
	switch strings.TrimLeft(args[0], "-") {
	case "version":
		fmt.Println(cli.Version())
	case "help", "h":
		fmt.Println(usage + strings.Join(version.All.SupportedVersions(), ", "))
	default:
		return errors.New("it takes no arguments but --version and --help; a container runtime runs it, and says what to do in CNI_COMMAND")
	}
	return nil
}
