package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/types/create"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

// result returns the result of an ADD: the previous one as it came, or, first in a chain, an empty one. It must be of the
// configuration's version; a previous result that is not (a runtime's or plugin's fault) is converted if it can be.
func (c *config) result() []byte {
	version := c.cniVersion
	if version == "" {
		version = "0.1.0"
	}
	if c.prevResult == nil {
		return withVersion([]byte("{}"), version)
	}
	var has struct {
		CNIVersion *string `json:"cniVersion"`
	}
	err := json.Unmarshal(c.prevResult, &has)
	switch {
	case err != nil:
		return c.prevResult // not understood, so not ours to judge
	case has.CNIVersion == nil:
		return withVersion(c.prevResult, version)
	case *has.CNIVersion == version || *has.CNIVersion == "":
		return c.prevResult
	}
	converted, err := convert(*has.CNIVersion, c.prevResult, version)
	if err != nil {
		return c.prevResult
	}
	return converted
}

func convert(from string, result []byte, to string) ([]byte, error) {
	r, err := create.Create(from, result)
	if err != nil {
		return nil, err
	}
	if r, err = r.GetAsVersion(to); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// withVersion returns the JSON object with a version as its first key, and the rest as it was. Results before 1.0.0
// may lack one.
func withVersion(object json.RawMessage, version string) []byte {
	rest := bytes.TrimLeft(bytes.TrimSpace(object)[1:], " \t\r\n") // after the brace
	comma := ","
	if rest[0] == '}' {
		comma = ""
	}
	quoted, _ := json.Marshal(version) // a string can always be encoded
	return fmt.Appendf(nil, `{"cniVersion":%s%s%s`, quoted, comma, rest)
}

// describe puts what the previous result says of the pod into q, for the agent's reports and checks. A result
// that is not understood says nothing.
func (c *config) describe(q *cnirpc.Request) error {
	if c.prevResult == nil {
		return nil
	}
	some, err := create.CreateFromBytes(c.result())
	if err != nil {
		return err
	}
	r, err := types100.NewResultFromResult(some)
	if err != nil {
		return err
	}
	for _, i := range r.Interfaces {
		if i != nil {
			q.Interfaces = append(q.Interfaces, cnirpc.Interface{Name: i.Name, MAC: i.Mac, Sandbox: i.Sandbox})
		} else {
			q.Interfaces = append(q.Interfaces, cnirpc.Interface{}) // the index counts
		}
	}
	for _, ip := range r.IPs {
		if ip != nil {
			q.IPs = append(q.IPs, address(ip))
		}
	}
	return nil
}

func address(ip *types100.IPConfig) cnirpc.IP {
	a := cnirpc.IP{Interface: ip.Interface}
	if addr, ok := netip.AddrFromSlice(ip.Address.IP); ok {
		ones, _ := ip.Address.Mask.Size()
		a.Address = netip.PrefixFrom(addr.Unmap(), ones)
	}
	if gw, ok := netip.AddrFromSlice(ip.Gateway); ok {
		a.Gateway = gw.Unmap()
	}
	return a
}

// attachmentsOf returns them as they go over the wire.
func attachmentsOf(all []types.GCAttachment) []cnirpc.Attachment {
	wire := make([]cnirpc.Attachment, len(all))
	for i, a := range all {
		wire[i] = cnirpc.Attachment(a)
	}
	return wire
}
