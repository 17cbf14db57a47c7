package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Images that every node has. Pods name them with imagePullPolicy Never or IfNotPresent.
const (
	PauseImage   = "lab.local/pause:1"
	TestImage    = "lab.local/test:1"
	CoreDNSImage = "lab.local/coredns:1"
)

// archive is the file that holds them, in the folder of the part.
const archive = "images.tar"

// image is one static program as an image.
type image struct {
	ref     string
	program string // a path on this machine
	as      string // its path in the image
	args    []string
	// links are further names of the program, symbolic links in its folder.
	links []string
}

// TestTools are the names of labtool in the test image, in /bin.
func TestTools() []string {
	return []string{"serve", "get", "tcp", "udp", "lookup", "ping", "sleep", "cat", "ls", "addrs"}
}

// makeImages writes the lab's images to one archive.
func makeImages(_ context.Context, b *builder, dir string) error {
	labtool := filepath.Join(b.dirs[Tools], "labtool")
	all := make(map[name.Tag]v1.Image)
	for _, i := range []image{
		{ref: PauseImage, program: labtool, as: "/labtool", args: []string{"pause"}},
		{ref: TestImage, program: labtool, as: "/bin/labtool", args: []string{"serve"}, links: TestTools()},
		{ref: CoreDNSImage, program: filepath.Join(b.dirs[CoreDNS], "coredns"), as: "/coredns"},
	} {
		tag, err := name.NewTag(i.ref)
		if err != nil {
			return fmt.Errorf("image %s: %w", i.ref, err)
		}
		if all[tag], err = i.make(); err != nil {
			return fmt.Errorf("make image %s: %w", i.ref, err)
		}
	}
	if err := tarball.MultiWriteToFile(filepath.Join(dir, archive), all); err != nil {
		return fmt.Errorf("write images: %w", err)
	}
	return nil
}

func (i image) make() (v1.Image, error) {
	layer, err := i.layer()
	if err != nil {
		return nil, err
	}
	// Nobody sends it anywhere, so packing it would only cost time, on each node.
	l := static.NewLayer(layer, types.OCIUncompressedLayer)
	img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), l)
	if err != nil {
		return nil, err
	}
	cf, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	cf = cf.DeepCopy()
	cf.OS, cf.Architecture = "linux", runtime.GOARCH
	cf.Config = v1.Config{Entrypoint: []string{i.as}, Cmd: i.args, Env: []string{"PATH=/bin"}, WorkingDir: "/"}
	return mutate.ConfigFile(img, cf)
}

// layer is the image's file system: the program, its links, and the folders that containers expect.
func (i image) layer() ([]byte, error) {
	program, err := os.ReadFile(i.program)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, d := range []string{"bin", "dev", "etc", "proc", "sys", "tmp", "var"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d + "/", Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	h := &tar.Header{Typeflag: tar.TypeReg, Name: i.as[1:], Size: int64(len(program)), Mode: 0o755}
	if err := w.WriteHeader(h); err != nil {
		return nil, err
	}
	if _, err := w.Write(program); err != nil {
		return nil, err
	}
	for _, l := range i.links {
		link := filepath.Join(filepath.Dir(i.as), l)[1:]
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: link, Linkname: filepath.Base(i.as), Mode: 0o777}); err != nil {
			return nil, err
		}
	}
	return buf.Bytes(), w.Close()
}
