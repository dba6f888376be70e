package integration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestH2Spec runs h2spec, strictly, against the edge: in clear and over TLS, in front of an upstream of either protocol.
func TestH2Spec(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	h2spec, err := env.Tool("h2spec")
	if err != nil {
		harness.Skip(t, "h2spec is not built: "+err.Error())
	}
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
	first, err := env.Ports(2)
	must(t, err)
	certificate(t, env.Dir())
	file := filepath.Join(env.Dir(), "edge.hcl")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `edge {
  listener "plain" { address = %q }
  listener "secure" {
    address = %q
    tls {
      certificate_file = "site.pem"
      key_file         = "site.key"
    }
  }
  api "http" {
    listeners = ["plain"]
    route "all" {
      upstream { addresses = [%[3]q] }
    }
  }
  api "http2" {
    listeners = ["secure"]
    route "all" {
      upstream {
        addresses = [%[3]q]
        protocol  = "http2"
      }
    }
  }
}
`, local(first), local(first+1), app.Listener.Addr().String()), 0o600))
	_, err = env.Serai([]string{"edge", "-config", file})
	must(t, err)
	for n, name := range []string{"in clear", "over TLS"} {
		listening(t, local(first+n))
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			args := []string{"--strict", "-h", "127.0.0.1", "-p", strconv.Itoa(first + n), "-o", "2"}
			if n == 1 {
				args = append(args, "-t", "-k")
			}
			out, err := exec.CommandContext(ctx, h2spec, args...).CombinedOutput()
			summary := regexp.MustCompile(`\d+ tests, \d+ passed, 0 skipped, (\d+) failed`).FindSubmatch(out)
			want := "0"
			if n == 0 {
				// On a port for both protocols, what is no preface is taken for HTTP/1 and gets its 400.
				want = "1"
				if !strings.Contains(string(out), "× 2: Sends invalid connection preface") {
					t.Errorf("it is another one: %v", err)
				}
			}
			if summary == nil || string(summary[1]) != want {
				t.Fatalf("%v\n%s", err, out)
			}
			t.Logf("%s", summary[0])
		})
	}
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
