package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// authority signs the certificates of one lab.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// certLife is as long as anyone keeps a lab.
const certLife = 365 * 24 * time.Hour

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key of the CA: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "lab-ca"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of the CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("read certificate of the CA: %w", err)
	}
	return &authority{cert: cert, key: key, pem: block("CERTIFICATE", der)}, nil
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// pair is a certificate and its key, in PEM.
type pair struct{ cert, key []byte }

// subject is who a certificate is for. A server has names and addresses.
type subject struct {
	name, group string
	dns         []string
	addrs       []netip.Addr
}

func (a *authority) issue(s subject) (pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{}, fmt.Errorf("make key of %s: %w", s.name, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pair{}, fmt.Errorf("make certificate of %s: %w", s.name, err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: s.name},
		NotBefore: a.cert.NotBefore, NotAfter: a.cert.NotAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames: s.dns,
	}
	if s.group != "" {
		tmpl.Subject.Organization = []string{s.group}
	}
	for _, ip := range s.addrs {
		tmpl.IPAddresses = append(tmpl.IPAddresses, net.IP(ip.AsSlice()))
	}
	if len(s.addrs) > 0 {
		tmpl.ExtKeyUsage = append(tmpl.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		return pair{}, fmt.Errorf("make certificate of %s: %w", s.name, err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return pair{}, fmt.Errorf("encode key of %s: %w", s.name, err)
	}
	return pair{cert: block("CERTIFICATE", der), key: block("PRIVATE KEY", keyDER)}, nil
}

// write writes NAME.crt and NAME.key.
func (p pair) write(dir, name string) error {
	return errors.Join(
		writeFile(filepath.Join(dir, name+".crt"), p.cert),
		writeFile(filepath.Join(dir, name+".key"), p.key))
}

// writeFile writes a file that is root's alone, and its folder.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o600)
}

// Groups that Kubernetes knows (rbac in its documentation).
const (
	groupAdmins = "system:masters"
	groupNodes  = "system:nodes"
)

// writePKI writes the control plane's certificates and keys to dir, and everybody's kubeconfig:
// NAME.conf for each of users.
func writePKI(dir string, plan Plan) (*authority, error) {
	ca, err := newAuthority()
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(ca.key)
	if err != nil {
		return nil, fmt.Errorf("encode key of the CA: %w", err)
	}
	errs := []error{pair{cert: ca.pem, key: block("PRIVATE KEY", keyDER)}.write(dir, "ca")}
	for file, s := range map[string]subject{
		"apiserver": {
			name:  "kube-apiserver",
			dns:   []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			addrs: append([]netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), plan.API}, plan.ControlPlane...),
		},
		"apiserver-kubelet": {name: "apiserver-kubelet", group: groupAdmins},
	} {
		p, err := ca.issue(s)
		errs = append(errs, err, p.write(dir, file))
	}
	// Tokens of service accounts.
	sa, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make key of service accounts: %w", err)
	}
	pub, err := x509.MarshalPKIXPublicKey(sa.Public())
	errs = append(errs, err,
		writeFile(filepath.Join(dir, "sa.key"), block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(sa))),
		writeFile(filepath.Join(dir, "sa.pub"), block("PUBLIC KEY", pub)))
	for file, s := range map[string]subject{
		"kube-controller-manager": {name: "system:kube-controller-manager"},
		"kube-scheduler":          {name: "system:kube-scheduler"},
		"admin":                   {name: "lab-admin", group: groupAdmins},
	} {
		errs = append(errs, ca.writeKubeconfig(filepath.Join(dir, file+".conf"), plan, s))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("write the control plane's keys: %w", err)
	}
	return ca, nil
}

// writeKubeconfig writes a kubeconfig that needs no other file.
func (a *authority) writeKubeconfig(path string, plan Plan, s subject) error {
	p, err := a.issue(s)
	if err != nil {
		return err
	}
	c := clientcmdapi.NewConfig()
	c.Clusters["lab"] = &clientcmdapi.Cluster{Server: plan.server(), CertificateAuthorityData: a.pem}
	c.AuthInfos[s.name] = &clientcmdapi.AuthInfo{ClientCertificateData: p.cert, ClientKeyData: p.key}
	c.Contexts["lab"] = &clientcmdapi.Context{Cluster: "lab", AuthInfo: s.name}
	c.CurrentContext = "lab"
	b, err := clientcmd.Write(*c)
	if err != nil {
		return fmt.Errorf("encode kubeconfig of %s: %w", s.name, err)
	}
	return writeFile(path, b)
}

// apiPort is the API server's.
const apiPort = 6443

// server is the API server's address for everyone in the lab.
func (p *Plan) server() string {
	return fmt.Sprintf("https://%s", netip.AddrPortFrom(p.ControlPlane[0], apiPort))
}
