//go:build linux

package stage

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// prepareNamespace makes the namespace and the Secret that the chart asks for.
func (s *Stage) prepareNamespace(ctx context.Context) error {
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: Namespace, Labels: map[string]string{"pod-security.kubernetes.io/enforce": "privileged"},
	}}
	if err := s.Client.Create(ctx, ns); err != nil {
		return fmt.Errorf("make namespace: %w", err)
	}
	for _, name := range s.o.Namespaces {
		if err := s.Client.Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			return fmt.Errorf("make namespace: %w", err)
		}
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: "tailgate-tailnet-creds", Namespace: Namespace},
		StringData: map[string]string{
			"TS_TAILNET": "-", "TS_OAUTH_CLIENT_ID": s.OAuth.ID, "TS_OAUTH_CLIENT_SECRET": s.OAuth.Secret,
		},
	}
	if err := s.Client.Create(ctx, secret); err != nil {
		return fmt.Errorf("make Secret with the tailnet's credentials: %w", err)
	}
	return nil
}
