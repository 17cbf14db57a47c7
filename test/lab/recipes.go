package lab

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Part is a set of programs that are built together.
type Part string

// Parts.
const (
	// Hyperkube is etcd and Kubernetes in one program, under the name of each.
	Hyperkube Part = "hyperkube"
	// Runtime is containerd, its shim, ctr, and the CNI plugins.
	Runtime Part = "runtime"
	// Runc is what starts containers. It alone needs a C compiler.
	Runc Part = "runc"
	// CoreDNS is the cluster's resolver.
	CoreDNS Part = "coredns"
	// Tools are the lab's own: labd, and labtool for the test image.
	Tools Part = "tools"
	// Images are archives made of the parts before.
	Images Part = "images"
)

// AllParts returns every part, in an order in which they can be built.
func AllParts() []Part { return []Part{Tools, Hyperkube, Runtime, Runc, CoreDNS, Images} }

// KubernetesVersion is that of the module in test/lab/kube.
const KubernetesVersion = "v1.36.3"

// recipe is how a part is made.
type recipe struct {
	// about says what it is and how long it takes the first time, on two cores.
	about string
	// sources are what its key is made of: files and folders, relative to the module's root; of a file
	// written FILE#TEXT only the lines that have the text count.
	sources []string
	// after are parts whose keys count, too.
	after []Part
	// check says what this machine lacks for building it; nil: nothing beside Go.
	check func(context.Context) error
	// make writes the part to a folder.
	make func(ctx context.Context, b *builder, dir string) error
}

// noC builds without a C compiler.
const noC = "CGO_ENABLED=0"

var recipes = map[Part]recipe{
	Tools: {
		about:   "the lab's own programs: a few seconds",
		sources: []string{"go.mod#golang.org/x/", "test/lab/internal", "test/lab/cmd/labd", "test/lab/cmd/labtool"},
		make: func(ctx context.Context, b *builder, dir string) error {
			return b.goBuild(ctx, ".", noC, dir, "./test/lab/cmd/labd", "./test/lab/cmd/labtool")
		},
	},
	Hyperkube: {
		about:   "etcd and Kubernetes " + KubernetesVersion + ": about 10 minutes the first time on two cores",
		sources: []string{"test/lab/kube/go.mod", "test/lab/kube/go.sum", "test/lab/kube/hyperkube"},
		make:    makeHyperkube,
	},
	Runtime: {
		about:   "containerd and CNI plugins: about 2 minutes the first time on two cores",
		sources: []string{"test/lab/kube/go.mod", "test/lab/kube/go.sum"},
		make: func(ctx context.Context, b *builder, dir string) error {
			return b.goBuild(ctx, "test/lab/kube", noC, dir, "tool")
		},
	},
	Runc: {
		about:   "runc: about a minute the first time",
		sources: []string{"test/lab/runc/go.mod", "test/lab/runc/go.sum"},
		check:   checkRuncBuild,
		make: func(ctx context.Context, b *builder, dir string) error {
			return b.goBuild(ctx, "test/lab/runc", "CGO_ENABLED=1", dir, "-tags", "seccomp", "tool")
		},
	},
	CoreDNS: {
		about:   "CoreDNS: about 2 minutes the first time on two cores",
		sources: []string{"test/lab/coredns"},
		make: func(ctx context.Context, b *builder, dir string) error {
			return b.goBuild(ctx, "test/lab/coredns", noC, filepath.Join(dir, "coredns"), ".")
		},
	},
	Images: {
		about:   "images: a few seconds",
		sources: []string{"test/lab/image.go"},
		after:   []Part{Tools, CoreDNS},
		make:    makeImages,
	},
}

// Components are the names by which hyperkube is called.
func Components() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"}
}

func makeHyperkube(ctx context.Context, b *builder, dir string) error {
	const v = "k8s.io/component-base/version."
	major, minor, _ := strings.Cut(strings.TrimPrefix(KubernetesVersion, "v"), ".")
	minor, _, _ = strings.Cut(minor, ".")
	flags := fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s -X %[1]sgitTreeState=clean -X %[1]sgitCommit=lab",
		v, KubernetesVersion, major, minor)
	if err := b.goBuild(ctx, "test/lab/kube", noC, filepath.Join(dir, "hyperkube"), "-ldflags", flags, "./hyperkube"); err != nil {
		return err
	}
	for _, c := range Components() {
		if err := os.Symlink("hyperkube", filepath.Join(dir, c)); err != nil {
			return err
		}
	}
	return nil
}
