package debug

import (
	"net/netip"
	"time"

	"github.com/rajsinghtech/tailgate/agent/attachments"
	"github.com/rajsinghtech/tailgate/agent/install"
	"github.com/rajsinghtech/tailgate/internal/page"
)

// cniView is the page /debug/cni.
type cniView struct {
	Install installView `json:"install"`
	Counts  cacheView   `json:"counts"`
	// Problems are files and namespaces that are not as they should be.
	Problems    []string         `json:"problems"`
	Attachments []attachmentView `json:"attachments"` // by pod
}

// installView is how far the plugin is installed.
type installView struct {
	State   string `json:"state"`
	Reason  string `json:"reason,omitempty"`
	Message string `json:"message,omitempty"`
	Ready   bool   `json:"ready"`
	// File has the plugin's entry; "": none has. Patches counts the times that it was put into one.
	File    string `json:"file,omitempty"`
	Patches int    `json:"patches"`
}

// cacheView counts what is in the container runtime's cache of attachments.
type cacheView struct {
	Files    int `json:"files"`
	Pods     int `json:"pods"`
	LeftOver int `json:"leftOver"`
}

// attachmentView is where a pod's network namespace is.
type attachmentView struct {
	Pod         string   `json:"pod"`
	UID         string   `json:"uid"`
	ContainerID string   `json:"containerID"`
	NetNS       string   `json:"netns"`
	ID          string   `json:"id"` // of the namespace
	IfName      string   `json:"interface"`
	IPs         []string `json:"ips"`
	MTU         int      `json:"mtu,omitempty"`
}

func (p *Pages) cniView() cniView {
	list, stats, problems := p.o.Source.Attachments()
	return cniView{
		Install: describeInstall(p.o.Source.Install()), Counts: cacheView{stats.Files, stats.Pods, stats.LeftOver},
		Problems: page.Each(problems, error.Error), Attachments: page.Each(list, describeAttachment),
	}
}

func describeInstall(s install.Status) installView {
	v := installView{
		State: string(s.State), Reason: string(s.Reason), Message: s.Message, Ready: s.State == install.Ready,
		File: s.File, Patches: s.Patches,
	}
	if !v.Ready {
		v.Message = whyNotInstalled(s)
	}
	return v
}

func describeAttachment(a attachments.Attachment) attachmentView {
	return attachmentView{
		Pod: a.Namespace + "/" + a.Name, UID: string(a.PodUID), ContainerID: a.ContainerID, NetNS: a.NetNS, ID: a.ID.String(),
		IfName: a.IfName, IPs: page.Each(a.IPs, netip.Addr.String), MTU: a.MTU,
	}
}

func cniPage(v cniView, _ time.Time) page.Markup {
	unready := ""
	if !v.Install.Ready {
		unready = v.Install.Message
	}
	headings := []page.Markup{"Pod", "Network namespace", "Sandbox", "Interface", "Addresses", "MTU"}
	return page.Concat(
		page.Title("CNI plugin", page.Verdict(v.Install.Ready, page.Text(v.Install.State), page.TextOr(v.Install.State, "not looked at yet"))),
		page.Problems(append([]string{unready}, v.Problems...)...),
		page.Facts(
			page.Fact("Reason", page.TextOr(v.Install.Reason, "none")),
			page.Fact("Message", page.TextOr(v.Install.Message, "none")),
			page.Fact("Network configuration", page.TextOr(v.Install.File, "none has the plugin's entry")),
			page.Fact("Times the entry was put in", number(v.Install.Patches)),
		),
		page.Section("Pods' network namespaces ", page.Soft(number(v.Counts.Pods))),
		page.Facts(
			page.Fact("Files about pods in the runtime's cache", number(v.Counts.Files)),
			page.Fact("Sandboxes whose namespace is gone", number(v.Counts.LeftOver)),
		),
		page.Section("Attachments"),
		page.Scrolling(page.Table(headings, page.Each(v.Attachments, attachmentRow), "No pod's network namespace is known.")),
	)
}

func attachmentRow(a attachmentView) page.Markup {
	return page.Row(
		page.Element("th", page.Text(a.Pod), page.Note(page.Text(a.UID))),
		page.Cell("", page.Text(a.NetNS), page.Note(page.Text(a.ID))),
		page.Cell("soft", page.Text(shortID(a.ContainerID))),
		page.Cell("", page.Text(a.IfName)),
		page.Cell("", page.List(a.IPs)),
		page.Cell("number", page.Choose(a.MTU > 0, number(a.MTU), page.Soft("not known"))),
	)
}
