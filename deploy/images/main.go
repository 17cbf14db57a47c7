// Command images builds tailgate's binaries and packs them into container images, with Go and nothing else: no
// Docker, no registry, no network beyond what the go command needs for modules.
//
// It promises that the same source and the same Go make the same digests, on whatever machine, in whatever folder
// and environment: the go command runs without the user's build settings, files carry the time of the
// source, and nothing is read from the machine but the module cache. It must never put anything into an image
// but the image's binaries and the root certificates.
//
// The certificates are a file of the tree, which go generate writes from Mozilla's bundle as the Go project
// keeps it (folder roots). A file, because it can be mounted over where a login server has a certificate authority of its
// own, which roots inside of a binary cannot, and because the Dockerfiles copy the same one; of the
// tree, because an image must not depend on what the machine that makes it trusts, and a change of it is then seen.
package main

//go:generate go -C roots run . ../ca-certificates.crt

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

const usage = `Usage: go tool task images [-- FLAGS]

Builds tailgate's binaries and packs them into container images, without Docker. For each image the folder --out
then holds

  NAME/                    the image of all platforms and its SBOMs, as an OCI layout (skopeo, oras)
  NAME.tar                 the image of all platforms, as an OCI archive (ctr images import, podman load)
  NAME-OS-ARCH.tar         one platform's, as a Docker archive (docker load)
  NAME-OS-ARCH.spdx.json   what is in it: its SBOM, in SPDX 2.3
  NAME.digest              the image's name and digest, as a manifest names it

`

// settings are the command line.
type settings struct {
	out, repository, tag, version string
	platforms                     []v1.Platform
	images                        []image
	binaries                      bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "images:", err)
		os.Exit(1)
	}
}

func parse(args []string, out io.Writer) (s settings, err error) {
	fs := flag.NewFlagSet("images", flag.ContinueOnError)
	fs.SetOutput(out)
	fs.StringVar(&s.out, "out", "bin/images", "`folder` to write to; of what it holds, only files named as above are replaced")
	platforms := fs.String("platform", "linux/amd64,linux/arm64", "comma-separated `list` of platforms; \"local\" is this machine's")
	only := fs.String("only", "", "comma-separated `list` of images to make: "+strings.Join(shortNames(table), ", ")+"; empty: these, and not those of tests: "+strings.Join(shortNames(testTable), ", "))
	fs.StringVar(&s.repository, "repository", defaultRepository, "`prefix` of the images' names")
	fs.StringVar(&s.tag, "tag", "", "`tag` of the images; empty: the chart's appVersion, which is what the chart asks for; \"content\": made of each image's digest")
	fs.StringVar(&s.version, "build-version", "", "`version` to stamp; empty: what git describe says")
	fs.BoolVar(&s.binaries, "binaries", false, "build the binaries only, for one platform, right into --out")
	fs.Usage = func() {
		_, _ = io.WriteString(out, usage)
		fs.PrintDefaults()
	}
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("%q is no flag; see --help", fs.Arg(0))
	}
	if s.platforms, err = parsePlatforms(*platforms); err != nil {
		return s, err
	}
	if s.binaries && len(s.platforms) != 1 {
		return s, fmt.Errorf("--binaries builds for one platform, not for %s; write --platform=linux/%s or another", *platforms, runtime.GOARCH)
	}
	s.images, err = choose(*only)
	return s, err
}

func parsePlatforms(list string) ([]v1.Platform, error) {
	var platforms []v1.Platform
	for text := range strings.SplitSeq(list, ",") {
		if text = strings.TrimSpace(text); text == "local" {
			text = "linux/" + runtime.GOARCH
		}
		p, err := v1.ParsePlatform(text)
		if err != nil || p.OS != "linux" || p.Architecture == "" || p.Variant != "" {
			return nil, fmt.Errorf("--platform: %q is no platform, such as linux/amd64", text)
		}
		platforms = append(platforms, *p)
	}
	return platforms, nil
}

func run(ctx context.Context, args []string, out io.Writer) error {
	s, err := parse(args, out)
	if err != nil {
		return err
	}
	return execute(ctx, ".", s, out)
}

// execute makes what s asks for from the module that dir is in.
func execute(ctx context.Context, dir string, s settings, out io.Writer) error {
	src, err := readSource(ctx, dir, s.version)
	if err != nil {
		return err
	}
	g, err := newGoCommand(ctx, src)
	if err != nil {
		return err
	}
	if s.binaries {
		return buildBinaries(ctx, g, s)
	}
	if s.tag == "" {
		if s.tag, err = chartAppVersion(src.dir); err != nil {
			return err
		}
	}
	for _, img := range s.images {
		if err := produce(ctx, g, img, s, out); err != nil {
			return fmt.Errorf("image %s: %w", img.name, err)
		}
	}
	return nil
}

func buildBinaries(ctx context.Context, g *goCommand, s settings) error {
	for _, img := range s.images {
		for _, b := range img.binaries {
			if err := g.build(ctx, b, s.platforms[0], s.out); err != nil {
				return err
			}
		}
	}
	return nil
}
