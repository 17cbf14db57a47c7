package debug

import (
	"cmp"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/agent/membership"
	"github.com/rajsinghtech/tailgate/internal/page"
)

// podsView is the page /debug/pods.
type podsView struct {
	Pods []podView `json:"pods"` // by name
}

// podView is a pod, and why it is a member or not.
type podView struct {
	Pod   string `json:"pod"`
	UID   string `json:"uid"`
	State string `json:"state"`
	Group string `json:"group,omitempty"`
	// Others are the other groups that select it.
	Others      []string `json:"others"`
	Reason      string   `json:"reason,omitempty"`
	Why         string   `json:"why"` // as a sentence
	ContainerID string   `json:"containerID,omitempty"`
	NetNS       string   `json:"netns,omitempty"`
}

func (v podView) member() bool { return v.State == membership.Member.String() }

func (p *Pages) podsView() podsView {
	v := podsView{Pods: page.Each(p.o.Source.Pods(), describePod)}
	slices.SortFunc(v.Pods, func(a, b podView) int { return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.UID, b.UID)) })
	return v
}

func describePod(p PodView) podView {
	return podView{
		Pod: p.Name, UID: p.UID, State: p.State, Group: p.Group, Others: append([]string{}, p.Others...),
		Reason: p.Reason, Why: why(p), ContainerID: p.ContainerID, NetNS: p.NetNS,
	}
}

// reasons are membership's, as the ends of sentences.
var reasons = map[membership.Reason]string{
	membership.ReasonGroupsUnknown:    "not all groups are known yet",
	membership.ReasonNamespaceUnknown: "the labels of its namespace are not known yet",
	membership.ReasonNotSelected:      "no group selects it",
	membership.ReasonHostNetwork:      "it is on the host network",
	membership.ReasonFinished:         "it has finished",
	membership.ReasonOwnPod:           "it is one of tailgate's own",
}

// why says why a pod is a member or not.
func why(p PodView) string {
	others := page.Commas(p.Others)
	reason := cmp.Or(reasons[membership.Reason(p.Reason)], p.Reason)
	switch {
	case p.State == membership.Member.String() && others == "":
		return "group " + p.Group + " selects it, and no other does"
	case p.State == membership.Member.String():
		return "group " + p.Group + " is the oldest that selects it; later came " + others
	case others != "":
		return reason + "; selected in vain by " + others
	}
	return reason
}

func podsPage(v podsView, _ time.Time) page.Markup {
	members := 0
	for _, pod := range v.Pods {
		if pod.member() {
			members++
		}
	}
	headings := []page.Markup{"Pod", "State", "Group", "Why", "Sandbox", "Network namespace"}
	return page.Concat(
		page.Title("Pods", page.Soft(number(len(v.Pods)), ", ", number(members), " members")),
		page.Scrolling(page.Table(headings, page.Each(v.Pods, podRow), "No pod of this node is known.")),
	)
}

func podRow(v podView) page.Markup {
	name := page.Text(v.Pod)
	if v.member() {
		name = memberLink(v.UID, v.Pod)
	}
	class := map[string]page.Markup{membership.Member.String(): "good", membership.Undecided.String(): "bad"}[v.State]
	return page.Row(
		page.Element("th", name, page.Note(page.Text(v.UID))),
		page.Cell(class, page.Text(v.State)),
		page.Cell("", page.Text(v.Group)),
		page.Cell("", page.Text(v.Why), page.Note(page.Text(v.Reason))),
		page.Cell("soft", page.Text(shortID(v.ContainerID))),
		page.Cell("", page.TextOr(v.NetNS, page.Choose(v.member(), page.Verdict(false, "", "not known, so it cannot be joined"), ""))),
	)
}

// shortID is a container's ID as crictl(8) shows it.
func shortID(id string) string {
	const digits = 13
	return id[:min(len(id), digits)]
}
