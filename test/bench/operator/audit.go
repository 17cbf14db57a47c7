//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
)

// auditPolicy makes the API server write a line for each answer to the operator, and for nobody else's.
const auditPolicy = `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    users: ["` + account + `"]
  - level: None
`

// tally counts requests by verb and resource, as in "patch egressgroups/status".
type tally map[string]int

// event is what is read of a line (https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/).
type event struct {
	Stage     string
	Verb      string
	ObjectRef *struct{ Resource, Subresource string }
}

// counted returns what the event counts as; "" is nothing.
func (e event) counted() string {
	// A watch has two lines, of which the second comes at its end.
	at := "ResponseComplete"
	if e.Verb == "watch" {
		at = "ResponseStarted"
	}
	if e.Stage != at && e.Stage != "Panic" {
		return ""
	}
	if e.ObjectRef == nil {
		return e.Verb + " " + discovery
	}
	what := e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		what += "/" + e.ObjectRef.Subresource
	}
	return e.Verb + " " + what
}

// discovery stands for requests that are about no resource.
const discovery = "(discovery)"

// audit follows an audit log.
type audit struct {
	path   string
	offset int64
	counts tally
}

// read returns the counts since the beginning. The server writes a line before it answers.
func (a *audit) read() (tally, error) {
	file, err := os.Open(a.path)
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.NewSectionReader(file, a.offset, 1<<40))
	if err != nil {
		return nil, fmt.Errorf("read the audit log: %w", err)
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	if err := a.counts.add(text); err != nil {
		return nil, err
	}
	a.offset += int64(len(text))
	return maps.Clone(a.counts), nil
}

// add counts whole lines.
func (t tally) add(lines []byte) error {
	for line := range bytes.Lines(lines) {
		var e event
		if err := json.Unmarshal(line, &e); err != nil {
			return fmt.Errorf("read the audit log: %q: %w", line, err)
		}
		if what := e.counted(); what != "" {
			t[what]++
		}
	}
	return nil
}

// minus returns what was counted after before.
func (t tally) minus(before tally) tally {
	out := tally{}
	for what, n := range t {
		if n -= before[what]; n != 0 {
			out[what] = n
		}
	}
	return out
}

// of adds up what match says yes to, by verb and resource.
func (t tally) of(match func(verb, resource string) bool) (sum int) {
	for what, n := range t {
		if verb, resource, _ := strings.Cut(what, " "); match(verb, resource) {
			sum += n
		}
	}
	return sum
}

func isLease(resource string) bool { return resource == "leases" }

func isRead(verb string) bool { return verb == "get" || verb == "list" }

func (t tally) total() int { return t.of(func(string, string) bool { return true }) }

func (t tally) writes() int {
	return t.of(func(verb, resource string) bool { return !isRead(verb) && verb != "watch" && !isLease(resource) })
}

func (t tally) reads() int {
	return t.of(func(verb, resource string) bool { return isRead(verb) && !isLease(resource) })
}

func (t tally) watches() int { return t.of(func(verb, _ string) bool { return verb == "watch" }) }

func (t tally) leases() int { return t.of(func(_, resource string) bool { return isLease(resource) }) }

// String returns the counts, the largest first.
func (t tally) String() string {
	keys := slices.SortedFunc(maps.Keys(t), func(a, b string) int {
		if t[a] != t[b] {
			return t[b] - t[a]
		}
		return strings.Compare(a, b)
	})
	said := make([]string, len(keys))
	for i, k := range keys {
		said[i] = fmt.Sprintf("%d %s", t[k], k)
	}
	return strings.Join(said, ", ")
}
