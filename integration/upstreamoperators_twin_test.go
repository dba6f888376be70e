package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// upstreamOperators are operators that tell of an endpoint and the connection to it, by their names.
func upstreamOperators() map[string]string {
	all := map[string]string{}
	for name := range strings.FieldsSeq(`UPSTREAM_TLS_VERSION UPSTREAM_TLS_CIPHER UPSTREAM_PEER_SUBJECT UPSTREAM_PEER_ISSUER UPSTREAM_PEER_CERT UPSTREAM_PEER_CERT_V_START
		UPSTREAM_PEER_CERT_V_END UPSTREAM_PEER_CERT_V_END(%s) UPSTREAM_PEER_URI_SAN UPSTREAM_PEER_DNS_SAN UPSTREAM_PEER_IP_SAN UPSTREAM_LOCAL_URI_SAN UPSTREAM_LOCAL_DNS_SAN
		UPSTREAM_LOCAL_IP_SAN UPSTREAM_CONNECTION_ID UPSTREAM_TLS_SESSION_ID UPSTREAM_CLUSTER UPSTREAM_HOST UPSTREAM_HOST_NAME UPSTREAM_HOST_NAME_WITHOUT_PORT
		UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_PORT UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT CLUSTER_METADATA(own) CLUSTER_METADATA(own:name) CLUSTER_METADATA(own:deep:list)
		CLUSTER_METADATA(own:none) CLUSTER_METADATA(own:number) CLUSTER_METADATA(own:null) UPSTREAM_METADATA(own) UPSTREAM_METADATA(own:zone)
		UPSTREAM_METADATA(other:zone) METADATA(CLUSTER:own:name) METADATA(ROUTE:own:team) METADATA(ROUTE:own) METADATA(UPSTREAM_HOST:own:zone)`) {
		all[name] = "%" + name + "%"
	}
	all["from"] = "%DOWNSTREAM_REMOTE_PORT%" // which is not compared
	all["mixed"] = "a %CLUSTER_METADATA(own:number)% %CLUSTER_METADATA(own:deep)% %UPSTREAM_METADATA(own:yes)% %UPSTREAM_METADATA(own:none)%"
	return all
}

// describedCluster is a cluster of one endpoint, with metadata of both, TLS by secured ("" for none) and further fields.
func describedCluster(name, address, secured, more string) json.RawMessage {
	host, port, _ := net.SplitHostPort(address)
	return fmt.Appendf(nil, `{"name":%q,"type":"STATIC","connect_timeout":"1s",%s%s"metadata":{"filter_metadata":{"own":{"name":%q,"number":1.5,"null":null,
		"deep":{"list":[1,"x",true],"b":"\"q\""}}}},"load_assignment":{"cluster_name":%q,"endpoints":[{"lb_endpoints":[{"endpoint":{"hostname":"one.example:80",
		"address":{"socket_address":{"address":%q,"port_value":%s}}},"metadata":{"filter_metadata":{"own":{"zone":"z1","yes":true}}}}]}]}}`,
		name, prefixed("transport_socket", secured), behind(more), name, name, host, port)
}

// upstreamTLS is a transport socket that shows leaf and speaks one version of TLS.
func upstreamTLS(t *testing.T, leaf tls.Certificate, ca *signingCA, version string) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	must(t, err)
	return fmt.Sprintf(`{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","sni":"twin.example",
		"common_tls_context":{"tls_params":{"tls_minimum_protocol_version":%q,"tls_maximum_protocol_version":%q},"tls_certificates":[{"certificate_chain":{"inline_string":%q},
		"private_key":{"inline_string":%q}}],"validation_context":{"trusted_ca":{"inline_string":%q},"match_typed_subject_alt_names":[{"san_type":"URI",
		"matcher":{"exact":"spiffe://x/ns/default/dc/dc1/svc/api"}}]}}}}`, version, version, pemOf("CERTIFICATE", leaf.Certificate[0]), pemOf("PRIVATE KEY", key), ca.pem())
}

