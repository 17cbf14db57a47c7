package page

import (
	"testing"
	"time"
)

func TestLineDiff(t *testing.T) {
	for _, tt := range []struct{ name, have, want, diff string }{
		{"both empty", "", "", ""},
		{"same", "a\nb\n", "a\nb\n", ""},
		{"all new", "", "a\nb\n", "+ a\n+ b\n"},
		{"all gone", "a\nb\n", "", "- a\n- b\n"},
		{"one changed", "a\nb\nc\n", "a\nx\nc\n", "- b\n+ x\n"},
		{"one moved", "a\nb\nc\n", "b\nc\na\n", "- a\n+ a\n"},
		{"no last newline", "a", "a\nb", "+ b\n"},
	} {
		if got := LineDiff(tt.have, tt.want); got != tt.diff {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.diff)
		}
	}
}

func TestAge(t *testing.T) {
	now := time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)
	for d, want := range map[time.Duration]string{
		0: "0 s ago", 59 * time.Second: "59 s ago", time.Minute: "1 min ago", 119 * time.Minute: "1 h ago",
		47 * time.Hour: "47 h ago", 48 * time.Hour: "2 days ago", -5 * time.Hour: "in 5 h",
	} {
		if got := Age(now, now.Add(-d)); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	if got := Age(now, time.Time{}); got != "" {
		t.Errorf("the zero time: %q", got)
	}
}

func TestByteCount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 5 << 30: "5.0 GiB", 1<<64 - 1: "16.0 EiB"} {
		if got := ByteCount(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
