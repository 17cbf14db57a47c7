package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/rajsinghtech/tailgate/internal/cnirpc"
)

const (
	// defaultTimeout is how long an ADD waits for the agent, which answers at once, or says that the pod is a member: that takes
	// [cnirpc.MemberTimeout] at the most.
	defaultTimeout = 5 * time.Second
	// maxTimeout, with [cnirpc.MemberTimeout], is well below the two minutes after which kubelet gives up (runtimeRequestTimeout).
	maxTimeout = time.Minute
)

// config is the network configuration on stdin, as far as it is the plugin's. Other keys are others'.
type config struct {
	cniVersion string // "" stands for 0.1.0
	name       string
	socket     string
	timeout    time.Duration
	// statusRequiresAgent: STATUS fails while the agent is away. By default it does not, because the runtime would
	// then start no pods at all.
	statusRequiresAgent bool
	// prevResult is the value as it came; nil: there is none.
	prevResult json.RawMessage
	// attachments are those that GC names; nil: it names none, which is not the same as that there are none.
	attachments []types.GCAttachment
}

// parseConfig reads the configuration. With an error, which is a sentence, comes as much of it as could be read, and
// the defaults for the rest.
func parseConfig(stdin []byte) (config, error) {
	c := config{socket: cnirpc.Socket, timeout: defaultTimeout}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(stdin, &keys); err != nil {
		return c, fmt.Errorf("the network configuration is not a JSON object: %w", err)
	}
	var first error
	for _, k := range []struct {
		name, want string
		set        func(json.RawMessage) error
	}{
		{"cniVersion", `a version in quotes, such as "1.0.0"`, into(&c.cniVersion)},
		{"name", "a name in quotes", into(&c.name)},
		{"socket", `the path of the agent's socket in quotes, such as "` + cnirpc.Socket + `"`, c.setSocket},
		{"timeout", `a length of time up to 1m in quotes, such as "5s"`, c.setTimeout},
		{"statusRequiresAgent", "true or false", into(&c.statusRequiresAgent)},
		{"prevResult", "the result of the plugin before, an object", c.setPrevResult},
		{"cni.dev/attachments", "a list of attachments", into(&c.attachments)}, // as libcni first wrote it
		{"cni.dev/valid-attachments", "a list of attachments", into(&c.attachments)},
	} {
		value, ok := keys[k.name]
		if !ok || string(value) == "null" {
			continue
		}
		if err := k.set(value); err != nil && first == nil {
			first = fmt.Errorf("%q in the network configuration %q is %s; write %s", k.name, c.name, short(value), k.want)
		}
	}
	return c, first
}

// into returns a setter that leaves to alone when the value is of another type.
func into[T any](to *T) func(json.RawMessage) error {
	return func(value json.RawMessage) error {
		var v T
		if err := json.Unmarshal(value, &v); err != nil {
			return err
		}
		*to = v
		return nil
	}
}

func (c *config) setSocket(value json.RawMessage) error {
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return err
	}
	if !strings.HasPrefix(s, "/") {
		return fmt.Errorf("%q is no absolute path", s)
	}
	c.socket = s
	return nil
}

func (c *config) setTimeout(value json.RawMessage) error {
	var s string
	if err := json.Unmarshal(value, &s); err != nil {
		return err
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return err
	}
	if d <= 0 || d > maxTimeout {
		return fmt.Errorf("%v is out of range", d)
	}
	c.timeout = d
	return nil
}

func (c *config) setPrevResult(value json.RawMessage) error {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return err
	}
	c.prevResult = value
	return nil
}

// short returns value for a sentence.
func short(value json.RawMessage) string {
	const most = 60
	var b bytes.Buffer
	if err := json.Compact(&b, value); err != nil || b.Len() == 0 {
		return "not JSON"
	}
	if b.Len() > most {
		return strings.ToValidUTF8(string(b.Bytes()[:most]), "") + "…"
	}
	return b.String()
}

// pod returns what CNI_ARGS ("K=V;K=V") say of the pod. What is not understood there is not ours.
func pod(args string) cnirpc.Pod {
	var p cnirpc.Pod
	for pair := range strings.SplitSeq(args, ";") {
		switch key, value, _ := strings.Cut(pair, "="); key {
		case "K8S_POD_NAMESPACE":
			p.Namespace = value
		case "K8S_POD_NAME":
			p.Name = value
		case "K8S_POD_UID":
			p.UID = value
		case "K8S_POD_INFRA_CONTAINER_ID":
			p.InfraContainerID = value
		}
	}
	return p
}
