package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"runtime/debug"
	"strings"
)

// The parts of SPDX 2.3 that an SBOM of Go binaries needs (https://spdx.github.io/spdx-spec/v2.3/).
type (
	spdxDocument struct {
		Version           string             `json:"spdxVersion"`
		License           string             `json:"dataLicense"`
		ID                string             `json:"SPDXID"`
		Name              string             `json:"name"`
		DocumentNamespace string             `json:"documentNamespace"`
		Creation          spdxCreation       `json:"creationInfo"`
		Packages          []spdxPackage      `json:"packages"`
		Relationships     []spdxRelationship `json:"relationships"`
	}
	spdxCreation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	spdxPackage struct {
		Name             string         `json:"name"`
		ID               string         `json:"SPDXID"`
		Version          string         `json:"versionInfo,omitempty"`
		FileName         string         `json:"packageFileName,omitempty"`
		Purpose          string         `json:"primaryPackagePurpose,omitempty"`
		DownloadLocation string         `json:"downloadLocation"`
		FilesAnalyzed    bool           `json:"filesAnalyzed"`
		LicenseConcluded string         `json:"licenseConcluded"`
		LicenseDeclared  string         `json:"licenseDeclared"`
		Copyright        string         `json:"copyrightText"`
		SourceInfo       string         `json:"sourceInfo,omitempty"`
		Checksums        []spdxChecksum `json:"checksums,omitempty"`
		Refs             []spdxRef      `json:"externalRefs,omitempty"`
	}
	spdxChecksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	spdxRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	spdxRelationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const (
	unknown   = "NOASSERTION"
	imageID   = "SPDXRef-Image"
	rootsID   = "SPDXRef-Roots"
	describes = "DESCRIBES"
	contains  = "CONTAINS"
	dependsOn = "DEPENDS_ON"
)

// newSBOM says what an image of one platform holds: its binaries, the Go release and the modules that
// each is made of, as the Go linker wrote them into it, with their go.sum hashes, and the root certificates.
// Licenses of modules are not asserted: a binary does not hold them.
func newSBOM(img image, s source, platform string, files []file) ([]byte, error) {
	d := spdxDocument{
		Version: "SPDX-2.3", License: "CC0-1.0", ID: "SPDXRef-DOCUMENT",
		Name:     img.name + " " + s.version + " " + platform,
		Creation: spdxCreation{Created: created(s), Creators: []string{"Tool: tailgate-images-" + s.version}},
	}
	top := newPackage(imageID, img.name, s.version)
	top.Purpose, top.LicenseDeclared = "CONTAINER", licenses
	d.Packages = append(d.Packages, top)
	d.relate(d.ID, describes, imageID)
	all := sha256.New()
	for _, f := range files {
		all.Write(f.data)
		if f.name == rootsFile {
			d.addRoots(f)
		} else if err := d.addBinary(f, s.version); err != nil {
			return nil, err
		}
	}
	// A namespace is a name, not an address, and another for every document.
	d.DocumentNamespace = sourceURL + "/spdx/" + img.name + "/" + platform + "/" + hex.EncodeToString(all.Sum(nil))
	data, err := json.MarshalIndent(d, "", "  ")
	return append(data, '\n'), err
}

func (d *spdxDocument) relate(from, how, to string) {
	d.Relationships = append(d.Relationships, spdxRelationship{From: from, Type: how, To: to})
}

// add adds a package once; two binaries may share modules.
func (d *spdxDocument) add(p spdxPackage) {
	for _, have := range d.Packages {
		if have.ID == p.ID {
			return
		}
	}
	d.Packages = append(d.Packages, p)
}

// bundleLine is where go generate says what the certificates were taken from.
var bundleLine = regexp.MustCompile(`(?m)^# From (\S+) (\S+)$`)

func (d *spdxDocument) addRoots(f file) {
	p := newPackage(rootsID, "root certificates of Mozilla", "")
	p.FileName, p.Purpose, p.Checksums = f.name, "FILE", checksum(f.data)
	if m := bundleLine.FindSubmatch(f.data); m != nil {
		p.Version, p.Refs = string(m[2]), golang(string(m[1]), string(m[2]))
	}
	d.add(p)
	d.relate(imageID, contains, rootsID)
}

func (d *spdxDocument) addBinary(f file, version string) error {
	info, err := buildinfo.Read(bytes.NewReader(f.data))
	if err != nil {
		return fmt.Errorf("read what %s is built of: %w", f.name, err)
	}
	p := newPackage(spdxID("Binary", f.name[1:]), f.name[1:], version)
	p.FileName, p.Purpose, p.Checksums = f.name, "APPLICATION", checksum(f.data)
	p.LicenseDeclared, p.Refs = licenses, golang(info.Main.Path, version)
	p.SourceInfo = "package " + info.Path
	d.add(p)
	d.relate(imageID, contains, p.ID)

	std := newPackage(spdxID("Go", info.GoVersion), "stdlib", strings.TrimPrefix(info.GoVersion, "go"))
	std.Purpose, std.LicenseDeclared, std.Refs = "LIBRARY", "BSD-3-Clause", golang("stdlib", std.Version)
	d.add(std)
	d.relate(p.ID, dependsOn, std.ID)
	for _, m := range info.Deps {
		lib := modulePackage(m)
		d.add(lib)
		d.relate(p.ID, dependsOn, lib.ID)
	}
	return nil
}

func modulePackage(m *debug.Module) spdxPackage {
	if m.Replace != nil {
		m = m.Replace
	}
	p := newPackage(spdxID("Module", m.Path+"@"+m.Version), m.Path, m.Version)
	p.Purpose, p.Refs = "LIBRARY", golang(m.Path, m.Version)
	if m.Sum != "" {
		p.SourceInfo = "go.sum " + m.Sum
	}
	return p
}

func newPackage(id, name, version string) spdxPackage {
	return spdxPackage{
		ID: id, Name: name, Version: version,
		DownloadLocation: unknown, LicenseConcluded: unknown, LicenseDeclared: unknown, Copyright: unknown,
	}
}

// notInID is what an SPDX identifier cannot have.
var notInID = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

// spdxID makes an identifier of what it names; the hash tells apart names that differ in what was left out.
func spdxID(kind, name string) string {
	sum := sha256.Sum256([]byte(name))
	return "SPDXRef-" + kind + "-" + notInID.ReplaceAllString(name, "-") + "-" + hex.EncodeToString(sum[:4])
}

func checksum(data []byte) []spdxChecksum {
	sum := sha256.Sum256(data)
	return []spdxChecksum{{Algorithm: "SHA256", Value: hex.EncodeToString(sum[:])}}
}

// golang returns a module's package URL, by which scanners look up what is known of it. The type's rules are in
// https://github.com/package-url/purl-spec/blob/main/types-doc/golang-definition.md: names are lower case.
func golang(module, version string) []spdxRef {
	purl := "pkg:golang/" + strings.ToLower(module) + "@" + strings.ReplaceAll(version, "+", "%2B")
	return []spdxRef{{Category: "PACKAGE-MANAGER", Type: "purl", Locator: purl}}
}
