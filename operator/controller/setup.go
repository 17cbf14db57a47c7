package controller

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/rajsinghtech/tailgate/operator/api/v1alpha1"
	"github.com/rajsinghtech/tailgate/operator/render"
	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// FieldManager is the name under which the operator writes (server-side apply).
const FieldManager = "tailgate-operator"

// Tailnet is the tailnet's API. [*tailnet.Client] is one; a limit on calls while it fails is another.
type Tailnet interface {
	MintKey(context.Context, tailnet.KeyRequest) (tailnet.Key, error)
	RevokeKey(ctx context.Context, id string) error
	DeviceTags(ctx context.Context, id string) ([]string, error)
	DeleteDevice(ctx context.Context, id string) error
	SetTags(ctx context.Context, deviceID string, tags []string) error
	// Close lets go of idle connections.
	Close()
}

// Options configure the controllers.
type Options struct {
	// Render says where objects are made and how gateways run; its namespace is tailgate's. Needed.
	Render render.Options
	// CredentialsSecret is the name of the Secret with the tailnet's credentials. Needed.
	CredentialsSecret string
	// Connect returns the API as seen with those credentials. Needed. It is called when they change
	// and must not wait for the network.
	Connect func(tailnet.Credentials) (Tailnet, error)
	// Cluster tells this cluster from others in the same tailnet, in descriptions of keys. Needed.
	Cluster string
	// KeyLifetime is how long auth keys last; they are renewed at half of it. 0: 24 hours.
	KeyLifetime time.Duration
	// CleanupTimeout is how long deletions wait for a tailnet API, or a node, that does not answer.
	// 0: an hour.
	CleanupTimeout time.Duration
	// Workers is how many objects of a kind are reconciled at a time; 0: 4.
	Workers int
	// Clock is what renewal, revocation and giving up go by; nil: the real one.
	Clock clock.PassiveClock
	// Metrics count what happens; nil: nothing does.
	Metrics *Metrics
}

// shared is what the controllers have in common.
type shared struct {
	Options
	client   client.Client // reads from the cache, writes to the server
	live     client.Reader // reads from the server
	recorder *recorder
	creds    *credentials
	cleanups *cleanups
	log      logr.Logger
}

// Setup adds the controllers to a manager, whose cache has [CacheOptions] and whose scheme knows
// core/v1, apps/v1 and v1alpha1.
func Setup(ctx context.Context, mgr manager.Manager, o Options) error {
	if err := o.fill(); err != nil {
		return err
	}
	creds, err := newCredentials(mgr, o)
	if err != nil {
		return err
	}
	writer := client.WithFieldOwner(mgr.GetClient(), FieldManager)
	s := &shared{
		Options:  o,
		client:   writer,
		live:     mgr.GetAPIReader(),
		recorder: newRecorder(writer, mgr.GetLogger()),
		creds:    creds,
		cleanups: &cleanups{},
		log:      mgr.GetLogger(),
	}
	if err := mgr.Add(s.recorder); err != nil {
		return fmt.Errorf("set up events: %w", err)
	}
	if err := index(ctx, mgr.GetFieldIndexer()); err != nil {
		return err
	}
	for _, add := range []func(manager.Manager) error{s.addGroups, s.addGateways, s.addNodes} {
		if err := add(mgr); err != nil {
			return fmt.Errorf("set up controllers: %w", err)
		}
	}
	return nil
}

func (o *Options) fill() error {
	switch {
	case o.Render.Namespace == "":
		return errors.New("set up controllers: no namespace is given")
	case o.Render.Image == "":
		return errors.New("set up controllers: no gateway image is given")
	case o.CredentialsSecret == "", o.Connect == nil, o.Cluster == "":
		return errors.New("set up controllers: CredentialsSecret, Connect and Cluster are needed")
	}
	if o.KeyLifetime == 0 {
		o.KeyLifetime = 24 * time.Hour
	}
	if o.CleanupTimeout == 0 {
		o.CleanupTimeout = time.Hour
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Metrics == nil {
		o.Metrics = NewMetrics(nil)
	}
	return nil
}

// AddToScheme adds every kind that the operator reads or writes.
func AddToScheme(scheme *runtime.Scheme) error {
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, eventsv1.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	return nil
}

// options returns those of the controller of a kind: failures are tried again after 200 ms, twice that, and so on up to
// five minutes, each object by itself.
func (s *shared) options(kind string) controller.Options {
	return controller.Options{
		MaxConcurrentReconciles: s.Workers,
		RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](200*time.Millisecond, 5*time.Minute),
		NewQueue:                s.newQueue,
		ReconciliationTimeout:   2 * time.Minute,
		LogConstructor: func(req *reconcile.Request) logr.Logger {
			if req == nil {
				// Of watches that start and workers that end.
				return s.log.WithValues("controller", kind).V(1)
			}
			return s.log.WithValues(kind, req.Name)
		},
	}
}
