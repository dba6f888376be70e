package integration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"encoding/xml"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestH2Spec runs h2spec against the edge: in clear and over TLS, in front of an upstream of either protocol.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// It takes a moment, so that there can be too many streams at once, and has a body.
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "hello, hello, hello")
	}))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetHTTP1(true)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	t.Cleanup(app.Close)
	first := bothWaysEdge(t, env, int(netip.MustParseAddrPort(app.Listener.Addr().String()).Port()))
	t.Run("in clear", func(t *testing.T) { h2spec(t, env, first) })
	t.Run("over TLS", func(t *testing.T) { h2spec(t, env, first+1, "--tls", "--insecure") })
}

// TestH2SpecSidecar runs h2spec against a sidecar's listener for an upstream, and against a public listener. h2spec has
// no client certificate to show, so that the test does it in between.
func TestH2SpecSidecar(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"site": "http2", "web": "http2"})
	w.allow(t, "web", "site")
	site := w.run(t, "site-1", "site")
	web := w.run(t, "web-1", "web", "site")
	w.waitOK(t, web.url("site", "/"))
	relay := presenting(t, w, "web", local(site.public))
	slow := []string{"--path", "/slow/50ms"}
	t.Run("outbound", func(t *testing.T) { h2spec(t, w.env, web.upstreams["site"], slow...) })
	t.Run("public", func(t *testing.T) { h2spec(t, w.env, relay, slow...) })
}

// h2specTests is how many tests h2spec 2.2.1 has; fewer are no proof.
const h2specTests = 146

// h2report is what h2spec writes for machines.
type h2report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Tests   int    `xml:"tests,attr"`
		Cases   []struct {
			Name    string    `xml:"classname,attr"`
			Skipped *struct{} `xml:"skipped"`
			Failure *string   `xml:"failure"`
			Error   *string   `xml:"error"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

// h2spec runs all sections of h2spec (generic, hpack, http2), with those that it calls strict, against a port. Every test
// must pass, and none may be missing.
func h2spec(t *testing.T, env *harness.Env, port int, args ...string) {
	t.Helper()
	path, err := env.Tool("h2spec")
	if err != nil {
		harness.Skip(t, "h2spec is not built: "+err.Error())
	}
	listening(t, local(port))
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	file := filepath.Join(t.TempDir(), "h2spec.xml")
	args = append([]string{"--strict", "--timeout", "10", "--host", "127.0.0.1", "--port", strconv.Itoa(port), "--junit-report", file}, args...)
	out, err := exec.CommandContext(ctx, path, args...).CombinedOutput()
	text, readErr := os.ReadFile(file)
	if readErr != nil {
		t.Fatalf("h2spec: %v, %v\n%s", err, readErr, out)
	}
	var report h2report
	must(t, xml.Unmarshal(text, &report))
	passed, failed := 0, 0
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			if c.Failure != nil || c.Error != nil || c.Skipped != nil {
				t.Errorf("%s: %s", suite.Package, c.Name)
				failed++
				continue
			}
			passed++
		}
	}
	if err != nil || failed > 0 || passed < h2specTests {
		t.Fatalf("%d passed of at least %d, %d failed: %v\n%s", passed, h2specTests, failed, err, out)
	}
	t.Logf("h2spec: %d of %d tests passed", passed, passed)
}

// presenting listens in clear, and takes each connection on to addr by TLS with h2, as the service that it has asked
// Consul a certificate for. It returns its port.
func presenting(t *testing.T, w *world, service, addr string) int {
	t.Helper()
	client, err := w.consul.Client(w.token(t, service))
	must(t, err)
	leaf, _, err := client.Agent().ConnectCALeaf(service, (&consulapi.QueryOptions{}).WithContext(t.Context()))
	must(t, err)
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	must(t, err)
	dialer := &tls.Dialer{Config: &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, // who it is that answers is tested elsewhere
	}}
	port := w.ports(t, 1)
	listener := listenAt(t, port)
	var running sync.WaitGroup
	t.Cleanup(running.Wait)
	t.Cleanup(func() { drop(listener) })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { carry(t, dialer, conn, addr) })
		}
	})
	return port
}

// carry copies between conn and addr until addr has closed; then all that it has sent is written.
func carry(t *testing.T, dialer *tls.Dialer, conn net.Conn, addr string) {
	t.Helper()
	defer drop(conn)
	to, err := dialer.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		if t.Context().Err() == nil {
			t.Errorf("dial the public listener: %v", err)
		}
		return
	}
	defer drop(to)
	secured, ok := to.(*tls.Conn)
	if !ok || secured.ConnectionState().NegotiatedProtocol != "h2" {
		t.Errorf("the public listener does not agree to h2")
		return
	}
	go func() {
		_, _ = io.Copy(secured, conn)
		_ = secured.CloseWrite()
	}()
	_, _ = io.Copy(conn, secured)
}

// listening waits until somebody accepts at addr.
func listening(t *testing.T, addr string) {
	t.Helper()
	eventually(t, "a listener at "+addr, func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err == nil {
			drop(conn)
		}
		return err
	})
}

// certificate writes site.pem and site.key.
func certificate(t *testing.T, folder string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "site"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	for name, block := range map[string]*pem.Block{
		"site.pem": {Type: "CERTIFICATE", Bytes: der}, "site.key": {Type: "PRIVATE KEY", Bytes: private},
	} {
		must(t, os.WriteFile(filepath.Join(folder, name), pem.EncodeToMemory(block), 0o600))
	}
}
