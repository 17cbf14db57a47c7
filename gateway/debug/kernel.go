package debug

import (
	"time"

	"github.com/rajsinghtech/tailgate/internal/ident"
	"github.com/rajsinghtech/tailgate/internal/kernel"
	"github.com/rajsinghtech/tailgate/internal/page"
	"github.com/rajsinghtech/tailgate/internal/ruleset"
)

// kernelView is the page /debug/kernel. Texts are a line an object, in the words of ip(8) and nft(8).
type kernelView struct {
	InPlace   bool      `json:"inPlace"`
	Error     string    `json:"error,omitempty"`
	LastApply time.Time `json:"lastApply,omitzero"`
	// Repairs counts what somebody else changed and we mended.
	Repairs int            `json:"repairs"`
	Changes map[string]int `json:"changes"`
	// InspectError is why the rest is missing.
	InspectError string          `json:"inspectError,omitempty"`
	State        page.Comparison `json:"state"`
	Table        page.Comparison `json:"nftables"`
}

func (p *Pages) kernelView() kernelView {
	s := p.o.Dataplane.Status()
	v := kernelView{
		InPlace: s.InPlace(), LastApply: s.LastApply,
		Repairs: s.Repairs, Changes: s.Applied,
		State: page.Compare("", "", ""), Table: page.Compare("", "", ""),
	}
	if s.Err != nil {
		v.Error = s.Err.Error()
	}
	in, err := p.o.Dataplane.Inspect()
	if err != nil {
		v.InspectError = err.Error()
		return v
	}
	v.State = page.Compare(in.Plan.String(), in.Desired.String(), in.Observed.String())
	v.Table = page.Compare(page.LineDiff(in.ObservedTable, in.DesiredTable), in.DesiredTable, in.ObservedTable)
	return v
}

// membersView is the page /debug/members.
type membersView struct {
	// Error is why some counts are missing.
	Error         string       `json:"error,omitempty"`
	Members       []linkView   `json:"members"`
	Tunnel        []linkView   `json:"tunnel"`
	Dropped       []droppedRow `json:"dropped"`
	ConntrackUsed int          `json:"conntrackUsed"`
	ConntrackMax  int          `json:"conntrackMax"`
}

// linkView is a link, sent and received being its other end's: a member's, or the tailnet's.
type linkView struct {
	Link   string   `json:"link"`
	Member string   `json:"member,omitempty"`
	Addrs  []string `json:"addrs,omitempty"`

	SentBytes       uint64 `json:"sentBytes"`
	SentPackets     uint64 `json:"sentPackets"`
	ReceivedBytes   uint64 `json:"receivedBytes"`
	ReceivedPackets uint64 `json:"receivedPackets"`
	// Lost are packets that the link itself dropped, either way.
	Lost uint64 `json:"lostPackets"`
}

type droppedRow struct {
	Chain   string `json:"chain"`
	Reason  string `json:"reason"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

func (p *Pages) membersView() membersView {
	c, err := p.o.Dataplane.Counters()
	v := membersView{ConntrackUsed: c.ConntrackUsed, ConntrackMax: c.ConntrackMax}
	if err != nil {
		v.Error = err.Error()
	}
	v.Members = page.Each(c.Members, describeLink)
	v.Tunnel = page.Each(c.TUN, describeLink)
	v.Dropped = page.Each(c.Dropped, func(d ruleset.Counter) droppedRow {
		return droppedRow{d.Chain, d.Comment, d.Packets, d.Bytes}
	})
	return v
}

func describeLink(l kernel.LinkStats) linkView {
	v := linkView{
		Link: l.Name, Member: memberOf(l),
		SentBytes: l.RxBytes, SentPackets: l.RxPackets, ReceivedBytes: l.TxBytes, ReceivedPackets: l.TxPackets,
		Lost: l.RxDropped + l.TxDropped,
	}
	if slot, ok := ident.Slot(l.Name); ok {
		v4, v6 := ident.MemberAddrs(slot)
		v.Addrs = []string{v4.String(), v6.String()}
	}
	return v
}
