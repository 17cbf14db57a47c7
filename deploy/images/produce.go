package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// built is the image of one platform.
type built struct {
	platform v1.Platform
	image    v1.Image
	sbom     []byte
}

// produce builds an image for each platform and writes everything that usage promises of it; what it prints
// is the digest and the sizes.
func produce(ctx context.Context, g *goCommand, img image, s settings, out io.Writer) error {
	// Before the minutes that building may take.
	if _, err := newTag(img, s, v1.Hash{}); err != nil {
		return err
	}
	var all []built
	for _, p := range s.platforms {
		b, err := buildPlatform(ctx, g, img, p)
		if err != nil {
			return err
		}
		all = append(all, b)
	}
	images := make([]v1.Image, len(all))
	for i := range all {
		images[i] = all[i].image
	}
	index := newIndex(img, g.source, s.platforms, images)
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	ref, err := newTag(img, s, digest)
	if err != nil {
		return err
	}
	if err := writeAll(filepath.Join(s.out, img.name), ref, g.source, index, all); err != nil {
		return err
	}
	line := ref.Name() + "@" + digest.String()
	if err := writeFile(filepath.Join(s.out, img.name+".digest"), func(w io.Writer) error {
		_, err := io.WriteString(w, line+"\n")
		return err
	}); err != nil {
		return err
	}
	return report(out, line, all)
}

// contentTag is the --tag that stands for one made of the digest.
const contentTag = "content"

// newTag names an image. A tag made of the digest changes when the image does, and only then, so a cluster into which
// images are loaded replaces the pods that it must.
func newTag(img image, s settings, digest v1.Hash) (name.Tag, error) {
	tag := s.tag
	if tag == contentTag && digest.Hex != "" {
		tag = digest.Hex[:12]
	}
	ref, err := name.NewTag(s.repository + "/" + img.name + ":" + tag)
	if err != nil {
		return ref, fmt.Errorf("--repository and --tag make no image name: %w", err)
	}
	return ref, nil
}

// buildPlatform builds an image's binaries in a folder of its own and packs them.
func buildPlatform(ctx context.Context, g *goCommand, img image, p v1.Platform) (b built, err error) {
	dir, err := os.MkdirTemp("", "tailgate-images-")
	if err != nil {
		return b, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	files := []file{{name: rootsFile, mode: 0o644, data: roots}}
	for _, bin := range img.binaries {
		if err := g.build(ctx, bin, p, dir); err != nil {
			return b, err
		}
		data, err := os.ReadFile(filepath.Join(dir, bin.name))
		if err != nil {
			return b, err
		}
		files = append(files, file{name: "/" + bin.name, mode: 0o755, data: data})
	}
	b.platform = p
	if b.image, err = newImage(img, g.source, p, files); err != nil {
		return b, err
	}
	b.sbom, err = newSBOM(img, g.source, p.String(), files)
	return b, err
}

// writeAll writes what is made of an image; path is that of the layout, and what all names begin with.
func writeAll(path string, ref name.Tag, src source, index v1.ImageIndex, all []built) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	l, err := writeLayout(path, ref, index)
	if err != nil {
		return err
	}
	for _, b := range all {
		base := path + "-" + strings.ReplaceAll(b.platform.String(), "/", "-")
		if err := attach(l, b.sbom, b.image, map[string]string{"org.opencontainers.image.created": created(src)}); err != nil {
			return fmt.Errorf("attach the SBOM: %w", err)
		}
		if err := writeFile(base+".spdx.json", func(w io.Writer) error { _, err := w.Write(b.sbom); return err }); err != nil {
			return err
		}
		if err := writeDockerArchive(base+".tar", ref, b.image); err != nil {
			return err
		}
	}
	return writeArchive(path+".tar", ref, index, src.time)
}

// report prints an image's name and digest, and the size of each platform's layers as a registry sends them.
func report(out io.Writer, line string, all []built) error {
	fmt.Fprintln(out, line)
	for _, b := range all {
		m, err := b.image.Manifest()
		if err != nil {
			return err
		}
		digest, err := b.image.Digest()
		if err != nil {
			return err
		}
		size := m.Config.Size
		for _, l := range m.Layers {
			size += l.Size
		}
		fmt.Fprintf(out, "  %-12s %s  %.1f MB\n", b.platform, digest, float64(size)/1e6)
	}
	return nil
}
