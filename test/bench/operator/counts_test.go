//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rajsinghtech/tailgate/test/bench/internal/metrics"
)

// Lines as kube-apiserver writes them, shortened.
const (
	started   = `{"kind":"Event","stage":"ResponseStarted","verb":"watch","objectRef":{"resource":"nodes","apiVersion":"v1"}}` + "\n"
	completed = `{"kind":"Event","stage":"ResponseComplete","verb":"watch","objectRef":{"resource":"nodes","apiVersion":"v1"}}` + "\n"
	status    = `{"stage":"ResponseComplete","verb":"patch","objectRef":{"resource":"egressgroups","name":"a","subresource":"status"},"responseStatus":{"code":200}}` + "\n"
	lease     = `{"stage":"ResponseComplete","verb":"update","objectRef":{"resource":"leases","namespace":"n"}}` + "\n"
	get       = `{"stage":"ResponseComplete","verb":"get","objectRef":{"resource":"secrets"}}` + "\n"
	list      = `{"stage":"ResponseComplete","verb":"list","objectRef":{"resource":"pods"}}` + "\n"
	version   = `{"stage":"ResponseComplete","verb":"get","requestURI":"/version"}` + "\n"
	remove    = `{"stage":"ResponseComplete","verb":"delete","objectRef":{"resource":"egressgateways"}}` + "\n"
)

func TestTally(t *testing.T) {
	got := tally{}
	if err := got.add([]byte(started + completed + status + status + lease + get + list + version + remove)); err != nil {
		t.Fatal(err)
	}
	want := tally{
		"watch nodes": 1, "patch egressgroups/status": 2, "update leases": 1, "get secrets": 1, "list pods": 1,
		"get " + discovery: 1, "delete egressgateways": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("counts (-want +got):\n%s", diff)
	}
	sums := [5]int{got.total(), got.writes(), got.reads(), got.watches(), got.leases()}
	if diff := cmp.Diff([5]int{8, 3, 3, 1, 1}, sums); diff != "" {
		t.Errorf("total, writes, reads, watches, leases (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(tally{"watch nodes": 1, "patch egressgroups/status": 1, "get secrets": 1, "get (discovery)": 1, "delete egressgateways": 1},
		got.minus(tally{"patch egressgroups/status": 1, "update leases": 1, "list pods": 1})); diff != "" {
		t.Errorf("difference (-want +got):\n%s", diff)
	}
	if got, want := (tally{"get a": 1, "patch b": 3, "get c": 1}).String(), "3 patch b, 1 get a, 1 get c"; got != want {
		t.Errorf("written %q, want %q", got, want)
	}
	if err := got.add([]byte("no JSON\n")); err == nil {
		t.Error("a line that is no JSON was taken")
	}
}

// TestAudit follows a file whose last line is not written to its end yet.
func TestAudit(t *testing.T) {
	a := &audit{path: filepath.Join(t.TempDir(), "audit.log"), counts: tally{}}
	for _, step := range []struct {
		text string // of the whole file
		want tally
	}{
		{get + status[:20], tally{"get secrets": 1}},
		{get + status, tally{"get secrets": 1, "patch egressgroups/status": 1}},
		{get + status, tally{"get secrets": 1, "patch egressgroups/status": 1}},
		{get + status + get, tally{"get secrets": 2, "patch egressgroups/status": 1}},
	} {
		if err := os.WriteFile(a.path, []byte(step.text), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := a.read()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("counts (-want +got):\n%s", diff)
		}
	}
}

const exposition = `# HELP rest_client_requests_total Number of HTTP requests.
# TYPE rest_client_requests_total counter
rest_client_requests_total{code="200",host="127.0.0.1:6443",method="GET"} 12
rest_client_requests_total{code="200",host="127.0.0.1:6443",method="PATCH"} 5
rest_client_requests_total{code="409",host="127.0.0.1:6443",method="PATCH"} 2
rest_client_requests_total{code="200",host="127.0.0.1:6443",method="PUT"} 3
# TYPE workqueue_depth gauge
workqueue_depth{controller="node",name="node",priority="0"} 0
# TYPE controller_runtime_active_workers gauge
controller_runtime_active_workers{controller="node"} 0
# TYPE controller_runtime_reconcile_total counter
controller_runtime_reconcile_total{controller="node",result="success"} 40
controller_runtime_reconcile_total{controller="egressgroup",result="success"} 30
controller_runtime_reconcile_total{controller="egressgroup",result="error"} 1
# TYPE tailgate_operator_tailnet_request_seconds histogram
tailgate_operator_tailnet_request_seconds_bucket{op="mint",reason="",le="0.05"} 3
tailgate_operator_tailnet_request_seconds_bucket{op="mint",reason="",le="+Inf"} 4
tailgate_operator_tailnet_request_seconds_sum{op="mint",reason=""} 1.5
tailgate_operator_tailnet_request_seconds_count{op="mint",reason=""} 4
`

func TestMetrics(t *testing.T) {
	m, err := metrics.Parse(strings.NewReader(exposition))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{metricRequests, nil, 22},
		{metricRequests, []string{"method", "PATCH"}, 7},
		{metricRequests, []string{"method", "PATCH", "code", "409"}, 2},
		{metricRequests, []string{"method", "DELETE"}, 0},
		{metricReconciles, []string{"controller", "egressgroup"}, 31},
		{metricTailnet, nil, 4},
		{"absent", nil, 0},
	} {
		if got := m.Sum(tc.name, tc.labels...); got != tc.want {
			t.Errorf("%s %v is %v, want %v", tc.name, tc.labels, got, tc.want)
		}
	}
	if busy(m) {
		t.Error("it is busy with nothing")
	}
	if got := beat(m); got != 90 {
		t.Errorf("the lease counts as work: %v, want 90", got)
	}
	for _, line := range []string{`depth{controller="node",name="node",priority="0"}`, ``} {
		text := strings.Replace(exposition, `workqueue_`+line+" 0", `workqueue_`+line+" 1", 1)
		if line == "" {
			text = strings.Replace(exposition, `active_workers{controller="node"} 0`, `active_workers{controller="node"} 1`, 1)
		}
		m, err := metrics.Parse(strings.NewReader(text))
		if err != nil || !busy(m) {
			t.Errorf("it is not busy with something: %v\n%s", err, text)
		}
	}
	if _, err := metrics.Parse(strings.NewReader("{ no metrics")); err == nil {
		t.Error("what is no metrics was taken")
	}
}
