//go:build linux

package kubetest

import (
	"context"

	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Server is a server of a program that is no test, such as a bench. It ends with the program at the latest.
type Server struct {
	// Config and Client are as in [Env].
	Config *rest.Config
	Client client.WithWatch
	// Root is the root of the repository that the working directory is in.
	Root string

	server *server
}

// Run starts a server that runs until [Server.Stop].
func Run(ctx context.Context, o Options) (*Server, error) {
	root, err := findRoot()
	if err != nil {
		return nil, err
	}
	s, err := start(ctx, o)
	if err != nil {
		return nil, err
	}
	return &Server{Config: s.config, Client: s.client, Root: root, server: s}, nil
}

// User is [Env.User].
func (s *Server) User(name string, groups ...string) (*rest.Config, error) {
	return s.server.user(name, groups)
}

// Stop ends the server and removes its data.
func (s *Server) Stop() error { return s.server.stop() }
