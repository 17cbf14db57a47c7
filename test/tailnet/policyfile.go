package tailnet

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/tailscale/hujson"
	"tailscale.com/tailcfg"
)

// policyFile is what this tailnet knows of a policy file (https://tailscale.com/docs/reference/syntax/policy-file). What "via" of
// a grant wants is checked and not done: a prefix has one router here.
type policyFile struct {
	Grants        []fileGrant         `json:"grants"`
	TagOwners     map[string][]string `json:"tagOwners"`
	AutoApprovers struct {
		Routes   map[string][]string `json:"routes"`
		ExitNode []string            `json:"exitNode"`
	} `json:"autoApprovers"`
	NodeAttrs []struct {
		Target []string                                        `json:"target"`
		Attr   []tailcfg.NodeCapability                        `json:"attr"`
		App    map[tailcfg.NodeCapability][]tailcfg.RawMessage `json:"app"`
	} `json:"nodeAttrs"`

	grants  policy
	targets [][]selector // of NodeAttrs
	routes  map[netip.Prefix][]string
}

// fileGrant is a grant of a policy file. Via are tags of the routers by which sources are to reach destinations.
type fileGrant struct {
	Grant
	Via []string `json:"via"`
}

// SetPolicy replaces the policy file, in HuJSON: grants, tag owners, auto approvers and node attributes. One that cannot be
// understood changes nothing.
func (t *Tailnet) SetPolicy(text []byte) error {
	p, err := parsePolicy(text)
	if err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.file, t.fileText, t.grants = p, slices.Clone(text), p.grants
	for _, n := range t.nodes {
		t.autoApproveLocked(n)
	}
	t.changedLocked()
	return nil
}

func parsePolicy(text []byte) (*policyFile, error) {
	std, err := hujson.Standardize(slices.Clone(text))
	if err != nil {
		return nil, err
	}
	p := &policyFile{routes: map[netip.Prefix][]string{}}
	d := json.NewDecoder(strings.NewReader(string(std)))
	d.DisallowUnknownFields()
	if err := d.Decode(p); err != nil {
		return nil, err
	}
	for i, g := range p.Grants {
		r, err := parseGrant(g.Grant)
		if err != nil {
			return nil, fmt.Errorf("grant %d: %w", i+1, err)
		}
		p.grants = append(p.grants, r)
		if err := p.defined(slices.Concat(g.Src, g.Dst, g.Via)...); err != nil {
			return nil, fmt.Errorf("grant %d: %w", i+1, err)
		}
	}
	for text, who := range p.AutoApprovers.Routes {
		r, err := netip.ParsePrefix(text)
		if err == nil {
			err = p.defined(who...)
		}
		if err != nil {
			return nil, fmt.Errorf("autoApprovers: %w", err)
		}
		p.routes[r] = who
	}
	if err := p.defined(p.AutoApprovers.ExitNode...); err != nil {
		return nil, fmt.Errorf("autoApprovers: %w", err)
	}
	for i, a := range p.NodeAttrs {
		var to []selector
		for _, s := range a.Target {
			sel, err := parseSelector(s)
			if err != nil {
				return nil, fmt.Errorf("nodeAttrs %d: %w", i+1, err)
			}
			to = append(to, sel)
		}
		p.targets = append(p.targets, to)
	}
	return p, nil
}

// defined checks that tags have owners, as the real one does.
func (p *policyFile) defined(names ...string) error {
	for _, name := range names {
		if _, ok := p.TagOwners[name]; strings.HasPrefix(name, "tag:") && !ok {
			return fmt.Errorf("tag not found: %q", name)
		}
	}
	return nil
}

// autoApproveLocked approves what the policy file lets a node route without anybody's doing.
func (t *Tailnet) autoApproveLocked(n *node) {
	if t.opts.AutoApprove {
		n.approved = sortedPrefixes(n.advertised())
	}
	if t.file == nil {
		return
	}
	tagged := func(who []string) bool {
		return slices.ContainsFunc(who, func(tag string) bool { return slices.Contains(n.tags, tag) })
	}
	approved := slices.Clone(n.approved)
	for _, p := range n.advertised() {
		ok := isDefault(p) && tagged(t.file.AutoApprovers.ExitNode)
		for r, who := range t.file.routes {
			ok = ok || !isDefault(p) && r.Bits() <= p.Bits() && r.Contains(p.Addr()) && tagged(who)
		}
		if ok {
			approved = append(approved, p)
		}
	}
	n.approved = sortedPrefixes(approved)
}

// attrsLocked are the attributes that a node was given, and those of the policy file.
func (t *Tailnet) attrsLocked(n *node) tailcfg.NodeCapMap {
	if t.file == nil {
		return n.attrs
	}
	all := maps.Clone(n.attrs)
	if all == nil {
		all = tailcfg.NodeCapMap{}
	}
	for i, a := range t.file.NodeAttrs {
		if !slices.ContainsFunc(t.file.targets[i], func(s selector) bool { return s.matches(n) }) {
			continue
		}
		for _, name := range a.Attr {
			all[name] = nil
		}
		maps.Copy(all, a.App)
	}
	return all
}

// ownedLocked are the tags that a client may give beside its own: with a policy file, those that its tags own; one without tags
// is the organization's, and may give all.
func (t *Tailnet) ownedLocked(c *oauthClient) []string {
	if t.file == nil {
		return c.Owns
	}
	var owned []string
	for tag, owners := range t.file.TagOwners {
		if len(c.Tags) == 0 || slices.ContainsFunc(owners, func(o string) bool { return slices.Contains(c.Tags, o) }) {
			owned = append(owned, tag)
		}
	}
	return owned
}

// maxPolicy bounds a policy file, in bytes.
const maxPolicy = 1 << 20

func (t *Tailnet) postPolicy(_ *token, r *http.Request) (any, *apiError) {
	text, err := io.ReadAll(http.MaxBytesReader(nil, r.Body, maxPolicy))
	if err == nil {
		err = t.SetPolicy(text)
	}
	if err != nil {
		return nil, &apiError{http.StatusBadRequest, err.Error()}
	}
	return t.getPolicy(nil, nil)
}

func (t *Tailnet) getPolicy(*token, *http.Request) (any, *apiError) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == nil {
		return nil, notFound("this test tailnet has no policy file; its grants were set otherwise")
	}
	std, err := hujson.Standardize(slices.Clone(t.fileText))
	if err != nil {
		return nil, &apiError{http.StatusInternalServerError, err.Error()}
	}
	return json.RawMessage(std), nil
}
