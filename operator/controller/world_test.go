package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/rajsinghtech/tailgate/internal/permission"
	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/controller"
	"github.com/rajsinghtech/tailgate/operator/render"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
	"github.com/rajsinghtech/tailgate/test/kubetest"
	testtailnet "github.com/rajsinghtech/tailgate/test/tailnet"
)

// serverOptions turn on the admission plugin that asks for permission to own what blocks a deletion.
var serverOptions = kubetest.Options{CRDs: true, Flags: map[string]string{
	"enable-admission-plugins": "OwnerReferencesPermissionEnforcement",
}}

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard()) // each manager has its own
	kubetest.Main(m, serverOptions)
}

const (
	credentialsName = "tailgate-tailnet-creds"
	image           = "tailgate.test/gateway:v1"
	patience        = 30 * time.Second
	beat            = 10 * time.Millisecond
)

// world is a cluster and a tailnet. The cluster is real as far as the API server goes; [cluster] plays the rest.
type world struct {
	*testing.T
	env     *kubetest.Env
	client  client.WithWatch
	ns      string
	tailnet *testtailnet.Tailnet
	oauth   testtailnet.OAuthClient
	clock   *clocktesting.FakePassiveClock
	cluster *cluster
	log     *logBuffer
	// requests are those of all operators of this world.
	requests *requests
	secrets  []string
}

// newWorld is a world with credentials whose OAuth client owns every tag that tests use.
func newWorld(t *testing.T) *world {
	t.Helper()
	tn, err := testtailnet.Start(context.WithoutCancel(t.Context()), testtailnet.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tn.Close)
	return newWorldIn(t, kubetest.Shared(t), tn)
}

func newWorldIn(t *testing.T, env *kubetest.Env, tn *testtailnet.Tailnet) *world {
	t.Helper()
	w := &world{
		T: t, env: env, client: env.Client, tailnet: tn, ns: env.Namespace(),
		clock: clocktesting.NewFakePassiveClock(time.Now()), log: &logBuffer{}, requests: &requests{},
	}
	w.oauth = w.newOAuthClient("tag:egress-*")
	w.writeCredentials(w.oauth)
	w.grant()
	w.cluster = startCluster(w)
	t.Cleanup(w.sweep)
	t.Cleanup(w.checkSecrets)
	return w
}

// newOAuthClient makes a client that owns these tags; tag:egress-* stands for those of this test's groups.
func (w *world) newOAuthClient(tags ...string) testtailnet.OAuthClient {
	var owns []string
	for _, tag := range tags {
		if tag == "tag:egress-*" {
			owns = append(owns, groupTags()...)
			continue
		}
		owns = append(owns, tag)
	}
	c := w.tailnet.CreateOAuthClient(testtailnet.OAuthOptions{
		Scopes: []string{"auth_keys", "devices:core"}, Tags: []string{"tag:operator"}, Owns: owns,
	})
	w.secrets = append(w.secrets, c.Secret)
	return c
}

// groupTags are the default tags of every group name that tests use.
func groupTags() []string {
	names := []string{"payments", "peers", "a.b", "a-b", "new", longName}
	for i := range 100 {
		names = append(names, fmt.Sprintf("group-%03d", i), fmt.Sprintf("cut-%03d", i))
	}
	tags := make([]string, len(names))
	for i, n := range names {
		tags[i] = v1alpha1.DefaultTag(n)
	}
	return tags
}

// longName is a group's name of 253 characters.
var longName = strings.Repeat("long.name-", 25) + "end"

func (w *world) writeCredentials(c testtailnet.OAuthClient) {
	w.Helper()
	w.writeCredentialsData(map[string]string{
		tailnet.KeyTailnet: "-", tailnet.KeyClientID: c.ID, tailnet.KeyClientSecret: c.Secret + "\n",
	})
}

