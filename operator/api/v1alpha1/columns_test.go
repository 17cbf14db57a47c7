package v1alpha1_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// TestColumns reads the tables that the server makes for kubectl: for "get", and in brackets what "-o wide" adds.
func TestColumns(t *testing.T) {
	env := kubetest.Shared(t)
	group := object(t, "EgressGroup", "columns", subnet(`10.0.0.0/8`))
	gateway := object(t, "EgressGateway", "columns", `{group: columns, node: node-1}`)
	ready := `conditions: [{type: Ready, status: "False", reason: NoGateway, message: No gateway runs., lastTransitionTime: "2026-01-01T00:00:00Z"}]`
	for o, status := range map[client.Object]string{
		group: `{memberPods: 12, gateways: {desired: 3, ready: 2}, exitNode: {id: n1CNTRL, name: exit.ts.net}, ` + ready + `}`,
		gateway: `{members: 4, backendState: Running, deviceID: n2CNTRL, configHash: 0123456789ab, exitNode: {name: exit.ts.net},
			addresses: [100.64.0.1, "fd7a:115c:a1e0::1"], ` + ready + `}`,
	} {
		if err := env.Client.Create(env.Context, o); err != nil {
			t.Fatal(err)
		}
		patch, err := json.Marshal(map[string]any{"status": object(t, "", "", status).Object["spec"]})
		if err != nil {
			t.Fatal(err)
		}
		if err := env.Client.Status().Patch(env.Context, o, client.RawPatch(types.MergePatchType, patch)); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ path, header, row string }{
		{
			"egressgroups/columns", "NAME MODE ATTACH PODS AGE [READY GATEWAYS DESIRED EXIT-NODE STATUS]",
			"columns subnet routed 12 AGE [False 2 3 exit.ts.net No-gateway-runs.]",
		},
		{
			"namespaces/default/egressgateways/columns", "NAME GROUP NODE STATE MEMBERS ADDRESS AGE [DEVICE EXIT-NODE CONFIG]",
			"columns columns node-1 Running 4 100.64.0.1 AGE [n2CNTRL exit.ts.net 0123456789ab]",
		},
	} {
		header, row := table(t, env, tt.path)
		if header != tt.header {
			t.Errorf("columns of %s are %s, want %s", tt.path, header, tt.header)
		}
		if row != tt.row {
			t.Errorf("row of %s is %s, want %s", tt.path, row, tt.row)
		}
	}
}

// table returns an object's columns and their values, as kubectl prints them but for spaces, which become dashes.
func table(t *testing.T, env *kubetest.Env, path string) (header, row string) {
	t.Helper()
	caller, err := rest.HTTPClientFor(env.Config)
	if err != nil {
		t.Fatal(err)
	}
	url := strings.TrimSuffix(env.Config.Host, "/") + "/apis/" + v1alpha1.GroupVersion.String() + "/" + path
	request, err := http.NewRequestWithContext(env.Context, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/json;as=Table;v=v1;g=meta.k8s.io")
	response, err := caller.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var got metav1.Table
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatal(err)
	}
	if len(got.Rows) != 1 {
		t.Fatalf("GET %s as a table: %s, %v", url, response.Status, got)
	}
	var names, cells []string
	bracket := ""
	for i, column := range got.ColumnDefinitions {
		cell := fmt.Sprint(got.Rows[0].Cells[i])
		if column.Name == "Age" {
			cell = "AGE" // whatever it is
		}
		if column.Priority > 0 && bracket == "" {
			bracket = "]"
			cell, column.Name = "["+cell, "["+column.Name
		}
		names = append(names, strings.ReplaceAll(strings.ToUpper(column.Name), " ", "-"))
		cells = append(cells, strings.ReplaceAll(cell, " ", "-"))
	}
	return strings.Join(names, " ") + bracket, strings.Join(cells, " ") + bracket
}

// TestGet prints what users see first.
func TestGet(t *testing.T) {
	env := kubetest.Shared(t)
	if err := env.Client.Create(env.Context, object(t, "EgressGroup", "get", all(``))); err != nil {
		t.Fatal(err)
	}
	out, err := env.Kubectl("", "get", "eg", "get")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out, "\n")
	if diff := cmp.Diff([]string{"NAME", "MODE", "ATTACH", "PODS", "AGE"}, strings.Fields(lines[0])); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
	if got := strings.Fields(lines[1]); len(got) != 5 || !slices.Equal(got[:4], []string{"get", "cgnat", "routed", "0"}) {
		t.Errorf("a new group is shown as %q", lines[1])
	}
}
