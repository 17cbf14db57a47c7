package debug

import (
	"time"

	"github.com/rajsinghtech/tailgate/internal/page"
)

// clusterView is the page /debug/cluster.
type clusterView struct {
	// CIDRs are of the cluster: members reach them by the pod's own interface.
	CIDRs []string `json:"cidrs"`
	// Overlaps are the routes of groups that meet them.
	Overlaps []groupOverlap `json:"overlaps"`
}

type groupOverlap struct {
	Group   string      `json:"group"`
	Overlap overlapView `json:"overlap"`
}

func (p *Pages) clusterView() clusterView {
	v := clusterView{CIDRs: page.Texts(p.o.Source.ClusterCIDRs()), Overlaps: []groupOverlap{}}
	for _, g := range p.o.Source.Report().Groups {
		for _, o := range g.Overlaps {
			v.Overlaps = append(v.Overlaps, groupOverlap{g.Name, describeOverlap(o)})
		}
	}
	return v
}

func clusterPage(v clusterView, _ time.Time) page.Markup {
	none := ""
	if len(v.CIDRs) == 0 {
		none = "No address of the cluster is known: members of a group with an exit node would lose the way to it. " +
			"TAILGATE_CLUSTER_CIDRS says what they are when they cannot be found."
	}
	return page.Concat(
		page.Title("Cluster", page.Soft("what stays on the pods' own interface")),
		page.Problems(none),
		page.Section("Addresses of pods, services and nodes"),
		page.Listing(v.CIDRs),
		page.Section("Routes of groups that meet them"),
		page.Table([]page.Markup{"Group", "Route", "CIDR", "Steered"}, page.Each(v.Overlaps, func(o groupOverlap) page.Markup {
			return page.Row(page.Element("th", page.Text(o.Group)), page.Cell("", page.Text(o.Overlap.Route)), page.Cell("", page.Text(o.Overlap.CIDR)),
				page.Cell("", page.Choose(o.Overlap.Steered, "but for the CIDR, which it covers", "no, for it lies inside of the CIDR")))
		}), "No group has one."), "\n",
	)
}
