//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// cgroupDir is where the hierarchies of control groups are mounted (cgroups(7)).
const cgroupDir = "/sys/fs/cgroup"

// moveInto puts a process of this machine into the control groups of a container, so that it competes for the CPUs as one
// of the container's own does.
func moveInto(pid int, pod *corev1.Pod, container string) error {
	id := ""
	for _, s := range pod.Status.ContainerStatuses {
		if s.Name == container {
			_, id, _ = strings.Cut(s.ContainerID, "://")
		}
	}
	if id == "" {
		return fmt.Errorf("pod %s has no running container %s", pod.Name, container)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return fmt.Errorf("find the control groups of container %s: %w", container, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(text), id) {
			continue // it has ended, or is another's
		}
		unified := "unified" // beside version 1 (systemd's hybrid layout)
		if _, err := os.Stat(filepath.Join(cgroupDir, unified)); err != nil {
			unified = ""
		}
		var errs []error
		for _, dir := range cgroupsOf(string(text), id, unified) {
			errs = append(errs, os.WriteFile(filepath.Join(cgroupDir, dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0o644))
		}
		if err := errors.Join(errs...); err != nil {
			return fmt.Errorf("move process %d into container %s: %w", pid, container, err)
		}
		return nil
	}
	return fmt.Errorf("no process of container %s of pod %s runs", container, pod.Name)
}

// cgroupsOf reads a /proc/PID/cgroup and returns those groups, below [cgroupDir], that have the container's ID in their names. unified is
// where version 2 is mounted below it.
func cgroupsOf(text, id, unified string) []string {
	var dirs []string
	for line := range strings.Lines(text) {
		_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		if !ok || !strings.Contains(path, id) {
			continue
		}
		dir := strings.TrimPrefix(controllers, "name=") // a hierarchy without controllers has a name
		if controllers == "" {
			dir = unified // version 2
		}
		dirs = append(dirs, filepath.Join(dir, path))
	}
	return dirs
}
