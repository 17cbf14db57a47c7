//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/rajsinghtech/tailgate/test/bench/internal/proc"
	"github.com/rajsinghtech/tailgate/test/bench/internal/sheet"
	"github.com/rajsinghtech/tailgate/test/bench/internal/stats"
)

const (
	mega    = 1e6
	giga    = 1e9
	megabit = 1e6 / 8
)

// add notes a figure, and what it was made of.
func (b *bench) add(key, name, unit string, value float64, g sheet.Goal, raw ...float64) {
	l := sheet.NewLine(key, name, unit, value, g)
	l.Raw = raw
	b.lines = append(b.lines, l)
	b.say("%s: %s %s", name, stats.Figure(value), unit)
}

// get reads a page on the node.
func (b *bench) get(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := b.onNode().Do(req)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("it says %s: %s", resp.Status, text)
	}
	if err != nil {
		return "", fmt.Errorf("read %s: %w", url, err)
	}
	return string(text), nil
}

// report prints what was measured and, if asked for, writes it.
func (b *bench) report() error {
	fmt.Fprintf(b.out, "\nMachine: %v. The cluster, the tailnet and both ends of all traffic are on it.\n\n", b.machine)
	sheet.Print(b.out, b.lines)
	for _, f := range b.failed {
		fmt.Fprintln(b.out, "left out:", f)
	}
	if missed := sheet.Unmet(b.lines); len(missed) > 0 {
		fmt.Fprintf(b.out, "Not reached: %s.\n", strings.Join(missed, ", "))
	}
	fmt.Fprintf(b.out, "\nTook %v. go doc ./test/bench/agent has the method.\n", time.Since(b.began).Round(time.Second))
	if b.s.json == "" {
		return nil
	}
	raw, err := json.MarshalIndent(struct {
		Machine  proc.Machine `json:"machine"`
		Failed   []string     `json:"failed,omitempty"`
		Measures []sheet.Line `json:"measures"`
	}{b.machine, b.failed, b.lines}, "", "  ")
	if err == nil {
		err = os.WriteFile(b.s.json, append(raw, '\n'), 0o644)
	}
	if err != nil {
		return fmt.Errorf("write all figures: %w", err)
	}
	return nil
}
