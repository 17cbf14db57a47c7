package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/rajsinghtech/tailgate/test/deploy/cidrs"
	"github.com/rajsinghtech/tailgate/test/internal/program"
)

const usage = `Usage: go tool task deploy [-- FLAGS]

Builds tailgate's images, loads them into a cluster and installs the chart there, or upgrades it. The cluster is the
kind cluster of "go tool task kind:up"; where there is none, the lab of "go tool task lab:up".

The gateways log in to the tailnet of $TS_OAUTH_CLIENT_ID and $TS_OAUTH_CLIENT_SECRET ($TS_TAILNET, if it is not
the client's own). Without these a hermetic tailnet is deployed beside tailgate.

Flags:
`

// settings are the command line and the environment.
type settings struct {
	lab, kubeconfig string
	repository, tag string
	cidrs           []netip.Prefix
	tags, set       []string
	real            credentials
}

func main() {
	program.Main("deploy", func(ctx context.Context, args []string, out io.Writer) (bool, error) {
		err := run(ctx, args, out)
		return err == nil, err
	})
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("deploy", flag.ContinueOnError)
	fs.StringVar(&s.lab, "lab", "", "`name` of a lab to deploy to, also where there is a kind cluster; empty: \"lab\" where there is none")
	fs.StringVar(&s.kubeconfig, "kubeconfig", "", "`file` that leads to another cluster, which pulls its images from a registry")
	fs.StringVar(&s.repository, "repository", defaultRepository, "with --kubeconfig: `prefix` of the images' names there")
	fs.StringVar(&s.tag, "tag", "", "with --kubeconfig: `tag` of the images there; empty: the chart's appVersion")
	fs.Func("cluster-cidrs", "`CIDRs` of pods and services, separated by commas; empty: as the cluster says", func(text string) (err error) {
		s.cidrs, err = cidrs.Parse(text)
		return err
	})
	fs.Func("own-tag", "`tag` that the hermetic tailnet lets the operator give gateways, beside those of the groups in deploy/examples; more than once for more", func(tag string) error {
		s.tags = append(s.tags, tag)
		return nil
	})
	fs.Func("set", "`value` for Helm, as KEY=VALUE; more than once for more", func(v string) error {
		s.set = append(s.set, v)
		return nil
	})
	if err := program.Parse(fs, usage, args, out); err != nil {
		return s, err
	}
	switch {
	case s.kubeconfig != "" && s.lab != "":
		return s, errors.New("--kubeconfig and --lab are two clusters; name one")
	case s.kubeconfig == "" && (s.tag != "" || s.repository != defaultRepository):
		return s, errors.New("--repository and --tag are for --kubeconfig: into kind and labs, images are loaded as they are built")
	}
	s.real, err = credentialsFromEnv()
	return s, err
}

// limit bounds a deployment, also on a machine that builds everything for the first time.
const limit = 20 * time.Minute

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args, out)
	if err != nil {
		return err
	}
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, fmt.Errorf("not done in %v", limit))
	defer cancel()
	c, err := find(ctx, root, s)
	if err != nil {
		return err
	}
	d := &deployment{settings: s, cluster: c, root: root, out: out, began: time.Now()}
	return errors.Join(d.run(ctx), c.close())
}
