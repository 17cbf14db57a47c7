//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"

	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet/org"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

// s is the cluster of all tests.
var s *stage.Stage

var (
	cluster = flag.String("cluster", "lab", "where to run: lab, or kind, which is the cluster of go tool task kind:up, or one that is made for the run")
	image   = flag.String("kind-image", "", "what nodes of a kind cluster that is made for the run are made of; empty: what kind takes")
	labName = flag.String("name", "e2e", "of the lab, so that two runs do not meet")
	family  = flag.String("family", "dual", "IP families of the cluster: v4, v6 or dual")
	cni     = flag.String("cni", "ptp", "plugin that connects the lab's pods: ptp or bridge")
	keep    = flag.Bool("keep", false, "leave the cluster up; go tool task lab:down -- --name=e2e ends it, or the name given, or kind:down")
)

// linger is how long a gateway outlives its last member here.
const linger = "1s"

func TestMain(m *testing.M) {
	peer.MaybeRun()
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *cluster != "lab" && *cluster != "kind" {
		return 1, fmt.Errorf("there is no cluster %q: use --cluster=lab or --cluster=kind", *cluster)
	}
	where, err := org.FromEnv()
	if err != nil {
		return 1, err
	}
	s, err = stage.Up(ctx, stage.Options{
		Name: *labName, Org: where, Family: lab.Family(*family), CNI: lab.CNI(*cni), Out: os.Stderr, Kind: *cluster == "kind", KindImage: *image,
		Namespaces: []string{payments}, // the manifests of deploy/examples name it
		Tags:       []string{"tag:egress-payments", "tag:egress-peers", "tag:egress-other"}, Values: []string{"agent.gatewayLinger=" + linger},
	})
	if err != nil {
		return 1, err
	}
	var once sync.Once
	down := func() (err error) {
		once.Do(func() { err = s.Down(context.WithoutCancel(ctx)) })
		return err
	}
	// Who interrupts the tests ends all that was made for them, the organization's tailnet not least.
	defer context.AfterFunc(ctx, func() {
		fmt.Fprintln(os.Stderr, "e2e: interrupted:", errors.Join(context.Cause(ctx), down()))
		os.Exit(1)
	})()
	nodes := s.Cluster.Nodes()
	n1, n2 = nodes[0].Name(), nodes[1].Name()
	code = m.Run()
	if *keep {
		err := s.Keep()
		if s.Org != nil { // the tailnet does not stay
			err = errors.Join(err, s.Org.Close(context.WithoutCancel(ctx)))
		}
		return code, err
	}
	return code, down()
}
