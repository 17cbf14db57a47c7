package main

import (
	"strings"
	"testing"
)

func TestHostnameFlag(t *testing.T) {
	t.Setenv("TAILGATE_HOSTNAME", "payments-node-1")
	if s, err := parse(nil); err != nil || s.hostname != "payments-node-1" {
		t.Errorf("by the environment: %q, %v", s.hostname, err)
	}
	if s, err := parse([]string{"--hostname=peers-node-2"}); err != nil || s.hostname != "peers-node-2" {
		t.Errorf("by the command line: %q, %v", s.hostname, err)
	}
	const want = `--hostname "..." has no letter and no digit`
	if _, err := parse([]string{"--hostname=..."}); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a name of nothing: %v", err)
	}
}