func (w *world) writeCredentialsData(data map[string]string) {
	w.Helper()
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: w.ns, Name: credentialsName}}
	w.must(client.IgnoreNotFound(w.client.Get(w.ctx(), client.ObjectKeyFromObject(s), s)))
	s.Data, s.StringData = nil, data
	if s.ResourceVersion == "" {
		w.must(w.client.Create(w.ctx(), s))
		return
	}
	w.must(w.client.Update(w.ctx(), s))
}

func (w *world) ctx() context.Context { return context.WithoutCancel(w.env.Context) }

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// account is the user name of the operator's service account.
func (w *world) account() string { return "system:serviceaccount:" + w.ns + ":tailgate-operator" }

// grant gives the account the operator's permissions and no others.
func (w *world) grant() {
	w.Helper()
	subject := []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: w.account()}}
	name := metav1.ObjectMeta{Name: w.ns + "-operator", Namespace: w.ns}
	everywhere := metav1.ObjectMeta{Name: name.Name}
	for _, o := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: everywhere, Rules: permission.Rules(controller.ClusterPermissions())},
		&rbacv1.ClusterRoleBinding{ObjectMeta: everywhere, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name.Name}},
		&rbacv1.Role{ObjectMeta: name, Rules: permission.Rules(controller.NamespacePermissions())},
		&rbacv1.RoleBinding{ObjectMeta: name, Subjects: subject, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name.Name}},
	} {
		w.must(w.client.Create(w.ctx(), o))
	}
}

// operator is a running operator.
type operator struct {
	w      *world
	cancel context.CancelFunc
	done   chan error
}

// settings change an operator from the usual.
type settings struct {
	options   func(*controller.Options)
	manager   controller.ManagerOptions
	transport func(*requests) *requests // nil: requests are recorded
}

// operator starts an operator as the service account; it ends with the test at the latest.
func (w *world) operator(change ...func(*settings)) *operator {
	w.Helper()
	var s settings
	for _, c := range change {
		c(&s)
	}
	o := controller.Options{
		Render:            render.Options{Namespace: w.ns, Image: image},
		CredentialsSecret: credentialsName,
		Clock:             w.clock,
		Connect:           w.connect,
	}
	if s.options != nil {
		s.options(&o)
	}
	// A step below debug, which tells of every reconcile; three more would tell what was sent.
	handler := slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug - 1})
	s.manager.Logger = logr.FromSlogHandler(handler)
	recorder := w.requests
	if s.transport != nil {
		recorder = s.transport(recorder)
	}
	cfg := rest.CopyConfig(w.env.User(w.account()))
	cfg.Wrap(recorder.wrap)
	ctx, cancel := context.WithCancel(w.ctx())
	mgr, err := controller.NewManager(ctx, cfg, o, s.manager)
	if err != nil {
		cancel()
		w.Fatal(err)
	}
	op := &operator{w: w, cancel: cancel, done: make(chan error, 1)}
	go func() { op.done <- mgr.Start(ctx) }()
	w.Cleanup(op.stop)
	return op
}

// connect is what the operator of the real main does, with less patience.
func (w *world) connect(c tailnet.Credentials) (controller.Tailnet, error) {
	return tailnet.New(tailnet.Options{Credentials: c, BaseURL: w.tailnet.APIURL(), Timeout: 500 * time.Millisecond, Logger: slog.New(slog.NewTextHandler(w.log, nil))})
}

// stop ends the operator and waits for it.
func (o *operator) stop() {
	o.cancel()
	select {
	case err := <-o.done:
		if err != nil {
			o.w.Errorf("operator: %v\nlog:\n%s", err, o.w.log.tail())
		}
		o.done <- nil
	case <-time.After(patience):
		o.w.Error("the operator does not end")
	}
}

// until waits until the condition returns "", or fails with what it returned last.
func (w *world) until(what string, missing func() string) {
	w.Helper()
	var last string
	err := wait.PollUntilContextTimeout(w.ctx(), beat, patience, true, func(context.Context) (bool, error) {
		last = missing()
		return last == "", nil
	})
	if err != nil {
		w.Fatalf("%s: %s\nlog:\n%s", what, last, w.log.tail())
	}
}
