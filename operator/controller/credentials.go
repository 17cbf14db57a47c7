package controller

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/rajsinghtech/tailgate/operator/tailnet"
)

// credentials are the tailnet's, as the Secret has them now.
type credentials struct {
	cache   cache.Cache // of this one Secret
	name    types.NamespacedName
	connect func(tailnet.Credentials) (Tailnet, error)
	log     logr.Logger

	mu      sync.Mutex
	version string // of the Secret that account and err were made of
	account account
	err     error
}

// account is the tailnet as seen with some credentials.
type account struct {
	Tailnet
	// client stands for the OAuth client; it is no secret.
	client string
}

// credentialsError says in a sentence what is wrong with the Secret. It is no failure that goes
// away by trying again: the Secret is watched.
type credentialsError struct {
	reason, message string
}

func (e *credentialsError) Error() string { return e.message }

// secretCache is a cache that the manager starts with its own, before any controller.
type secretCache struct{ cache.Cache }

func (c secretCache) GetCache() cache.Cache { return c.Cache }

// newCredentials adds to the manager a cache of its own for the one Secret: the manager's has Secrets by label,
// and a cache has one filter for each kind.
func newCredentials(mgr manager.Manager, o Options) (*credentials, error) {
	name := types.NamespacedName{Namespace: o.Render.Namespace, Name: o.CredentialsSecret}
	c, err := cache.New(mgr.GetConfig(), cache.Options{
		HTTPClient: mgr.GetHTTPClient(), Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(),
		ReaderFailOnMissingInformer: true,
		DefaultTransform:            slim,
		SyncPeriod:                  CacheOptions("").SyncPeriod,
		ByObject: map[client.Object]cache.ByObject{&corev1.Secret{}: {
			Namespaces: map[string]cache.Config{name.Namespace: {FieldSelector: fields.OneTermEqualSelector("metadata.name", name.Name)}},
		}},
	})
	if err == nil {
		err = mgr.Add(secretCache{c})
	}
	if err != nil {
		return nil, fmt.Errorf("watch Secret %s: %w", name, err)
	}
	return &credentials{cache: c, name: name, connect: o.Connect, log: mgr.GetLogger()}, nil
}

// get returns the tailnet, connected anew when the Secret changed. The error is a *credentialsError
// unless the cache failed.
func (c *credentials) get(ctx context.Context) (account, error) {
	secret := &corev1.Secret{}
	err := c.cache.Get(ctx, c.name, secret)
	if err != nil && !apierrors.IsNotFound(err) {
		return account{}, fmt.Errorf("read Secret %s: %w", c.name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if version := string(secret.UID) + secret.ResourceVersion; version != c.version || c.account.Tailnet == nil && c.err == nil {
		if c.account.Tailnet != nil {
			c.account.Close()
		}
		c.version = version
		c.account, c.err = c.load(secret)
		if c.err != nil {
			c.log.Info("no tailnet credentials: groups stay as they are, and new gateways cannot log in", "cause", c.err.Error())
		} else {
			c.log.Info("tailnet credentials loaded", "secret", c.name.String())
		}
	}
	return c.account, c.err
}

func (c *credentials) load(secret *corev1.Secret) (account, error) {
	if secret.Name == "" {
		return account{}, &credentialsError{ReasonCredentialsMissing, fmt.Sprintf(
			"there is no Secret %s in namespace %s; create it with the keys %s, %s and %s of an OAuth client with the scopes auth_keys and devices:core",
			c.name.Name, c.name.Namespace, tailnet.KeyTailnet, tailnet.KeyClientID, tailnet.KeyClientSecret)}
	}
	incomplete := func(err error) (account, error) {
		return account{}, &credentialsError{ReasonCredentialsIncomplete, fmt.Sprintf("Secret %s in namespace %s: %v", c.name.Name, c.name.Namespace, err)}
	}
	parsed, err := tailnet.ParseSecret(secret.Data)
	if err != nil {
		return incomplete(err)
	}
	api, err := c.connect(parsed)
	if err != nil {
		return incomplete(err)
	}
	sum := sha256.Sum256([]byte(parsed.Tailnet + "/" + parsed.ClientID))
	return account{Tailnet: &breaker{Tailnet: api, clock: clock.RealClock{}}, client: hex.EncodeToString(sum[:6])}, nil
}
