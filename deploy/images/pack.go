package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// rootsFile is where Go, and most else, looks for root certificates.
const rootsFile = "/etc/ssl/certs/ca-certificates.crt"

//go:embed ca-certificates.crt
var roots []byte

// file is one file of a layer; who owns it is root.
type file struct {
	name string // absolute
	mode int64
	data []byte
}

// newLayer packs files, sorted, and the folders above them, which are 0755.
func newLayer(files []file, mtime time.Time) (v1.Layer, error) {
	all := map[string]file{}
	for _, f := range files {
		all[f.name] = f
		for dir := path.Dir(f.name); dir != "/"; dir = path.Dir(dir) {
			all[dir] = file{name: dir, mode: 0o755}
		}
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		f := all[name]
		h := &tar.Header{Name: name[1:], Mode: f.mode, Size: int64(len(f.data)), ModTime: mtime, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if f.data == nil {
			h.Name, h.Typeflag = h.Name+"/", tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", name, err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return tarball.LayerFromOpener(
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(buf.Bytes())), nil },
		// Each level beyond the default costs much time and saves less than a hundredth.
		tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching,
	)
}

// labels are the image's annotations by which tools know it
// (https://specs.opencontainers.org/image-spec/annotations/).
func labels(img image, s source) map[string]string {
	l := map[string]string{
		"org.opencontainers.image.title":       img.name,
		"org.opencontainers.image.description": img.description,
		"org.opencontainers.image.source":      sourceURL,
		"org.opencontainers.image.version":     s.version,
		"org.opencontainers.image.licenses":    licenses,
	}
	if s.revision != "" {
		l["org.opencontainers.image.revision"] = s.revision
	}
	return l
}

// newImage makes the image of one platform: one layer, and a configuration that runs the first binary.
func newImage(img image, s source, p v1.Platform, files []file) (v1.Image, error) {
	layer, err := newLayer(files, s.time)
	if err != nil {
		return nil, err
	}
	made := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	made, err = mutate.Append(made, mutate.Addendum{
		Layer:   layer,
		History: v1.History{Created: v1.Time{Time: s.time}, CreatedBy: "go run ./deploy/images", Comment: img.description},
	})
	if err != nil {
		return nil, fmt.Errorf("add the layer: %w", err)
	}
	c, err := made.ConfigFile()
	if err != nil {
		return nil, err
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Created = p.OS, p.Architecture, v1.Time{Time: s.time}
	c.Config = v1.Config{Entrypoint: img.entrypoint(), User: img.user, WorkingDir: "/", Labels: labels(img, s)}
	if made, err = mutate.ConfigFile(made, c); err != nil {
		return nil, fmt.Errorf("set the configuration: %w", err)
	}
	return mutate.Annotations(made, annotations(img, s)).(v1.Image), nil
}

// newIndex joins the images of several platforms.
func newIndex(img image, s source, platforms []v1.Platform, images []v1.Image) v1.ImageIndex {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for i := range images {
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add: plain{images[i]}, Descriptor: v1.Descriptor{Platform: &platforms[i]},
		})
	}
	return mutate.Annotations(index, annotations(img, s)).(v1.ImageIndex)
}

// plain is an image that is no artifact; else the index would call it one of the type of its configuration.
type plain struct{ v1.Image }

// ArtifactType is asked for by what writes an index.
func (plain) ArtifactType() (string, error) { return "", nil }

func annotations(img image, s source) map[string]string {
	a := labels(img, s)
	a["org.opencontainers.image.created"] = created(s)
	return a
}

// created is the time of the source, as annotations and SBOMs write it.
func created(s source) string { return s.time.Format(time.RFC3339) }
