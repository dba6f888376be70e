package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// tlsOperators are operators of TLS and certificates, by their names.
func tlsOperators() map[string]string {
	all := map[string]string{}
	for name := range strings.FieldsSeq(`DOWNSTREAM_TLS_VERSION DOWNSTREAM_TLS_CIPHER DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_ISSUER DOWNSTREAM_PEER_SERIAL
		DOWNSTREAM_PEER_URI_SAN DOWNSTREAM_PEER_DNS_SAN DOWNSTREAM_PEER_IP_SAN DOWNSTREAM_PEER_EMAIL_SAN DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_FINGERPRINT_1
		DOWNSTREAM_PEER_CERT DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_CERT_V_END(%s) DOWNSTREAM_PEER_CHAIN_SERIALS DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256
		DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1 DOWNSTREAM_LOCAL_SUBJECT DOWNSTREAM_LOCAL_URI_SAN DOWNSTREAM_LOCAL_DNS_SAN DOWNSTREAM_LOCAL_IP_SAN
		DOWNSTREAM_LOCAL_EMAIL_SAN REQUESTED_SERVER_NAME DOWNSTREAM_TRANSPORT_FAILURE_REASON`) {
		all[name] = "%" + name + "%"
	}
	return all
}

// TestTLSOperatorsAsEnvoy logs what clients show and are shown, over TLS 1.3 and 1.2, with and without a certificate.
func TestTLSOperatorsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	ca := newSigningCA(t, "an authority")
	server := ca.issue(t, func(c *x509.Certificate) {
		uris("spiffe://x/ns/default/dc/dc1/svc/api", "spiffe://x/other")(c)
		c.Subject = pkix.Name{CommonName: "api", Organization: []string{"Us"}}
		c.DNSNames, c.IPAddresses, c.EmailAddresses = []string{"twin.example", "b.example"}, []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"a@b.example"}
	})
	plain := ca.issue(t, uris("spiffe://x/ns/default/dc/dc1/svc/web"))
	rich := ca.issue(t, func(c *x509.Certificate) {
		c.Subject = pkix.Name{CommonName: `we"b, + <é>`, Organization: []string{"A", "B"}, OrganizationalUnit: []string{"u; #v "}, Country: []string{"DE"}, Locality: []string{"#x"}}
		c.DNSNames, c.IPAddresses, c.EmailAddresses = []string{"web.example", "*.web.example"}, []net.IP{net.IPv4(10, 0, 0, 1), net.ParseIP("2001:db8::1")}, []string{"w@b.example"}
	})
	var paths []string
	twins := staticTwins(t, env, 1, func(ports []int) (clusters, listeners []json.RawMessage) {
		path := filepath.Join(env.Dir(), fmt.Sprintf("tls%d", len(paths)))
		paths = append(paths, path)
		optional := strings.Replace(downstreamTLS(t, server, trusting(ca)), `"requireClientCertificate":true`, `"requireClientCertificate":false`, 1)
		return []json.RawMessage{clusterAt("app", app.Listener.Addr().String())}, []json.RawMessage{fmt.Appendf(nil, `{"name":"tls","address":{"socket_address":{"address":
			"127.0.0.1","port_value":%d}},"listener_filters":[{"name":"inspector","typed_config":{"@type":
			"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],"filter_chains":[{"transport_socket":%s,"filters":[{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"tls","access_log":[%s],
			"http_filters":[{"name":"router","typed_config":{"@type":%q}}],"route_config":{"name":"r","virtual_hosts":[{"name":"v","domains":["*"],
			"routes":[{"match":{"prefix":"/"},"route":{"cluster":"app"}}]}]}}}]}]}`, ports[0], optional, hcmType,
			fileLog(path, "", string(asJSON(map[string]any{"json_format": tlsOperators()}))), routerAny)}
	})
	clients := []struct {
		name    string
		leaf    *tls.Certificate
		version uint16
	}{{"plain", &plain, tls.VersionTLS13}, {"rich", &rich, tls.VersionTLS13}, {"1.2", &rich, tls.VersionTLS12}, {"none", nil, tls.VersionTLS13}}
	read := map[string][]map[string]any{}
	for i, kind := range kinds() {
		for _, c := range clients {
			config := &tls.Config{InsecureSkipVerify: true, ServerName: "twin.example", MinVersion: c.version, MaxVersion: c.version} //nolint:gosec // both are ours
			config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
			if c.leaf != nil {
				config.Certificates = []tls.Certificate{*c.leaf}
			}
			eventually(t, "an answer of "+kind+" to "+c.name, func(ctx context.Context) error {
				conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", local(twins[kind].ports[0]))
				if err != nil {
					return err
				}
				defer conn.Close()
				if _, err = io.WriteString(conn, "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"); err == nil {
					_, err = io.Copy(io.Discard, conn)
				}
				return err
			})
		}
		waitLines(t, paths[i], len(clients))
		text, err := os.ReadFile(paths[i])
		must(t, err)
		for line := range strings.Lines(string(text)) {
			var fields map[string]any
			must(t, json.Unmarshal([]byte(line), &fields))
			// With TLS 1.3 the side that chooses is the server: it prefers what its processor is fast at.
			if cipher, _ := fields["DOWNSTREAM_TLS_CIPHER"].(string); strings.HasPrefix(cipher, "TLS_") {
				fields["DOWNSTREAM_TLS_CIPHER"] = "TLS 1.3"
			}
			read[kind] = append(read[kind], fields)
		}
	}
	if diff := cmp.Diff(read["envoy"], read["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%v", read["envoy"])
}
