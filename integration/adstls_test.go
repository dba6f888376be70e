package integration_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// serverCertificate writes a certificate for this machine, which is its own authority, and its key.
func serverCertificate(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"server.dc1.consul", "localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	must(t, err)
	text, err := x509.MarshalECPrivateKey(secret)
	must(t, err)
	cert, key = filepath.Join(dir, "server.crt"), filepath.Join(dir, "server.key")
	must(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text}), 0o600))
	return cert, key
}

// TestStreamOverTLS configures sidecars by Consul's gRPC port with TLS: one by flags, one by a bootstrap file, and one
// that does not trust it, which gets nothing and says why.
func TestStreamOverTLS(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	cert, key := serverCertificate(t, env.Dir())
	port, err := env.Port()
	must(t, err)
	consul, err := env.Consul(t.Context(), harness.ConsulConfig{HCL: fmt.Sprintf(
		"ports { grpc_tls = %d }\ntls { grpc { ca_file = %q\n cert_file = %q\n key_file = %q } }", port, cert, cert, key)})
	must(t, err)
	w := &world{env: env, consul: consul, interval: "1s", tokens: map[string]string{}}
	address := "https://" + local(port)

	byFlags := w.register(t, "flags-1", "flags")
	byFlags.sidecar, err = env.Serai([]string{"connect", "-sidecar-for", byFlags.id, "-admin-bind", local(byFlags.admin)},
		append(consul.Environ(w.token(t, "flags")), "CONSUL_GRPC_ADDR="+address, "CONSUL_GRPC_CACERT="+cert)...)
	must(t, err)
	sidecarReady(t, byFlags)

	byFile := w.register(t, "file-1", "file")
	tool, err := env.Tool("consul")
	must(t, err)
	cmd := exec.CommandContext(t.Context(), tool, "connect", "envoy", "-bootstrap", "-ignore-envoy-compatibility", "-sidecar-for", byFile.id,
		"-http-addr", consul.HTTPAddr, "-grpc-addr", address, "-grpc-ca-file", cert, "-token", w.token(t, "file"), "-admin-bind", local(byFile.admin))
	text, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("consul connect envoy: %v: %s", err, exit.Stderr)
	}
	must(t, err)
	file := filepath.Join(env.Dir(), "bootstrap.json")
	must(t, os.WriteFile(file, text, 0o600))
	byFile.sidecar, err = env.Serai([]string{"connect", "-c", file})
	must(t, err)
	sidecarReady(t, byFile)

	other := filepath.Join(env.Dir(), "other")
	must(t, os.Mkdir(other, 0o700))
	wrong, _ := serverCertificate(t, other)
	distrusts := w.register(t, "distrusts-1", "distrusts")
	distrusts.sidecar, err = env.Serai([]string{"connect", "-sidecar-for", distrusts.id, "-admin-bind", local(distrusts.admin)},
		append(consul.Environ(w.token(t, "distrusts")), "CONSUL_GRPC_ADDR="+address, "CONSUL_GRPC_CACERT="+wrong)...)
	must(t, err)
	must(t, distrusts.sidecar.WaitLog(t.Context(), "unknown authority"))
	waitStatus(t, distrusts.ready(), 503)
}
