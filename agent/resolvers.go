package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
)

// resolvConf names the cluster's resolvers in a pod with dnsPolicy ClusterFirstWithHostNet, as kubelet gives them
// to every pod with dnsPolicy ClusterFirst.
const resolvConf = "/etc/resolv.conf"

// resolvers returns the nameservers of a resolv.conf(5).
func resolvers(file string) ([]netip.Addr, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read the cluster's resolvers: %w", err)
	}
	var all []netip.Addr
	for line := range strings.Lines(string(data)) {
		words := strings.Fields(line)
		if len(words) < 2 || words[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(words[1]); err == nil {
			all = append(all, a)
		}
	}
	if len(all) == 0 {
		return nil, errors.New(file + " names no resolver")
	}
	return all, nil
}
