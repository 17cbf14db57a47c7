package controller_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// TestCrash makes an operator die at each of its writes, to Kubernetes and to the tailnet, first
// while it makes groups and then while it takes them away; another operator finishes the work. For each group it
// dies at another write, which happens, but whose answer is lost.
func TestCrash(t *testing.T) {
	w := newWorld(t)
	all := make([]string, 15) // more than there are writes
	for i := range all {
		all[i] = fmt.Sprintf("cut-%03d", i)
		w.node("node-" + all[i])
	}

	making := newDeath(w, all)
	op := w.operator(making.operate)
	for _, name := range all {
		w.create(group(name))
		w.announce(name, "node-"+name)
	}
	making.await(t)
	op.stop()
	op = w.operator()
	for _, name := range all {
		w.condition(name, v1alpha1.ConditionReady, controller.ReasonReady)
	}
	w.revokeLost(all)
	for _, name := range all {
		device := w.login(w.key(name, "").Key, name)
		gw := &v1alpha1.EgressGateway{}
		w.get(gw, v1alpha1.GatewayName(name, "node-"+name))
		w.report(gw, func(s *v1alpha1.EgressGatewayStatus) {
			s.DeviceID, s.Tags = string(device.StableID), device.Tags
			s.Conditions = []metav1.Condition{}
		})
	}
	op.stop()

	taking := newDeath(w, all)
	op = w.operator(taking.operate)
	for _, name := range all {
		w.must(w.client.Delete(w.ctx(), group(name)))
	}
	taking.await(t)
	op.stop()
	w.operator()
	for _, name := range all {
		w.gone(name)
	}
}

// revokeLost revokes keys that nobody knows of, because the operator died between minting and writing. There is
// no way around these, but that they expire.
func (w *world) revokeLost(groups []string) {
	w.Helper()
	var known []string
	for _, name := range groups {
		known = append(known, w.key(name, "").ID)
	}
	lost := 0
	for _, id := range w.validKeys() {
		if !slices.Contains(known, id) {
			w.tailnet.RevokeKey(id)
			lost++
		}
	}
	if lost > 2 {
		w.Errorf("%d keys were lost", lost)
	}
}

// death makes writes for a group fail from one of them on, as if the operator had died.
type death struct {
	w *world

	mu   sync.Mutex
	left map[string]int // writes until death
	dead map[string]bool
}

// newDeath lets the operator die at the first write for the first group, the second one for the second, and so on.
func newDeath(w *world, groups []string) *death {
	d := &death{w: w, left: map[string]int{}, dead: map[string]bool{}}
	for i, name := range groups {
		d.left[name] = i
	}
	return d
}

func (d *death) operate(s *settings) {
	s.transport = func(*requests) *requests { return &requests{intercept: d.intercept} }
	s.options = func(o *controller.Options) {
		o.Connect = func(c tailnet.Credentials) (controller.Tailnet, error) {
			api, err := d.w.connect(c)
			return &mortalTailnet{api, d}, err
		}
	}
}

var errDead = errors.New("the operator is dead")

// strike does something for a group unless the operator is dead for it. It may be afterwards.
func (d *death) strike(group string, write bool, do func() error) error {
	d.mu.Lock()
	if d.dead[group] {
		d.mu.Unlock()
		return errDead
	}
	dies := write && d.left[group] == 0
	if write {
		d.left[group]--
	}
	d.dead[group] = dies
	d.mu.Unlock()
	err := do()
	if dies {
		return errDead
	}
	return err
}

var groupName = regexp.MustCompile(`cut-\d{3}`)

func (d *death) intercept(req *http.Request, body []byte, next http.RoundTripper) (*http.Response, error) {
	name := groupName.FindString(req.URL.Path + "?" + req.URL.RawQuery + string(body))
	if name == "" || strings.Contains(req.URL.Path, "/events") {
		return next.RoundTrip(req)
	}
	var res *http.Response
	err := d.strike(name, req.Method != http.MethodGet, func() (err error) {
		res, err = next.RoundTrip(req) //nolint:bodyclose // the caller does, or it is closed below
		return err
	})
	if err != nil && res != nil {
		return nil, errors.Join(err, res.Body.Close())
	}
	return res, err
}

// await waits until every group is dead or done. Some are done: else there would be more writes than deaths.
func (d *death) await(t *testing.T) {
	t.Helper()
	alive := 0
	d.w.until("deaths", func() string {
		d.mu.Lock()
		defer d.mu.Unlock()
		alive = 0
		for name := range d.left {
			if d.dead[name] {
				continue
			}
			alive++
			if g := d.w.getGroup(name); g != nil && (g.DeletionTimestamp != nil || g.Status.Gateways.Ready == 0) {
				return name + " is neither dead nor done"
			}
		}
		return ""
	})
	if alive == 0 {
		t.Error("there are more writes than deaths")
	}
	t.Logf("%d groups died, %d were done before", len(d.left)-alive, alive)
}

// mortalTailnet is the tailnet's API for an operator that dies.
type mortalTailnet struct {
	controller.Tailnet
	d *death
}

func (m *mortalTailnet) MintKey(ctx context.Context, r tailnet.KeyRequest) (key tailnet.Key, err error) {
	err = m.d.strike(groupName.FindString(r.Tags[0]), true, func() error {
		key, err = m.Tailnet.MintKey(ctx, r)
		return err
	})
	return key, err
}

func (m *mortalTailnet) RevokeKey(ctx context.Context, id string) error {
	name := ""
	for _, k := range m.d.w.tailnet.Keys() {
		if k.ID == id {
			name = groupName.FindString(k.Tags[0])
		}
	}
	return m.d.strike(name, true, func() error { return m.Tailnet.RevokeKey(ctx, id) })
}

func (m *mortalTailnet) DeleteDevice(ctx context.Context, id string) error {
	name := ""
	for _, n := range m.d.w.tailnet.Nodes() {
		if string(n.StableID) == id {
			name = groupName.FindString(n.Tags[0])
		}
	}
	return m.d.strike(name, true, func() error { return m.Tailnet.DeleteDevice(ctx, id) })
}
