//go:build e2e && linux

package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/test/lab"
	"github.com/rajsinghtech/tailgate/test/stage"
	"github.com/rajsinghtech/tailgate/test/tailnet/peer"
)

// s is the cluster of all tests.
var s *stage.Stage

var (
	labName = flag.String("name", "e2e", "of the lab, so that two runs do not meet")
	family  = flag.String("family", "dual", "IP families of the cluster: v4, v6 or dual")
	cni     = flag.String("cni", "ptp", "plugin that connects the cluster's pods: ptp or bridge")
	keep    = flag.Bool("keep", false, "leave the cluster up; go tool task lab:down -- --name=e2e ends it, or the name given")
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
	s, err = stage.Up(ctx, stage.Options{
		Name: *labName, Family: lab.Family(*family), CNI: lab.CNI(*cni), Out: os.Stderr,
		Tags: []string{"tag:egress-payments", "tag:egress-peers", "tag:egress-other"}, Values: []string{"agent.gatewayLinger=" + linger},
	})
	if err != nil {
		return 1, err
	}
	// The manifests of deploy/examples name it.
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: payments}}
	if err := s.Client.Create(ctx, ns); err != nil {
		return 1, errors.Join(err, s.Down(context.WithoutCancel(ctx)))
	}
	code = m.Run()
	if *keep {
		return code, s.Keep()
	}
	return code, errors.Join(s.Down(context.WithoutCancel(ctx)))
}
