package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/rajsinghtech/tailgate/internal/cli"
	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// codeMissing is the error code of a CHECK that found something missing; those from 100 are a plugin's own.
const codeMissing = 100

// plugin holds what the commands have in common.
type plugin struct {
	out  io.Writer // gets the result
	log  *slog.Logger
	call func(ctx context.Context, socket string, q cnirpc.Request) (cnirpc.Reply, error)
}

func logger(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, nil)).With("plugin", "tailgate-cni")
}

func (p *plugin) add(args *skel.CmdArgs) error {
	c, err := parseConfig(args.StdinData)
	if err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	err = p.ask(c, cnirpc.Add, args)
	if cnirpc.KindOf(err) == cnirpc.TryAgain {
		return types.NewError(types.ErrTryAgainLater, err.Error(), "tailgate keeps the pod from starting, because what it sends would leave by a way that its group forbids; the runtime tries again")
	}
	if err != nil {
		p.warn("the pod starts without the agent's answer; if a group selects it, it joins once the agent is well", args, err)
	}
	_, err = p.out.Write(append(c.result(), '\n'))
	return err
}

// del succeeds always: the namespace goes, and with it all that was made there.
func (p *plugin) del(args *skel.CmdArgs) error {
	c, err := parseConfig(args.StdinData)
	if err != nil {
		p.warn("the configuration is wrong; DEL goes on with the defaults for what is", args, err)
	}
	if err := p.ask(c, cnirpc.Del, args); err != nil {
		p.warn("the agent was not told that the pod ends; it will see for itself", args, err)
	}
	return nil
}

func (p *plugin) check(args *skel.CmdArgs) error {
	c, err := parseConfig(args.StdinData)
	if err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	err = p.ask(c, cnirpc.Check, args)
	if cnirpc.KindOf(err) == cnirpc.Missing {
		return types.NewError(codeMissing, err.Error(), "")
	}
	if err != nil {
		p.warn("the pod could not be checked", args, err)
	}
	return nil
}

// gc succeeds always: the agent compares with the kernel on its own, too.
func (p *plugin) gc(args *skel.CmdArgs) error {
	c, err := parseConfig(args.StdinData)
	if err != nil {
		p.warn("the configuration is wrong; nothing is collected", args, err)
		return nil
	}
	if c.attachments == nil { // the runtime did not say which are in use
		return nil
	}
	if err := p.ask(c, cnirpc.GC, args); err != nil {
		p.warn("the agent was not told which attachments are in use", args, err)
	}
	return nil
}

func (p *plugin) status(args *skel.CmdArgs) error {
	c, err := parseConfig(args.StdinData)
	if err != nil {
		return types.NewError(types.ErrInvalidNetworkConfig, err.Error(), "")
	}
	if !c.statusRequiresAgent {
		return nil
	}
	err = p.ask(c, cnirpc.Status, args)
	switch {
	case err == nil:
		return nil
	case cnirpc.KindOf(err) == "":
		return types.NewError(types.ErrPluginNotAvailable, "the tailgate agent does not answer, and pods would start without their tailnet", err.Error())
	}
	return types.NewError(types.ErrLimitedConnectivity, "the tailgate agent is not well, and pods may be without their tailnet", err.Error())
}

// ask asks the agent, for as long as the configuration allows, and longer about a member.
func (p *plugin) ask(c config, verb cnirpc.Verb, args *skel.CmdArgs) error {
	q := cnirpc.Request{Verb: verb, Plugin: cli.Version(), Network: c.name}
	switch verb {
	case cnirpc.GC:
		q.ValidAttachments = attachmentsOf(c.attachments)
	case cnirpc.Add, cnirpc.Del, cnirpc.Check:
		q.ContainerID, q.IfName, q.Netns, q.Pod = args.ContainerID, args.IfName, args.Netns, pod(args.Args)
		if err := c.describe(&q); err != nil {
			p.warn("the previous result is handed on without being understood", args, err)
		}
	}
	timeout := c.timeout
	if verb == cnirpc.Add {
		// The agent has that long to say that the pod is a member, and then its own time to make it one.
		q.Patience = c.timeout
		timeout += cnirpc.MemberTimeout + time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	_, err := p.call(ctx, c.socket, q)
	return err
}

func (p *plugin) warn(what string, args *skel.CmdArgs, err error) {
	pod := pod(args.Args)
	if errors.Is(err, context.DeadlineExceeded) {
		what += " (it took too long)"
	}
	p.log.Warn(what, "namespace", pod.Namespace, "pod", pod.Name, "container", args.ContainerID, "interface", args.IfName, "err", err)
}
