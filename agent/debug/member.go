package debug

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/agent/joiner"
	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/page"
)

// inspectionView is the page /debug/member. Texts are a line an object, in the words of ip(8) and nft(8).
type inspectionView struct {
	// Member is as the engine last saw it.
	Member memberView `json:"member"`
	// Error is why the rest is missing.
	Error string `json:"error,omitempty"`
	// InPlace: nothing would be changed.
	InPlace bool `json:"inPlace"`
	// HasLink: the link is there. Otherwise Gateway is empty, and State and Table are of what keeps the member's traffic in.
	HasLink bool `json:"hasLink"`
	// LinkMissing: there is a gateway to link it to.
	LinkMissing bool            `json:"linkMissing"`
	State       page.Comparison `json:"state"`    // in the member's namespace
	Gateway     page.Comparison `json:"gateway"`  // of its link's other end
	Table       page.Comparison `json:"nftables"` // in the member's namespace
}

func (p *Pages) serveMember(w http.ResponseWriter, r *http.Request) {
	if wantsJSON(r) {
		p.serveMemberJSON(w, r)
		return
	}
	v, code := p.inspectionView(r.URL.Query().Get("id"))
	p.site.WritePage(w, code, "member", "/debug/member.json?"+idQuery(v.Member.ID), inspectionPage(v, p.o.Now()))
}

func (p *Pages) serveMemberJSON(w http.ResponseWriter, r *http.Request) {
	v, code := p.inspectionView(r.URL.Query().Get("id"))
	p.site.WriteJSON(w, code, v)
}

// inspectionView looks at the member of that ID. The status code says whether there is one.
func (p *Pages) inspectionView(id string) (v inspectionView, code int) {
	v = inspectionView{
		Member: memberView{ID: id, Addrs: []string{}},
		State:  page.Compare("", "", ""), Gateway: page.Compare("", "", ""), Table: page.Compare("", "", ""),
	}
	if id == "" {
		v.Error = "which member? Write ?id= and the pod's UID; /debug/members links them all"
		return v, http.StatusBadRequest
	}
	r := p.o.Source.Report()
	for _, m := range r.Members {
		if m.ID == id {
			v.Member = describeMember(m)
		}
	}
	in, err := p.o.Source.Inspect(id)
	switch {
	case errors.Is(err, stitch.ErrUnknown):
		v.Error = err.Error() + "; /debug/pods says which pods are members, and why the others are not"
		return v, http.StatusNotFound
	case err != nil:
		v.Error = err.Error()
		return v, http.StatusOK
	}
	v.compare(in, hasGateway(r, v.Member.Group))
	return v, http.StatusOK
}

// hasGateway reports whether members of that group can be linked.
func hasGateway(r stitch.Report, group string) bool {
	return slices.ContainsFunc(r.Groups, func(g stitch.GroupReport) bool {
		return g.Name == group && g.Known && g.Gateway != nil && g.Gateway.Open
	})
}

// compare shows an inspection. That a link is to be made is in none of its plans, for nobody knows its number before it is
// there.
func (v *inspectionView) compare(in joiner.Inspection, gateway bool) {
	v.HasLink, v.LinkMissing = in.Slot != 0, in.Slot == 0 && gateway
	v.InPlace = in.InPlace() && !v.LinkMissing
	v.State = compareSide(in.Member)
	v.Gateway = compareSide(in.Gateway)
	difference := ""
	if !in.TableEqual {
		difference = page.LineDiff(in.ObservedTable, in.DesiredTable)
		if difference == "" {
			difference = "it would be replaced: it holds what the text does not show"
		}
	}
	v.Table = page.Compare(difference, in.DesiredTable, in.ObservedTable)
}

func compareSide(s joiner.Side) page.Comparison {
	return page.Compare(s.Plan.String(), s.Desired.String(), s.Observed.String())
}

func inspectionPage(v inspectionView, now time.Time) page.Markup {
	beside := page.Verdict(v.InPlace, "no difference", "not as wanted")
	missing := ""
	if v.LinkMissing {
		missing = "It has no link, though there is a gateway to link it to."
	}
	if v.Error != "" {
		beside = page.Verdict(false, "", "not known")
	}
	content := page.Concat(
		page.Title(page.TextOr(v.Member.Pod, page.TextOr(v.Member.ID, "Member")), beside),
		page.Problems(v.Error, missing),
	)
	if v.Member.State != "" {
		content += memberFacts(v.Member, now)
	}
	if v.Error != "" {
		return content
	}
	var observed, desired page.Markup
	for _, part := range []struct {
		name page.Markup
		page.Comparison
	}{
		{"in the pod", v.State},
		{"its link at the gateway", v.Gateway},
		{"nftables in the pod", v.Table},
	} {
		content += page.Section("To be changed: "+part.name) + page.Listing(part.Difference)
		observed += page.Section("Observed: "+part.name) + page.Listing(part.Observed)
		desired += page.Section("Desired: "+part.name) + page.Listing(part.Desired)
	}
	return content + observed + desired
}

func memberFacts(m memberView, now time.Time) page.Markup {
	return page.Facts(
		page.Fact("UID", page.Text(m.ID)),
		page.Fact("Group", page.TextOr(m.Group, "none")),
		page.Fact("State", state(m)),
		page.Fact("Link at the gateway", page.TextOr(m.Link, "none")),
		page.Fact("Addresses", page.Choose(len(m.Addrs) > 0, page.List(m.Addrs), "none")),
		page.Fact("Closed", yes(m, m.Closed), page.Note("that is, traffic for the tailnet cannot leave another way")),
		page.Fact("Ready", yes(m, m.Ready), page.Note("that is, joined to a gateway that says that it is ready")),
		page.Fact("To be a member since", page.Text(page.Moment(now, m.Asked, "unknown"))),
		page.Fact("Joined", page.Text(page.Moment(now, m.Joined, "not yet"))),
		page.Fact("Took", page.Choose(m.Joined.IsZero(), "not joined yet", took(m))),
		page.Fact("Repairs of what others changed", number(m.Repairs)),
	)
}
