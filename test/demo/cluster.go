//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/rajsinghtech/tailgate/test/rig"
	"github.com/rajsinghtech/tailgate/test/tailnet/world"
)

// served is the port of labtool's web server, and listened one that the demo opens in a member.
const served, listened = 8080, 8081

func (d *demo) cluster(ctx context.Context) error {
	m := d.member
	d.check(ctx, "the cluster's DNS", quick, func(ctx context.Context) (string, error) {
		for _, server := range d.Lab.Plan.DNS {
			if err := lookup(ctx, m.Host, server, rig.ClusterName, d.Lab.Plan.API); err != nil {
				return "", err
			}
		}
		return fmt.Sprintf("%s is %v", rig.ClusterName, d.Lab.Plan.API), nil
	})
	d.check(ctx, "the API server, by its Service", quick, func(ctx context.Context) (string, error) {
		to := netip.AddrPortFrom(d.Lab.Plan.API, 443)
		return to.String(), isAPIServer(ctx, m.Host, to)
	})
	families(func(f int) {
		d.check(ctx, "another pod, which sees the member's own address", quick, func(ctx context.Context) (string, error) {
			to := netip.AddrPortFrom(addr(d.outsider.Host, f), served)
			seen, err := remote(ctx, m.Host, to)
			if err == nil && seen != addr(m.Host, f) {
				err = fmt.Errorf("it saw %v, and the member has %v", seen, addr(m.Host, f))
			}
			return seen.String(), err
		})
	})
	d.check(ctx, "the member is reached by another pod, and from outside of the cluster", quick, func(ctx context.Context) (string, error) {
		return "it answers on its own interface, and not by the exit node", d.answers(ctx)
	})
	return nil
}

// remote asks labtool's web server whom it sees.
func remote(ctx context.Context, h *world.Host, to netip.AddrPort) (netip.Addr, error) {
	body, err := rig.GetPage(ctx, h, to, "/")
	if err != nil {
		return netip.Addr{}, err
	}
	var host, from string
	if _, err := fmt.Sscanf(string(body), "host %s remote %s", &host, &from); err != nil {
		return netip.Addr{}, fmt.Errorf("%v answered %q: %w", to, body, err)
	}
	ap, err := netip.ParseAddrPort(from)
	return ap.Addr().Unmap(), err
}

// isAPIServer shakes hands with the API server, whose certificate says which it is.
func isAPIServer(ctx context.Context, h *world.Host, to netip.AddrPort) error {
	conn, err := h.Dial(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	var cert *x509.Certificate
	c := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, // who it says that it is, is all that is asked
		VerifyConnection: func(s tls.ConnectionState) error { cert = s.PeerCertificates[0]; return nil },
	})
	if err := c.HandshakeContext(ctx); err != nil {
		return err
	}
	return cert.VerifyHostname("kubernetes.default.svc")
}

// answers: connections to the member from a pod and from the internet, both families.
func (d *demo) answers(ctx context.Context) error {
	ln, err := d.member.Listen("tcp", fmt.Sprintf(":%d", listened))
	if err != nil {
		return err
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return // closed
			}
			_ = c.Close()
		}
	}()
	var errs []error
	for _, from := range []*world.Host{d.outsider.Host, d.other.Host, d.Rig.Internet} {
		families(func(f int) {
			to := net.JoinHostPort(addr(d.member.Host, f).String(), fmt.Sprint(listened))
			c, err := from.Dial(ctx, "tcp", to)
			if err == nil {
				err = c.Close()
			}
			if err != nil {
				err = fmt.Errorf("from %s: %w", from.Name, err)
			}
			errs = append(errs, err)
		})
	}
	return errors.Join(errs...)
}