// TestUpstreamOperatorsAsEnvoy logs what endpoints show and are said to be: over TLS of both versions and without, HTTP of both versions
// and raw connections, and where nobody accepts.
func TestUpstreamOperatorsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	ca := newSigningCA(t, "an authority")
	server := ca.issue(t, func(c *x509.Certificate) {
		uris("spiffe://x/ns/default/dc/dc1/svc/api", "spiffe://x/other")(c)
		c.Subject = pkix.Name{CommonName: "api", Organization: []string{"Us"}}
		c.DNSNames, c.IPAddresses = []string{"twin.example", "b.example"}, []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	ours := ca.issue(t, func(c *x509.Certificate) {
		uris("spiffe://x/ns/default/dc/dc1/svc/web")(c)
		c.DNSNames, c.IPAddresses = []string{"web.example"}, []net.IP{net.IPv4(10, 0, 0, 1)}
	})
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	app.EnableHTTP2 = true
	app.TLS = &tls.Config{
		Certificates: []tls.Certificate{server}, ClientAuth: tls.RequireAnyClientCert, SessionTicketsDisabled: true,
		CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
	}
	app.Config.ErrorLog = log.New(io.Discard, "", 0)
	app.StartTLS()
	t.Cleanup(app.Close)
	plain := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(plain.Close)
	const h2 = `"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{` +
		`"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}}`
	secured := app.Listener.Addr().String()
	clusters := []json.RawMessage{
		describedCluster("tls13", secured, upstreamTLS(t, ours, ca, "TLSv1_3"), ""), describedCluster("tls12", secured, upstreamTLS(t, ours, ca, "TLSv1_2"), ""),
		describedCluster("h2", secured, strings.Replace(upstreamTLS(t, ours, ca, "TLSv1_3"), `"tls_params"`, `"alpn_protocols":["h2"],"tls_params"`, 1), h2),
		describedCluster("raw", secured, upstreamTLS(t, ours, ca, "TLSv1_3"), ""), describedCluster("plain", plain.Listener.Addr().String(), "", ""),
		describedCluster("refused", "127.0.0.1:1", "", ""), clusterAt("none", ""),
	}
	names := []string{"tls13", "tls12", "h2", "plain", "refused", "none"}
	var routes []json.RawMessage
	for _, name := range names {
		routes = append(routes, fmt.Appendf(nil, `{"metadata":{"filter_metadata":{"own":{"team":"blue"}}},"match":{"prefix":"/%s"},"route":{"cluster":%q}}`, name, name))
	}
	var paths []string
	twins := staticTwins(t, env, 4, func(ports []int) (_, listeners []json.RawMessage) {
		path := filepath.Join(env.Dir(), fmt.Sprintf("upstream%d.", len(paths)))
		paths = append(paths, path)
		format := string(asJSON(map[string]any{"json_format": upstreamOperators()}))
		hcm := asJSON(map[string]any{"name": "hcm", "typed_config": map[string]any{
			"@type": hcmType, "stat_prefix": "h", "access_log": []json.RawMessage{fileLog(path+"http", "", format)},
			"http_filters": []any{map[string]any{"name": "router", "typed_config": map[string]any{"@type": routerAny}}},
			"route_config": map[string]any{"name": "rc", "virtual_hosts": []any{map[string]any{"name": "v", "domains": []string{"*"}, "routes": routes}}},
		}})
		listeners = append(listeners, boundListener("http", ports[0], nil, []json.RawMessage{hcm}, "{}"))
		for i, name := range []string{"raw", "plain", "refused"} {
			listeners = append(listeners, boundListener("tcp"+name, ports[1+i], nil, []json.RawMessage{tcpFilter(name, fileLog(path+"tcp"+name, `"filter":{"duration_filter":{"comparison":{"op":"GE","value":{"default_value":0,"runtime_key":"x"}}}},`, format))}, "{}"))
		}
		return clusters, listeners
	})
	ports := map[string]map[string]string{} // of our connections, by kind and log
	for i, kind := range kinds() {
		twin := twins[kind]
		ports[kind] = map[string]string{}
		for _, name := range names {
			for range 2 {
				exchangeRaw(t, twin.ports[0], "GET /"+name+" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
			}
		}
		for j, name := range []string{"raw", "plain", "refused"} {
			speakTo(t, local(twin.ports[1+j]), "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", func(conn net.Conn, r *bufio.Reader) {
				_, ports[kind]["tcp"+name], _ = net.SplitHostPort(conn.LocalAddr().String())
				_, _ = io.Copy(io.Discard, r)
			})
		}
		waitLines(t, paths[i]+"http", 2*len(names))
	}
	read := map[string][]map[string]any{}
	eventually(t, "the same lines", func(context.Context) error { // our own may yet be to come
		for i, kind := range kinds() {
			var err error
			if read[kind], err = upstreamLines(paths[i], ports[kind]); err != nil {
				return err
			}
		}
		if diff := cmp.Diff(read["envoy"], read["serai"]); diff != "" {
			return fmt.Errorf("-envoy +serai:\n%s", diff)
		}
		return nil
	})
	for _, fields := range append(read["envoy"], read["serai"]...) {
		if s, ok := fields["UPSTREAM_PEER_CERT"].(string); ok && !regexp.MustCompile("^-----BEGIN%20CERTIFICATE-----%0A").MatchString(s) {
			t.Errorf("a certificate %q", s)
		}
	}
	t.Logf("%v", read["envoy"])
}

// upstreamLines are the lines about requests, and those about the connections of ours, which come from ports by the name of the
// log: staticTwins itself has looked whether listeners are there.
func upstreamLines(path string, ports map[string]string) ([]map[string]any, error) {
	var all []map[string]any
	ids := map[any]bool{}
	for _, name := range []string{"http", "tcpraw", "tcpplain", "tcprefused"} {
		text, err := os.ReadFile(path + name)
		if err != nil {
			return nil, err
		}
		ours := 0
		for line := range strings.Lines(string(text[:bytes.LastIndexByte(text, '\n')+1])) { // the last may be half written
			var fields map[string]any
			if err := json.Unmarshal([]byte(line), &fields); err != nil {
				return nil, fmt.Errorf("%s: %w: %s", name, err, line)
			}
			if port := fmt.Sprint(fields["from"]); name != "http" && port != ports[name] {
				continue
			}
			delete(fields, "from")
			ours++
			if id := fields["UPSTREAM_CONNECTION_ID"]; id != 0.0 {
				fields["UPSTREAM_CONNECTION_ID"] = "first" // or one that was seen before
				if ids[id] {
					fields["UPSTREAM_CONNECTION_ID"] = "again"
				}
				ids[id] = true
			}
			all = append(all, fields)
		}
		if ours == 0 {
			return nil, fmt.Errorf("%s%s: there is no line of ours in\n%s", path, name, text)
		}
	}
	return all, nil
}
