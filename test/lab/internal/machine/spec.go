package machine

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
)

// MarkVar is the environment variable that every process of a lab has, but for those in
// containers; its value is the lab's folder.
const MarkVar = "TAILGATE_LAB"

// First is the machine that holds all others of a lab.
const First = "cp"

// SpecFile is where the machine of that name is described, in the folder of a lab.
func SpecFile(dir, name string) string { return filepath.Join(dir, name, "machine.json") }

// SocketFile is where it listens.
func SocketFile(dir, name string) string { return filepath.Join(dir, name, "labd.sock") }

// CgroupOf is the control group of the lab in dir, below the root of every hierarchy. Labs of one name in
// different folders have different ones.
func CgroupOf(dir string) string {
	return fmt.Sprintf("/tailgate-lab/%s-%x", filepath.Base(dir), sha256.Sum256([]byte(dir)))[:len("/tailgate-lab/-")+len(filepath.Base(dir))+6]
}

// Spec is a machine. It is written to a file, which [Main] reads.
type Spec struct {
	// Hostname is the machine's.
	Hostname string
	// Socket is where it listens, a path in the file system of whoever starts it.
	Socket string
	// Cgroup is the control group of its processes, a path below the root of every hierarchy.
	Cgroup string
	// Root is an empty folder on which the machine's file system is built; it becomes "/".
	Root string
	// Mounts make up the file system, in this order. Targets are paths in the machine.
	Mounts []Mount
}

// Kind is what a [Mount] does.
type Kind string

// Kinds.
const (
	// Bind makes Source visible at Target, with what is mounted below it.
	Bind Kind = "bind"
	// ReadOnly is Bind, and nobody can write there.
	ReadOnly Kind = "ro"
	// Tmpfs mounts an empty file system in memory, Proc and Sysfs the machine's own view.
	Tmpfs Kind = "tmpfs"
	Proc  Kind = "proc"
	Sysfs Kind = "sysfs"
	// BPF mounts an empty BPF file system; where the kernel has none it does nothing.
	BPF Kind = "bpf"
	// Symlink makes Target a symbolic link to Source.
	Symlink Kind = "symlink"
)

// Mount is one step of building a file system.
type Mount struct {
	Kind   Kind
	Source string `json:",omitempty"`
	Target string
}

// ReadSpec reads a machine from a file.
func ReadSpec(path string) (Spec, error) {
	var s Spec
	b, err := os.ReadFile(path)
	if err != nil {
		return s, fmt.Errorf("read machine: %w", err)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("read machine %s: %w", path, err)
	}
	return s, nil
}

// Write writes a machine to a file.
func (s Spec) Write(path string) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("write machine: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o600); err != nil {
		return fmt.Errorf("write machine: %w", err)
	}
	return nil
}
