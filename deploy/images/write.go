package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// spdxType is the media type of an SBOM, and the type of the artifact that holds it.
const spdxType = "application/spdx+json"

// writeLayout writes the index, under a reference, into a new OCI layout
// (https://github.com/opencontainers/image-spec/blob/main/image-layout.md) and returns it for more.
func writeLayout(dir string, ref name.Tag, index v1.ImageIndex) (layout.Path, error) {
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return "", fmt.Errorf("make the OCI layout: %w", err)
	}
	err = l.AppendIndex(index, layout.WithAnnotations(map[string]string{
		"org.opencontainers.image.ref.name": ref.TagStr(),
		"io.containerd.image.name":          ref.Name(), // by which ctr and podman name what they load
	}))
	if err != nil {
		return "", fmt.Errorf("write the OCI layout: %w", err)
	}
	return l, nil
}

// attach adds an SBOM to a layout, as an artifact that refers to an image: what
// https://github.com/opencontainers/image-spec/blob/main/manifest.md calls an artifact without a configuration.
func attach(l layout.Path, sbom []byte, to v1.Image, annotations map[string]string) error {
	subject, err := partial.Descriptor(to)
	if err != nil {
		return err
	}
	blob := func(mediaType types.MediaType, data []byte) (v1.Descriptor, error) {
		hash, size, err := v1.SHA256(bytes.NewReader(data))
		if err != nil {
			return v1.Descriptor{}, err
		}
		return v1.Descriptor{MediaType: mediaType, Digest: hash, Size: size}, l.WriteBlob(hash, io.NopCloser(bytes.NewReader(data)))
	}
	config, err := blob("application/vnd.oci.empty.v1+json", []byte("{}"))
	if err != nil {
		return err
	}
	document, err := blob(spdxType, sbom)
	if err != nil {
		return err
	}
	data, err := json.Marshal(v1.Manifest{
		SchemaVersion: 2, MediaType: types.OCIManifestSchema1, ArtifactType: spdxType,
		Config: config, Layers: []v1.Descriptor{document}, Annotations: annotations,
		Subject: &v1.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
	})
	if err != nil {
		return err
	}
	artifact, err := blob(types.OCIManifestSchema1, data)
	if err != nil {
		return err
	}
	artifact.ArtifactType = spdxType
	return l.AppendDescriptor(artifact)
}

// writeArchive writes the index as an OCI archive: a layout in a tar file, without SBOMs, because what loads archives
// wants one image in each.
func writeArchive(file string, ref name.Tag, index v1.ImageIndex, mtime time.Time) (err error) {
	dir, err := os.MkdirTemp(filepath.Dir(file), ".archive-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := writeLayout(filepath.Join(dir, "layout"), ref, index); err != nil {
		return err
	}
	return writeFile(file, func(w io.Writer) error {
		return packFolder(w, os.DirFS(filepath.Join(dir, "layout")), mtime)
	})
}

// packFolder writes a folder as a tar stream, in the order of names.
func packFolder(w io.Writer, folder fs.FS, mtime time.Time) error {
	t := tar.NewWriter(w)
	err := fs.WalkDir(folder, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == "." {
			return err
		}
		h := &tar.Header{Name: path, Mode: 0o644, ModTime: mtime, Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		if d.IsDir() {
			h.Name, h.Mode, h.Typeflag = path+"/", 0o755, tar.TypeDir
			return t.WriteHeader(h)
		}
		data, err := fs.ReadFile(folder, path)
		if err != nil {
			return err
		}
		h.Size = int64(len(data))
		if err := t.WriteHeader(h); err != nil {
			return err
		}
		_, err = t.Write(data)
		return err
	})
	if err != nil {
		return err
	}
	return t.Close()
}

// writeDockerArchive writes one platform's image as docker save does.
func writeDockerArchive(file string, ref name.Tag, img v1.Image) error {
	return writeFile(file, func(w io.Writer) error { return tarball.Write(ref, img, w) })
}

// writeFile replaces a file when all of it is written.
func writeFile(file string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(file), ".new-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", file, errors.Join(err, os.Remove(f.Name())))
		}
	}()
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
