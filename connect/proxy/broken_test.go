package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/xds/resource"
)

// keyPair is a certificate with that serial number, and its key.
func keyPair(t *testing.T, serial int64) (chain, key string) {
	t.Helper()
	secret, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, secret.Public(), secret)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalECPrivateKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: text}))
}

// tlsChain is tcpChain behind TLS; more is of its common context.
func tlsChain(cluster, chain, key, more string) string {
	plain := tcpChain("", cluster)
	return strings.TrimSuffix(plain, "}") + fmt.Sprintf(`,"transport_socket":{"name":"tls","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","common_tls_context":{
		"tls_certificates":[{"certificate_chain":{"inline_string":%q},"private_key":{"inline_string":%q}}]%s}}}}`, chain, key, more)
}

// serial shakes hands and tells which certificate was shown.
func serial(t *testing.T, address string) (int64, error) {
	t.Helper()
	conn := tls.Client(reach(t, address), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is only looked at
	if err := conn.Handshake(); err != nil {
		return 0, err
	}
	var name [1]byte
	if _, err := io.ReadFull(conn, name[:]); err != nil {
		return 0, err
	}
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// A certificate that does not fit its key breaks no chain: the last one is shown on,
// all else is as it is said, and it is told. What changes whom we believe is no such
// case, and refuses the chain.
func TestBrokenCertificateLeavesTheLast(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a"), "b": says(t, "b")})
	address := freeAddress(t)
	chain, key := keyPair(t, 1)
	other, _ := keyPair(t, 2)
	push := func(cluster, chain, more string) {
		t.Helper()
		d.push(t, resource.ListenerType, nil, listener("l", address, "", tlsChain(cluster, chain, key, more)))
	}
	refusals := func() string { return fmt.Sprint(d.proxy.Status().Refusals) }
	push("a", chain, "")
	if got, err := serial(t, address); got != 1 || err != nil {
		t.Fatalf("certificate %d, %v", got, err)
	}
	push("b", other, "")
	if got, err := serial(t, address); got != 1 || err != nil {
		t.Errorf("certificate %d, %v", got, err)
	}
	conn := tls.Client(reach(t, address), &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // it is only looked at
	expect(t, conn, "x", "bx")                                                   // all else is new
	if got := refusals(); !strings.Contains(got, "the last certificate stays, since the new one cannot be used: our certificate:") {
		t.Errorf("not told: %s", got)
	}
	// Where all of it is not taken since addresses collide, nothing has changed.
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tlsChain("a", chain, key, "")))
	told := func() int { return strings.Count(d.log.String(), "a new certificate is not taken") }
	before := told()
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tlsChain("a", other, key, "")), listener("m", address, "", tcpChain("", "a")))
	if got := d.proxy.Status(); got.LastError == "" || fmt.Sprint(got.Refusals) != "[]" {
		t.Errorf("%q, %+v", got.LastError, got.Refusals)
	}
	d.push(t, resource.ListenerType, []string{"m"})
	if got := refusals(); !strings.Contains(got, "stays") || told() != before+2 {
		t.Errorf("told %d times, %s", told()-before, got)
	}
	push("b", other, `,"tls_params":{"tls_minimum_protocol_version":"TLSv1_3"}`)
	if got, err := serial(t, address); err == nil {
		t.Errorf("certificate %d, though what is asked for has changed", got)
	}
	if got := refusals(); !strings.Contains(got, "our certificate:") || strings.Contains(got, "stays") {
		t.Errorf("not told: %s", got)
	}
	push("a", chain, "")
	if got, err := serial(t, address); got != 1 || err != nil || refusals() != "[]" {
		t.Errorf("certificate %d, %v, %s", got, err, refusals())
	}
}
