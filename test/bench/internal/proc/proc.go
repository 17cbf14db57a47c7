//go:build linux

package proc

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of the kernel's CPU times: USER_HZ is 100 on every architecture that we build
// for (time(7)). A process's times are scaled by the scheduler's own, exact account.
const tick = 10 * time.Millisecond

// CPU is the CPU time that a process has used, in user space and in the kernel on its behalf.
func CPU(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	return parseProcessStat(string(b))
}

// parseProcessStat adds utime and stime, fields 14 and 15 (proc_pid_stat(5)). Field 2, the
// program's name in parentheses, may hold anything.
func parseProcessStat(s string) (time.Duration, error) {
	_, rest, ok := strings.Cut(s[strings.LastIndexByte(s, ')')+1:], " ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("read CPU time: %q is no process's stat", s)
	}
	return sumTicks(fields[11:13])
}

// MachineCPU is the CPU time that the machine has spent on anything, interrupts and softirqs
// included, since its start.
func MachineCPU() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read the machine's CPU time: %w", err)
	}
	return parseMachineStat(string(b))
}

// parseMachineStat adds up the first line of /proc/stat (proc_stat(5)) less idle, iowait and steal; guest
// times are part of user and nice.
func parseMachineStat(s string) (time.Duration, error) {
	line, _, _ := strings.Cut(s, "\n")
	f := strings.Fields(line)
	if len(f) < 8 || f[0] != "cpu" {
		return 0, fmt.Errorf("read the machine's CPU time: %q is no /proc/stat", line)
	}
	return sumTicks([]string{f[1], f[2], f[3], f[6], f[7]})
}

func sumTicks(fields []string) (time.Duration, error) {
	var sum int64
	for _, f := range fields {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read CPU time: %w", err)
		}
		sum += n
	}
	return time.Duration(sum) * tick, nil
}

// Memory returns what a process keeps in memory, in bytes: all of it (VmRSS), and with shared
// pages divided among those that share them (PSS).
func Memory(pid int) (rss, pss int64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read memory in use: %w", err)
	}
	rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0, 0, fmt.Errorf("read memory in use: %w", err)
	}
	if rss, err = Kibibytes(string(status), "VmRSS"); err != nil {
		return 0, 0, err
	}
	pss, err = Kibibytes(string(rollup), "Pss")
	return rss, pss, err
}

// Kibibytes finds a line as in "VmRSS:	   1234 kB", the kernel's kB being 1024 bytes, and returns bytes.
func Kibibytes(text, key string) (int64, error) {
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(line, ":")
		f := strings.Fields(value)
		if name != key || len(f) != 2 || f[1] != "kB" {
			continue
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read memory in use: %s: %w", key, err)
		}
		return n << 10, nil
	}
	return 0, fmt.Errorf("read memory in use: there is no %s", key)
}

// Machine says what the figures were taken on.
type Machine struct {
	CPU    string  `json:"cpu"`
	CPUs   int     `json:"cpus"`
	Memory float64 `json:"memoryGB"`
	Kernel string  `json:"kernel"`
	Go     string  `json:"go"`
	// Busy is the share of all CPUs that something used before the bench began to measure, from 0 to 1.
	Busy float64 `json:"busyBefore"`
}

// ThisMachine describes the machine that this process runs on; its Busy is for the caller to measure.
func ThisMachine() (Machine, error) {
	m := Machine{CPU: "unknown", CPUs: runtime.NumCPU(), Go: runtime.Version()}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return m, fmt.Errorf("describe the machine: %w", err)
	}
	for line := range strings.Lines(string(info)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	mem, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return m, fmt.Errorf("describe the machine: %w", err)
	}
	total, err := Kibibytes(string(mem), "MemTotal")
	if err != nil {
		return m, err
	}
	m.Memory = float64(total) / 1e9
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return m, fmt.Errorf("describe the machine: %w", err)
	}
	m.Kernel = unix.ByteSliceToString(u.Release[:])
	return m, nil
}

// String returns the description in words.
func (m Machine) String() string {
	return fmt.Sprintf("%s, %d CPUs, %.0f GB, Linux %s, %s, %.0f %% busy before the bench began",
		m.CPU, m.CPUs, m.Memory, m.Kernel, m.Go, 100*m.Busy)
}

// Usage is a process's memory, in bytes.
type Usage struct {
	RSS int64 `json:"rss"`
	// Peak is the most that RSS ever was.
	Peak int64 `json:"peak"`
	// Anon is memory of its own, File is what it shares with files, its binary above all.
	Anon int64 `json:"anonymous"`
	File int64 `json:"file"`
}

// MemoryParts returns what a process's RSS consists of.
func MemoryParts(pid int) (u Usage, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, fmt.Errorf("read memory in use: %w", err)
	}
	for key, into := range map[string]*int64{"VmRSS": &u.RSS, "VmHWM": &u.Peak, "RssAnon": &u.Anon, "RssFile": &u.File} {
		if *into, err = Kibibytes(string(status), key); err != nil {
			return u, err
		}
	}
	return u, nil
}

// MeasureBusy is the share of all CPUs that something uses, from 0 to 1, measured over a span.
func MeasureBusy(ctx context.Context, span time.Duration) (float64, error) {
	before, err := MachineCPU()
	if err != nil {
		return 0, err
	}
	start, timer := time.Now(), time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	after, err := MachineCPU()
	return (after - before).Seconds() / time.Since(start).Seconds() / float64(runtime.NumCPU()), err
}

// Started is when a process was executed or forked, to 10 ms.
func Started(pid int) (time.Time, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return time.Time{}, fmt.Errorf("read start time: %w", err)
	}
	sinceBoot, err := parseStart(string(b))
	if err != nil {
		return time.Time{}, err
	}
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return time.Time{}, fmt.Errorf("read clock: %w", err)
	}
	return time.Now().Add(sinceBoot - time.Duration(now.Nano())), nil
}

// parseStart reads starttime, field 22, which counts ticks since the machine's start (proc_pid_stat(5)).
func parseStart(s string) (time.Duration, error) {
	fields := strings.Fields(s[strings.LastIndexByte(s, ')')+1:])
	if len(fields) < 20 {
		return 0, fmt.Errorf("read start time: %q is no process's stat", s)
	}
	return sumTicks(fields[19:20])
}
