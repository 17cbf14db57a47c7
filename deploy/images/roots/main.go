// Command roots writes the root certificates of the images, as PEM, to the file that it is given: those that
// Mozilla trusts for TLS servers, from the bundle that the Go project keeps, sorted by subject.
//
// Roots that Mozilla trusts with a constraint are left out: a PEM file cannot say "only what was
// issued before that day", and who reads the file would trust them wholly.
package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"slices"

	"golang.org/x/crypto/x509roots/fallback/bundle"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: roots FILE")
		os.Exit(2)
	}
	if err := write(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "roots:", err)
		os.Exit(1)
	}
}

func write(file string) error {
	from, err := source()
	if err != nil {
		return err
	}
	var certs []*x509.Certificate
	for root := range bundle.Roots() {
		if root.Constraint != nil {
			continue
		}
		cert, err := x509.ParseCertificate(root.Certificate)
		if err != nil {
			return fmt.Errorf("parse a certificate of the bundle: %w", err)
		}
		certs = append(certs, cert)
	}
	slices.SortFunc(certs, func(a, b *x509.Certificate) int {
		if c := bytes.Compare(a.RawSubject, b.RawSubject); c != 0 {
			return c
		}
		return bytes.Compare(a.Raw, b.Raw)
	})
	var out bytes.Buffer
	fmt.Fprintf(&out, "# Root certificates of tailgate's images: those that Mozilla trusts for TLS servers without a constraint.\n"+
		"# Written by go generate ./deploy/images.\n# From %s\n", from)
	for _, cert := range certs {
		fmt.Fprintf(&out, "\n# %s\n", cert.Subject)
		if err := pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}); err != nil {
			return err
		}
	}
	return os.WriteFile(file, out.Bytes(), 0o644)
}

// source returns the module and version of the bundle; the images' SBOM reads it from the file.
func source() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || len(info.Deps) != 1 {
		return "", errors.New("the bundle is not the one module that this program is built of")
	}
	return info.Deps[0].Path + " " + info.Deps[0].Version, nil
}
