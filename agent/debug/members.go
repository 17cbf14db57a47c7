package debug

import (
	"cmp"
	"maps"
	"net/url"
	"slices"
	"time"

	"github.com/rajsinghtech/tailgate/agent/stitch"
	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/page"
)

// membersView is the page /debug/members.
type membersView struct {
	// Synced: all that there is has been heard of, and what nobody wants is taken away.
	Synced  bool         `json:"synced"`
	Members []memberView `json:"members"` // by pod
	// Repairs counts what somebody else had changed and was put right, by kind.
	Repairs map[string]int `json:"repairs"`
}

// memberView is a member as the engine last saw it.
type memberView struct {
	ID      string       `json:"id"`
	Pod     string       `json:"pod"`
	Group   string       `json:"group"`
	State   stitch.State `json:"state"`
	Message string       `json:"message,omitempty"`
	// Link is the gateway's end of its link, Addrs are the member's own; none: it has no link.
	Link   string   `json:"link,omitempty"`
	Addrs  []string `json:"addrs"`
	Closed bool     `json:"closed"`
	Ready  bool     `json:"ready"`
	// Asked is when it was to be a member, Joined when it first was.
	Asked  time.Time `json:"asked,omitzero"`
	Joined time.Time `json:"joined,omitzero"`
	// TookSeconds is from the one to the other; Found: it was joined already.
	TookSeconds float64 `json:"tookSeconds,omitempty"`
	Found       bool    `json:"found"`
	Failures    int     `json:"failures"`
	Repairs     int     `json:"repairs"`
}

func (p *Pages) membersView() membersView {
	r := p.o.Source.Report()
	v := membersView{Synced: r.Synced, Members: page.Each(r.Members, describeMember), Repairs: r.Repairs}
	slices.SortFunc(v.Members, func(a, b memberView) int { return cmp.Or(cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.ID, b.ID)) })
	return v
}

func describeMember(s stitch.Status) memberView {
	v := memberView{
		ID: s.ID, Pod: s.Name, Group: s.Group, State: s.State, Message: s.Message, Addrs: []string{}, Closed: s.Closed, Ready: s.Ready,
		Asked: s.Asked, Joined: s.Joined, TookSeconds: s.Took().Seconds(), Found: s.Found, Failures: s.Failures, Repairs: s.Repairs,
	}
	if s.Slot > 0 && s.Slot <= ident.MaxSlot {
		v.Link = ident.GatewayLink(s.Slot)
		v4, v6 := ident.MemberAddrs(s.Slot)
		v.Addrs = []string{v4.String(), v6.String()}
	}
	return v
}

// count counts the members and those that are joined, without those that have left.
func (v membersView) count() (members, joined int) {
	for _, m := range v.Members {
		if m.State != stitch.Left {
			members++
		}
		if m.State == stitch.Joined {
			joined++
		}
	}
	return members, joined
}

func membersPage(v membersView, now time.Time) page.Markup {
	members, joined := v.count()
	unheard := ""
	if !v.Synced {
		unheard = "Not all that there is has been heard of yet, so nothing is taken away."
	}
	headings := []page.Markup{"Pod", "Group", "State", "Link", "Addresses", "Closed", "Ready", "Joined", "Took", "Repairs"}
	rows := page.Each(v.Members, func(m memberView) page.Markup { return memberRow(m, now) })
	return page.Concat(
		page.Title("Members", page.Soft(number(members), ", ", number(joined), " joined")),
		page.Problems(unheard),
		page.Scrolling(page.Table(headings, rows, "No pod of this node is a member of a group.")),
		page.Section("Repairs of what others changed"),
		counts(v.Repairs),
	)
}

func memberRow(m memberView, now time.Time) page.Markup {
	return page.Row(
		page.Element("th", memberLink(m.ID, m.Pod), page.Note(page.Text(m.ID))),
		page.Cell("", page.Text(m.Group)),
		page.Cell("", state(m)),
		page.Cell("", page.TextOr(m.Link, page.Soft("none"))),
		page.Cell("", page.List(m.Addrs)),
		page.Cell("", yes(m, m.Closed)),
		page.Cell("", yes(m, m.Ready)),
		page.Cell("", page.Text(page.Moment(now, m.Joined, "not yet"))),
		page.Cell("number", took(m)),
		page.Cell("number", number(m.Repairs)),
	)
}

// memberLink leads to a member's own page.
func memberLink(id, name string) page.Markup {
	return page.Link("/debug/member?"+idQuery(id), page.TextOr(name, page.Text(id)))
}

func idQuery(id string) string { return url.Values{"id": {id}}.Encode() }

// state is a member's state, why it is in it, and how often work has failed since it last did not.
func state(m memberView) page.Markup {
	failures := page.Choose(m.Failures > 0, page.Note(number(m.Failures)+" tries failed"), "")
	word := page.Text(string(m.State))
	if m.State == stitch.Left {
		word = page.Soft(word)
	} else {
		word = page.Verdict(m.State == stitch.Joined, word, word)
	}
	return page.Concat(word, page.Note(page.Text(m.Message)), failures)
}

// took is how long a member took to join.
func took(m memberView) page.Markup {
	switch {
	case m.Joined.IsZero():
		return ""
	case m.Found:
		return page.Soft("found so")
	}
	return page.Text(duration(m.TookSeconds))
}

// duration returns seconds to the millisecond, as in "1.234s".
func duration(seconds float64) string {
	return time.Duration(seconds * float64(time.Second)).Round(time.Millisecond).String()
}

// yes says whether something is as it is to be with a member; of one that has left nothing is to be.
func yes(m memberView, ok bool) page.Markup {
	return page.Choose(m.State == stitch.Left, "", page.Verdict(ok, "yes", "no"))
}

// counts has a row for each kind of thing that was counted.
func counts(byKind map[string]int) page.Markup {
	if len(byKind) == 0 {
		return page.Listing(nil)
	}
	var rows []page.Markup
	for _, kind := range slices.Sorted(maps.Keys(byKind)) {
		rows = append(rows, page.Fact(page.Text(kind), number(byKind[kind])))
	}
	return page.Facts(rows...)
}
