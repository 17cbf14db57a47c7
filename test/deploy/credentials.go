package main

import (
	"cmp"
	"fmt"
	"os"
)

// What the operator's Secret has, and what the environment may have.
const (
	tailnetVar = "TS_TAILNET"
	idVar      = "TS_OAUTH_CLIENT_ID"
	secretVar  = "TS_OAUTH_CLIENT_SECRET"
)

// credentials let the operator into a tailnet.
type credentials struct {
	tailnet, id, secret string
}

// credentialsFromEnv returns those of a real tailnet; the zero value: there are none.
func credentialsFromEnv() (credentials, error) {
	c := credentials{tailnet: cmp.Or(os.Getenv(tailnetVar), "-"), id: os.Getenv(idVar), secret: os.Getenv(secretVar)}
	switch {
	case c.id == "" && c.secret == "":
		return credentials{}, nil
	case c.id == "":
		return c, fmt.Errorf("$%s is set without $%s; set both for a real tailnet, neither for a hermetic one", secretVar, idVar)
	case c.secret == "":
		return c, fmt.Errorf("$%s is set without $%s; set both for a real tailnet, neither for a hermetic one", idVar, secretVar)
	}
	return c, nil
}
