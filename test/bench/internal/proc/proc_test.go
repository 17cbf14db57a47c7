//go:build linux

package proc

import (
	"os"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	// As in proc_pid_stat(5), with a name made to confuse: user time 250, system time 30 ticks.
	process := "42 (a) b (c) S 1 42 42 0 -1 4194560 100 0 0 0 250 30 7 8 20 0 9 0 12345 1000 10 18446744073709551615"
	if got, err := parseProcessStat(process); err != nil || got != 2800*time.Millisecond {
		t.Errorf("the process used %v, %v; want 2.8s", got, err)
	}
	if got, err := parseStart(process); err != nil || got != 123450*time.Millisecond {
		t.Errorf("the process started %v after the machine, %v; want 123.45s", got, err)
	}
	// user, nice, system, irq and softirq count; idle, iowait, steal and guest do not.
	whole := "cpu  100 20 300 5000 600 7 8 9000 50 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
	if got, err := parseMachineStat(whole); err != nil || got != 4350*time.Millisecond {
		t.Errorf("the machine used %v, %v; want 4.35s", got, err)
	}
	if n, err := Kibibytes("VmPeak:\t 900 kB\nVmRSS:\t  123 kB\n", "VmRSS"); err != nil || n != 123<<10 {
		t.Errorf("VmRSS is %d, %v; want %d", n, err, 123<<10)
	}
	for _, bad := range []string{"", "42 (x)", "42 (x) S 1 2 3", "42 (x) S 1 42 42 0 -1 4194560 100 0 0 0 a b 7"} {
		if got, err := parseProcessStat(bad); err == nil {
			t.Errorf("%q was taken for %v", bad, got)
		}
		if got, err := parseStart(bad); err == nil {
			t.Errorf("%q was taken for a start at %v", bad, got)
		}
		if got, err := parseMachineStat(bad); err == nil {
			t.Errorf("%q was taken for %v", bad, got)
		}
	}
	if n, err := Kibibytes("VmRSSX:\t 9 kB\n", "VmRSS"); err == nil {
		t.Errorf("a missing VmRSS was taken for %d", n)
	}
}

// TestProc reads the real files, of this process.
func TestProc(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		after, err := CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if after > before {
			break // reading it costs time
		}
		if time.Now().After(deadline) {
			t.Fatal("CPU time stands still")
		}
	}
	rss, pss, err := Memory(os.Getpid())
	if err != nil || rss < 1<<20 || pss <= 0 || pss > 2*rss {
		t.Errorf("this process has RSS %d, PSS %d, %v", rss, pss, err)
	}
	u, err := MemoryParts(os.Getpid())
	if err != nil || u.RSS < 1<<20 || u.Peak < u.RSS/2 || u.Anon <= 0 || u.File <= 0 || u.Anon+u.File > 2*u.RSS {
		t.Errorf("this process has %+v, %v", u, err)
	}
	if at, err := Started(os.Getpid()); err != nil || at.After(time.Now()) || time.Since(at) > time.Hour {
		t.Errorf("this process started at %v, %v", at, err)
	}
	if busy, err := MeasureBusy(t.Context(), 50*time.Millisecond); err != nil || busy < 0 || busy > 1.5 {
		t.Errorf("the machine is busy to %v, %v", busy, err)
	}
	if busy, err := MachineCPU(); err != nil || busy < before {
		t.Errorf("the machine used %v, %v; this process %v of it", busy, err, before)
	}
	if m, err := ThisMachine(); err != nil || m.CPUs < 1 || m.Kernel == "" || m.Memory <= 0 {
		t.Errorf("this machine: %+v, %v", m, err)
	}
}
