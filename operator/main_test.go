package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
	"github.com/rajsinghtech/tailgate/test/kubetest"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

func TestMain(m *testing.M) { kubetest.Main(m, kubetest.Options{CRDs: true}) }

func none(string) string { return "" }

func TestSettings(t *testing.T) {
	env := map[string]string{
		"POD_NAMESPACE": "tailgate-test", "GW_IMAGE": "gateway:v1",
		"TAILGATE_OPERATOR_AUTH_KEY_LIFETIME": "48h", "TAILGATE_OPERATOR_WORKERS": "9",
	}
	s, err := parse([]string{"--workers=7", "--gateway-pull-secrets=a, b,", "--log-level=debug-4"}, func(k string) string { return env[k] })
	if err != nil {
		t.Fatal(err)
	}
	got := []any{
		s.options.Render.Namespace, s.options.Render.Image, s.options.KeyLifetime, s.options.CleanupTimeout, s.options.Workers,
		s.options.Render.PullSecrets, s.options.Render.PriorityClass, s.leaderElect, s.apiURL, s.logLevel,
	}
	want := []any{
		"tailgate-test", "gateway:v1", 48 * time.Hour, time.Hour, 7,
		[]string{"a", "b"}, "system-node-critical", true, "https://api.tailscale.com",
		slog.LevelDebug, // lower ones would log what client-go sends, Secrets included
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}

func TestSettingsRefused(t *testing.T) {
	for flags, want := range map[string]string{
		"":                             "no gateway image is given; set --gateway-image or GW_IMAGE",
		"--tailnet-api-url=api":        `--tailnet-api-url "api" is no http or https URL; write one such as https://api.tailscale.com`,
		"--login-server=ftp://x":       `--login-server "ftp://x" is no http or https URL`,
		"--auth-key-lifetime=10m":      "--auth-key-lifetime 10m0s is not between 1h0m0s and 2160h0m0s (90 days); write one such as 24h",
		"--auth-key-lifetime=2161h":    "--auth-key-lifetime 2161h0m0s is not between",
		"--cleanup-timeout=0":          "--cleanup-timeout 0s is no time to wait",
		"--workers=0":                  "--workers 0 is not between 1 and 100",
		"--gateway-pull-policy=always": `--gateway-pull-policy "always" is not known; write Always, IfNotPresent, Never, or nothing`,
		"--log-level=loud":             "log-level",
		"--no-such-flag":               "--help lists the flags",
		"tailgate-system":              `unexpected argument "tailgate-system"`,
	} {
		args := strings.Fields(flags)
		if flags != "" && !strings.HasPrefix(flags, "--gateway-image") {
			args = append([]string{"--gateway-image=gateway:v1"}, args...)
		}
		if _, err := parse(args, none); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flags, err, want)
		}
	}
	if err := run(t.Context(), []string{"--gateway-image=x", "--log-format=xml"}); err == nil || !strings.Contains(err.Error(), "write text or json") {
		t.Errorf("log format: %v", err)
	}
}

func TestHelpAndVersion(t *testing.T) {
	text := output(t, func() {
		if err := run(t.Context(), []string{"--help"}); !errors.Is(err, flag.ErrHelp) {
			t.Errorf("--help: %v", err)
		}
	})
	for _, want := range []string{"kubectl explain eg", credentialsSecret, "--cleanup-timeout", "$TAILGATE_OPERATOR_WORKERS", "default 24h0m0s"} {
		if !strings.Contains(text, want) {
			t.Errorf("--help does not say %q", want)
		}
	}
	text = output(t, func() {
		if err := run(t.Context(), []string{"--version"}); err != nil {
			t.Error(err)
		}
	})
	if len(strings.Fields(text)) != 1 {
		t.Errorf("--version: %q", text)
	}
}

// output returns what f writes to standard output.
func output(t *testing.T, f func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	read := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		read <- string(text)
	}()
	f()
	w.Close()
	return <-read
}

// TestRun runs the whole program, with leader election, beside a cluster and a tailnet.
func TestRun(t *testing.T) {
	env := kubetest.Shared(t)
	tn, err := testtailnet.Start(t.Context(), testtailnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	ns := env.Namespace()
	oauth := tn.CreateOAuthClient(testtailnet.OAuthOptions{Owns: []string{"tag:egress-payments"}})
	create(t, env, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: credentialsSecret}, StringData: map[string]string{
		tailnet.KeyTailnet: "-", tailnet.KeyClientID: oauth.ID, tailnet.KeyClientSecret: oauth.Secret,
	}})
	create(t, env, &v1alpha1.EgressGroup{
		ObjectMeta: metav1.ObjectMeta{Name: "payments"},
		Spec:       v1alpha1.EgressGroupSpec{Selector: v1alpha1.Selector{PodSelector: &v1alpha1.LabelSelector{}}},
	})
	kubeconfig, err := env.Kubectl("", "config", "view", "--raw", "--flatten")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(kubeconfig), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
	health, metrics := freeAddr(t), freeAddr(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- run(ctx, []string{
			"--namespace=" + ns, "--gateway-image=gateway:v1", "--tailnet-api-url=" + tn.APIURL(),
			"--health-addr=" + health, "--metrics-addr=" + metrics,
		})
	}()
	until(t, "ready", func() string { return want(t, "http://"+health+"/readyz", "ok") })
	until(t, "an auth key", func() string {
		if len(tn.Keys()) == 0 {
			return "none is minted"
		}
		return ""
	})
	until(t, "healthy", func() string { return want(t, "http://"+health+"/healthz", "ok") })
	until(t, "metrics", func() string {
		return want(t, "http://"+metrics+"/metrics", `tailgate_operator_auth_keys_minted_total{reason="KeyMissing"} 1`)
	})
	until(t, "metrics of the API", func() string {
		return want(t, "http://"+metrics+"/metrics", `tailgate_operator_tailnet_request_seconds_count{op="mint_key",reason=""} 1`)
	})
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("run: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("it does not end")
	}
	lease := &coordinationv1.Lease{}
	if err := env.Client.Get(t.Context(), client.ObjectKey{Namespace: ns, Name: controller.LeaseName}, lease); err != nil {
		t.Fatal(err)
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" {
		t.Errorf("the lease is still held by %s", *holder)
	}
}

func create(t *testing.T, env *kubetest.Env, o client.Object) {
	t.Helper()
	if err := env.Client.Create(t.Context(), o); err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// want returns "" if the page has the text.
func want(t *testing.T, url, text string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	switch {
	case err != nil:
		return err.Error()
	case res.StatusCode != http.StatusOK || !strings.Contains(string(body), text):
		return fmt.Sprintf("%s: %.2000s", res.Status, body)
	}
	return ""
}

func until(t *testing.T, what string, missing func() string) {
	t.Helper()
	var last string
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, 30*time.Second, true, func(context.Context) (bool, error) {
		last = missing()
		return last == "", nil
	})
	if err != nil {
		t.Fatalf("%s: %s", what, last)
	}
}
