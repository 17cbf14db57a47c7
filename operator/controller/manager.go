package controller

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	coordinationv1 "k8s.io/client-go/kubernetes/typed/coordination/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// Leader election. A leader that ends gives the lease back, so these only bound how long a crashed one is waited for, and, when
// tailgate is installed again at once, one that could not give it back: Helm takes its permissions away first.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 3 * time.Second
)

// ManagerOptions are about the process that the controllers run in.
type ManagerOptions struct {
	// LeaderElection lets one of several operators work at a time; the others keep their caches
	// warm.
	LeaderElection bool
	// MetricsAddr and HealthAddr are where /metrics, and /healthz and /readyz, are served; "": nowhere.
	MetricsAddr, HealthAddr string
	// Logger is what the manager and the controllers log to.
	Logger logr.Logger
}

// NewManager returns a manager with the controllers set up, to be started. It asks the server for the kinds that
// it serves, and for the cluster's identity if o.Cluster is empty: the UID of the namespace kube-system.
func NewManager(ctx context.Context, cfg *rest.Config, o Options, m ManagerOptions) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := AddToScheme(scheme); err != nil {
		return nil, fmt.Errorf("register kinds: %w", err)
	}
	cfg = rest.CopyConfig(cfg)
	// Workers bound what is under way, and the server has its own priority and fairness.
	cfg.QPS = -1
	yes, grace := true, 20*time.Second // Kubernetes kills after 30
	opts := manager.Options{
		Scheme:                        scheme,
		Cache:                         CacheOptions(o.Render.Namespace),
		Logger:                        m.Logger,
		Metrics:                       server.Options{BindAddress: orNone(m.MetricsAddr)},
		HealthProbeBindAddress:        orNone(m.HealthAddr),
		GracefulShutdownTimeout:       &grace,
		LeaderElection:                m.LeaderElection,
		LeaderElectionReleaseOnCancel: true, // main ends when the manager does
		LeaseDuration:                 duration(leaseDuration),
		RenewDeadline:                 duration(renewDeadline),
		RetryPeriod:                   duration(retryPeriod),
		Controller: config.Controller{
			EnableWarmup: &yes,
			// Names are given here only; tests have several managers in a process.
			SkipNameValidation: &yes,
		},
	}
	if m.LeaderElection {
		lock, err := newLock(cfg, o.Render.Namespace)
		if err != nil {
			return nil, err
		}
		opts.LeaderElectionResourceLockInterface = lock
	}
	mgr, err := manager.New(cfg, opts)
	if err != nil {
		return nil, fmt.Errorf("prepare controllers: %w", err)
	}
	if o.Cluster == "" {
		if o.Cluster, err = identity(ctx, mgr.GetAPIReader()); err != nil {
			return nil, err
		}
	}
	if err := Setup(ctx, mgr, o); err != nil {
		return nil, err
	}
	return mgr, errors.Join(mgr.AddHealthzCheck("ping", healthz.Ping), mgr.AddReadyzCheck("synced", synced(mgr.GetCache())))
}

// orNone is addr as the manager wants it: 0 is no address.
func orNone(addr string) string {
	if addr == "" {
		return "0"
	}
	return addr
}

func duration(d time.Duration) *time.Duration { return &d }

// newLock returns the Lease of the leader. The manager would make one that also writes events of the old API,
// which nobody needs and which would take another permission.
func newLock(cfg *rest.Config, namespace string) (resourcelock.Interface, error) {
	cfg = rest.AddUserAgent(rest.CopyConfig(cfg), "leader-election") // which changes what it is given
	cfg.Timeout = renewDeadline / 2                                  // one request that hangs is not the end of the lease
	leases, err := coordinationv1.NewForConfig(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare leader election: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("prepare leader election: %w", err)
	}
	return &resourcelock.LeaseLock{
		LeaseMeta:  metav1.ObjectMeta{Namespace: namespace, Name: LeaseName},
		Client:     leases,
		LockConfig: resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())},
	}, nil
}

// identity returns what a cluster is told from others by; no cluster has a name of its own.
func identity(ctx context.Context, reader client.Reader) (string, error) {
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	if err := reader.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, ns); err != nil {
		return "", fmt.Errorf("read the cluster's identity, the UID of namespace %s: %w", metav1.NamespaceSystem, err)
	}
	return string(ns.UID), nil
}

// synced says whether every watch has told what there is.
func synced(c cache.Cache) healthz.Checker {
	return func(r *http.Request) error {
		ctx, cancel := context.WithTimeout(r.Context(), time.Second)
		defer cancel()
		if !c.WaitForCacheSync(ctx) {
			return errors.New("watches of the Kubernetes API are not established yet")
		}
		return nil
	}
}
