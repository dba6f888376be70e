package edge_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/wire/proxyproto"
	"github.com/serai-net/serai/edge"
)

// authority signs certificates into files of a folder.
type authority struct {
	folder      string
	key         *ecdsa.PrivateKey
	certificate *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{folder: t.TempDir()}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	a.certificate = a.sign(t, template, template, &a.key.PublicKey)
	a.write(t, "ca.pem", "CERTIFICATE", a.certificate.Raw)
	return a
}

func (a *authority) sign(t *testing.T, template, parent *x509.Certificate, key *ecdsa.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key, a.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *authority) write(t *testing.T, name, kind string, der []byte) string {
	t.Helper()
	name = filepath.Join(a.folder, name)
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// issue writes a certificate for names, and returns its files.
func (a *authority) issue(t *testing.T, file string, names ...string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf := a.sign(t, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: file}, DNSNames: names,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
	}, a.certificate, &private.PublicKey)
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return a.write(t, file+".pem", "CERTIFICATE", leaf.Raw), a.write(t, file+".key", "PRIVATE KEY", der)
}

// secured is an edge with one listener, which answers with the client's address.
func secured(t *testing.T, l edge.Listener) *running {
	t.Helper()
	l.Name, l.Address = "public", freeAddress(t)
	return start(t, edge.Config{
		Listeners: []edge.Listener{l}, AccessLog: &telemetry.AccessLogConfig{Format: "json"},
		APIs: []edge.API{server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-For")) })},
	})
}

// curl runs the real thing and returns its output, with what went wrong.
func curl(t *testing.T, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("SKIPPED: there is no curl")
	}
	out, err := exec.CommandContext(t.Context(), path, append([]string{"-sS", "-k", "--max-time", "10"}, args...)...).CombinedOutput()
	return string(out), err
}

func TestTLSParameters(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certificate, key := a.issue(t, "site", "site.example")
	both := func(change func(*edge.TLS)) string {
		c := &edge.TLS{CertificateFile: certificate, KeyFile: key}
		change(c)
		r := secured(t, edge.Listener{TLS: c})
		return "https" + strings.TrimPrefix(r.url, "http") + "/"
	}
	const version = "%{ssl_verify_result} %{http_version} %{http_code}"
	for _, row := range []struct {
		name   string
		change func(*edge.TLS)
		args   []string
		want   string // "" if the handshake fails
	}{
		{"defaults", func(*edge.TLS) {}, nil, "2 200"},
		{"1.2", func(*edge.TLS) {}, []string{"--tls-max", "1.2"}, "2 200"},
		{"not 1.2", func(c *edge.TLS) { c.MinVersion = "1.3" }, []string{"--tls-max", "1.2"}, ""},
		{"only 1.3", func(c *edge.TLS) { c.MinVersion = "1.3" }, nil, "2 200"},
		{"not 1.3", func(c *edge.TLS) { c.MaxVersion = "1.2" }, []string{"--tlsv1.3"}, ""},
		{"no 1.1", func(*edge.TLS) {}, []string{"--tls-max", "1.1"}, ""},
		{"suite", func(c *edge.TLS) { c.CipherSuites = []string{"ECDHE-ECDSA-AES256-GCM-SHA384"} }, []string{"--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES256-GCM-SHA384"}, "2 200"},
		{"another suite", func(c *edge.TLS) { c.CipherSuites = []string{"ECDHE-ECDSA-AES256-GCM-SHA384"} }, []string{"--tls-max", "1.2", "--ciphers", "ECDHE-ECDSA-AES128-GCM-SHA256"}, ""},
		{"no h2", func(c *edge.TLS) { c.ALPN = []string{"http/1.1"} }, nil, "1.1 200"},
		{"h1 first", func(c *edge.TLS) { c.ALPN = []string{"http/1.1", "h2"} }, nil, "1.1 200"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			out, err := curl(t, append(row.args, "-o", "/dev/null", "-w", version, both(row.change))...)
			if row.want == "" && err == nil || row.want != "" && (err != nil || !strings.HasSuffix(out, row.want)) {
				t.Errorf("%q, %v", out, err)
			}
		})
	}
}

