// Package cidrs finds out where a cluster's pods and services are.
//
// It promises to say in its errors what to do when the cluster does not tell. It must never guess.
package cidrs

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// Of returns where the cluster's pods and services are, as few prefixes as say it. Each kind of cluster tells it
// elsewhere: kubeadm in its configuration, which has the whole of the pods' network; nodes have the parts that are theirs;
// Kubernetes 1.33 and later has objects for the services' networks.
func Of(ctx context.Context, c client.Reader) ([]netip.Prefix, error) {
	kubeadm, err := fromKubeadm(ctx, c)
	if err != nil {
		return nil, err
	}
	nodes, err := fromNodes(ctx, c)
	if err != nil {
		return nil, err
	}
	services, err := fromServiceCIDRs(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(kubeadm.pods)+len(nodes) == 0 {
		return nil, errors.New("the cluster does not say where its pods are: neither kubeadm's configuration nor its nodes do; name all CIDRs of pods and services with --cluster-cidrs")
	}
	if len(kubeadm.services)+len(services) == 0 {
		return nil, errors.New("the cluster does not say where its services are: it has neither kubeadm's configuration nor ServiceCIDR objects; name all CIDRs of pods and services with --cluster-cidrs")
	}
	return fewest(slices.Concat(kubeadm.pods, kubeadm.services, nodes, services)), nil
}

// networks are what kubeadm's configuration says.
type networks struct{ pods, services []netip.Prefix }

// fromKubeadm reads the ClusterConfiguration of a cluster that kubeadm made, as kind's are.
func fromKubeadm(ctx context.Context, c client.Reader) (n networks, err error) {
	var cm corev1.ConfigMap
	err = c.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "kubeadm-config"}, &cm)
	if apierrors.IsNotFound(err) {
		return n, nil
	}
	if err != nil {
		return n, fmt.Errorf("read kubeadm's configuration: %w", err)
	}
	var conf struct {
		Networking struct{ PodSubnet, ServiceSubnet string } `json:"networking"`
	}
	if err := yaml.Unmarshal([]byte(cm.Data["ClusterConfiguration"]), &conf); err != nil {
		return n, fmt.Errorf("read kubeadm's configuration: %w", err)
	}
	if n.pods, err = Parse(conf.Networking.PodSubnet); err != nil {
		return n, fmt.Errorf("podSubnet of kubeadm's configuration: %w", err)
	}
	if n.services, err = Parse(conf.Networking.ServiceSubnet); err != nil {
		return n, fmt.Errorf("serviceSubnet of kubeadm's configuration: %w", err)
	}
	return n, nil
}

func fromNodes(ctx context.Context, c client.Reader) (all []netip.Prefix, err error) {
	var nodes corev1.NodeList
	if err := c.List(ctx, &nodes); err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	for _, n := range nodes.Items {
		for _, text := range append(slices.Clone(n.Spec.PodCIDRs), n.Spec.PodCIDR) {
			ps, err := Parse(text)
			if err != nil {
				return nil, fmt.Errorf("podCIDRs of node %s: %w", n.Name, err)
			}
			all = append(all, ps...)
		}
	}
	return all, nil
}

func fromServiceCIDRs(ctx context.Context, c client.Reader) (all []netip.Prefix, err error) {
	var list networkingv1.ServiceCIDRList
	err = c.List(ctx, &list)
	if meta.IsNoMatchError(err) || apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list ServiceCIDRs: %w", err)
	}
	for _, s := range list.Items {
		for _, text := range s.Spec.CIDRs {
			ps, err := Parse(text)
			if err != nil {
				return nil, fmt.Errorf("ServiceCIDR %s: %w", s.Name, err)
			}
			all = append(all, ps...)
		}
	}
	return all, nil
}

// Parse reads CIDRs with commas between them.
func Parse(text string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for part := range strings.FieldsFuncSeq(text, func(r rune) bool { return r == ',' || r == ' ' }) {
		p, err := netip.ParsePrefix(part)
		if err != nil || p != p.Masked() {
			return nil, fmt.Errorf("%q is no CIDR, such as 10.244.0.0/16", part)
		}
		all = append(all, p)
	}
	return all, nil
}

// fewest returns the prefixes, sorted, without those that are within others.
func fewest(all []netip.Prefix) []netip.Prefix {
	all = slices.Clone(all)
	slices.SortFunc(all, netip.Prefix.Compare) // a prefix comes before those within it
	var out []netip.Prefix
	for _, p := range all {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}
