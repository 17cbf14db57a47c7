package debug

import (
	"net/http"

	"github.com/rajsinghtech/tailgate/agent/install"
)

// askParts returns when all of the source's parts have answered.
func (p *Pages) askParts() {
	s := p.o.Source
	s.Report()
	s.Install()
	s.Attachments()
	s.ClusterCIDRs()
	s.Gateways()
	s.Pods()
	_ = s.Ready() // whatever it is
}

// serveReady says whether pods that start now get their tailnet.
func (p *Pages) serveReady(w http.ResponseWriter, _ *http.Request) {
	problems := p.problems()
	p.site.WriteReady(w, len(problems) == 0, problems)
}

// problems says in sentences why the agent is not ready; none: it is.
func (p *Pages) problems() []string {
	var problems []string
	if err := p.o.Source.Ready(); err != nil {
		problems = append(problems, err.Error())
	}
	if s := p.o.Source.Install(); s.State != install.Ready {
		problems = append(problems, whyNotInstalled(s))
	}
	return problems
}

// whyNotInstalled is a sentence; the zero status has none of its own.
func whyNotInstalled(s install.Status) string {
	if s == (install.Status{}) {
		return "the CNI plugin is not installed yet"
	}
	if s.Message == "" {
		return "the CNI plugin is not installed: " + string(s.Reason)
	}
	return s.Message
}