func TestClientCertificates(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	certificate, key := a.issue(t, "site", "site.example")
	good, goodKey := a.issue(t, "good")
	bad, badKey := other.issue(t, "bad")
	for _, row := range []struct {
		mode    string
		args    []string
		refused bool
	}{
		{"require", nil, true},
		{"require", []string{"--cert", good, "--key", goodKey}, false},
		{"require", []string{"--cert", bad, "--key", badKey}, true},
		{"optional", nil, false},
		{"optional", []string{"--cert", good, "--key", goodKey}, false},
		{"optional", []string{"--cert", bad, "--key", badKey}, true},
		{"none", []string{"--cert", bad, "--key", badKey}, false},
	} {
		c := &edge.TLS{CertificateFile: certificate, KeyFile: key, ClientCertificates: row.mode}
		if row.mode != "none" {
			c.ClientCAFile = filepath.Join(a.folder, "ca.pem")
		}
		r := secured(t, edge.Listener{TLS: c})
		out, err := curl(t, append(row.args, "https"+strings.TrimPrefix(r.url, "http"))...)
		if (err != nil) != row.refused {
			t.Errorf("%s %v: %q, %v", row.mode, row.args, out, err)
		}
	}
}

// Certificates are chosen by name, and sessions are resumed.
func TestServerNames(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	c := &edge.TLS{}
	c.CertificateFile, c.KeyFile = a.issue(t, "default", "default.example")
	for name, san := range map[string]string{"wild": "*.example.com", "exact": "api.example.com"} {
		certificate, key := a.issue(t, name, san)
		c.Certificates = append(c.Certificates, edge.Certificate{Name: name, CertificateFile: certificate, KeyFile: key})
	}
	r := secured(t, edge.Listener{TLS: c})
	address := strings.TrimPrefix(r.url, "http://")
	cache := tls.NewLRUClientSessionCache(10)
	for name, want := range map[string]string{
		"www.example.com": "wild", "api.example.com": "exact", "else.example": "default", "": "default",
	} {
		for _, resumed := range []bool{false, true} {
			conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true, ServerName: name, ClientSessionCache: cache})
			if err != nil {
				t.Fatal(err)
			}
			req := "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
			if _, err := io.WriteString(conn, req); err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, conn) //nolint:errcheck // the ticket comes with the answer
			state := conn.ConnectionState()
			conn.Close()
			if got := state.PeerCertificates[0].Subject.CommonName; got != want || state.DidResume != resumed && name != "" {
				t.Errorf("%q gets %s, resumed %t", name, got, state.DidResume)
			}
		}
	}
}

// The address in the header of a trusted proxy is the client's for all that follows.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	certificate, key := a.issue(t, "site", "site.example")
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	h := proxyproto.Header{Source: netip.MustParseAddrPort("192.0.2.7:4321"), Destination: netip.MustParseAddrPort("198.51.100.1:443")}
	for _, secure := range []*edge.TLS{nil, {CertificateFile: certificate, KeyFile: key}} {
		for version := 1; version <= 2; version++ {
			r := secured(t, edge.Listener{TLS: secure, ProxyProtocol: &edge.ProxyProtocol{Trusted: local}})
			conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := conn.Write(h.Append(nil, version)); err != nil {
				t.Fatal(err)
			}
			if secure != nil {
				conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true})
			}
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 10.1.1.1\r\nConnection: close\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(conn)
			if err != nil || !bytes.HasSuffix(answer, []byte("192.0.2.7")) {
				t.Errorf("%q, %v", answer, err)
			}
			eventually(t, "in the access log", func() bool { return strings.Contains(r.out.String(), "192.0.2.7") })
		}
	}
	r := secured(t, edge.Listener{ProxyProtocol: &edge.ProxyProtocol{Trusted: local}})
	if out, err := curl(t, "--haproxy-protocol", r.url); err != nil || out != "127.0.0.1" {
		t.Errorf("curl: %q, %v", out, err)
	}
	if out, err := curl(t, r.url); err == nil {
		t.Errorf("curl without a header: %q", out)
	}
	optional := secured(t, edge.Listener{ProxyProtocol: &edge.ProxyProtocol{Trusted: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, Optional: true}})
	if out, err := curl(t, optional.url); err != nil || out != "127.0.0.1" {
		t.Errorf("curl without a header, which is optional: %q, %v", out, err)
	}
	if out, err := curl(t, "--haproxy-protocol", optional.url); err == nil {
		t.Errorf("curl is not trusted: %q", out)
	}
}
