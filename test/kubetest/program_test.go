//go:build linux

package kubetest_test

import (
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rajsinghtech/tailgate/test/kubetest"
)

// TestRun does what a program that is no test does.
func TestRun(t *testing.T) {
	s, err := kubetest.Run(t.Context(), kubetest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	if root := kubetest.Root(t); s.Root != root {
		t.Errorf("the repository is %s, want %s", s.Root, root)
	}
	const name = "system:serviceaccount:a:b"
	config, err := s.User(name, "system:serviceaccounts")
	if err != nil {
		t.Fatal(err)
	}
	user, err := client.New(config, client.Options{Scheme: s.Client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	who := &authenticationv1.SelfSubjectReview{}
	if err := user.Create(t.Context(), who); err != nil {
		t.Fatal(err)
	}
	if got := who.Status.UserInfo.Username; got != name {
		t.Errorf("the user is %q, want %q", got, name)
	}
}
