package integration_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// trapWorld is our proxy and Envoy with the same static listeners, by name, in front of the same applications.
type trapWorld struct {
	names []string
	twins map[string]*staticTwin
}

// at is the address of a listener of one kind.
func (w *trapWorld) at(kind, name string) string {
	for i, n := range w.names {
		if n == name {
			return local(w.twins[kind].ports[i])
		}
	}
	return "no listener " + name
}

// httpChain is a filter chain of HTTP; more are further fields of the connection manager, each with a comma behind.
func httpChain(routes, filters, more string) string {
	const at = "type.googleapis.com/envoy.extensions.filters."
	return fmt.Sprintf(`{"filters":[{"name":"envoy.filters.network.http_connection_manager","typed_config":{"@type":"%snetwork.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix":"x",%s"route_config":{"virtual_hosts":[{"name":"all","domains":["*"],"routes":[%s]}]},
		"http_filters":[%s{"name":"envoy.filters.http.router","typed_config":{"@type":"%shttp.router.v3.Router"}}]}}]}`, at, more, routes, filters, at)
}

// oneCluster is a cluster of one endpoint; more are further fields, each with a comma behind.
func oneCluster(name, more string, endpoints ...string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name":%q,%s"type":"STATIC","connect_timeout":"5s","load_assignment":{"cluster_name":%q,"endpoints":[{"lb_endpoints":[%s]}]}}`,
		name, more, name, strings.Join(endpoints, ",")))
}

func lbEndpoint(addr, more string) string {
	_, port, _ := net.SplitHostPort(addr)
	return fmt.Sprintf(`{%s"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":%s}}}}`, more, port)
}

// newTrapWorld starts the twins with one listener for each filter chain, or list of them.
func newTrapWorld(t *testing.T, clusters []json.RawMessage, chains map[string]string) *trapWorld {
	t.Helper()
	w := &trapWorld{}
	for name := range chains {
		w.names = append(w.names, name)
	}
	w.twins = staticTwins(t, harness.ForTest(t), len(chains), func(ports []int) (_, listeners []json.RawMessage) {
		for i, name := range w.names {
			listeners = append(listeners, json.RawMessage(fmt.Sprintf(`{"name":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},
				"listener_filters":[{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
				"filter_chains":[%s]}`, name, ports[i], chains[name])))
		}
		return clusters, listeners
	})
	return w
}

// both asks a question of both kinds and wants the same answer.
func (w *trapWorld) both(t *testing.T, listener, method, path string, status int, edits ...func(*http.Request)) {
	t.Helper()
	for _, kind := range kinds() {
		req, err := http.NewRequestWithContext(t.Context(), method, "http://"+w.at(kind, listener), http.NoBody)
		must(t, err)
		req.URL.Opaque = path // as it is, dots and all
		for _, edit := range edits {
			edit(req)
		}
		got, err := send(strict(t), req)
		must(t, err)
		if got.status != status {
			t.Errorf("%s, %s %s: status %d, want %d: %s", kind, method, path, got.status, status, got.body)
		}
	}
}

func rbacFilter(rules string) string {
	return fmt.Sprintf(`{"name":"rbac","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC","rules":%s}},`, rules)
}

// allowing is a policy that allows what one permission takes.
func allowing(permission string) string {
	return rbacFilter(fmt.Sprintf(`{"policies":{"p":{"permissions":[%s],"principals":[{"any":true}]}}}`, permission))
}

const direct200 = `{"match":{"prefix":"/"},"direct_response":{"status":200,"body":{"inline_string":"ok"}}}`

// TestTrapsOfIntentions puts questions by which an intention could be got around.
func TestTrapsOfIntentions(t *testing.T) {
	t.Parallel()
	regex := func(text string) string { return fmt.Sprintf(`{"safe_regex":{"regex":%q}}`, text) }
	w := newTrapWorld(t, nil, map[string]string{
		"method": httpChain(direct200, allowing(`{"header":{"name":":method","string_match":`+regex("GET|POST")+`}}`), ""),
		"path":   httpChain(direct200, allowing(`{"url_path":{"path":`+regex("/v[12]")+`}}`), `"normalize_path":true,`),
		"header": httpChain(direct200, allowing(`{"header":{"name":"x-is","string_match":`+regex("a|b")+`}}`), ""),
		"empty":  httpChain(direct200, rbacFilter(`{}`), ""),
		"deny":   httpChain(direct200, rbacFilter(`{"action":"DENY"}`), ""),
		"exact":  httpChain(direct200, allowing(`{"url_path":{"path":{"exact":"/open"}}}`), `"normalize_path":true,"merge_slashes":true,`),
		"raw":    httpChain(direct200, allowing(`{"url_path":{"path":{"prefix":"/open"}}}`), ""),
	})
	is := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-Is", value) }
	}
	t.Run("TestTrap07: expressions match in full", func(t *testing.T) {
		w.both(t, "method", http.MethodGet, "/", http.StatusOK)
		w.both(t, "method", http.MethodPost, "/", http.StatusOK)
		w.both(t, "method", http.MethodPut, "/", http.StatusForbidden)
		w.both(t, "path", http.MethodGet, "/v1", http.StatusOK)
		w.both(t, "path", http.MethodGet, "/v1?/v3", http.StatusOK)
		w.both(t, "path", http.MethodGet, "/v12", http.StatusForbidden)
		w.both(t, "path", http.MethodGet, "/x/v1", http.StatusForbidden)
		w.both(t, "header", http.MethodGet, "/", http.StatusOK, is("b"))
		w.both(t, "header", http.MethodGet, "/", http.StatusForbidden, is("ab"))
		w.both(t, "header", http.MethodGet, "/", http.StatusForbidden, is("xb"))
	})
	t.Run("TestTrap08: no rule denies", func(t *testing.T) {
		w.both(t, "empty", http.MethodGet, "/", http.StatusForbidden)
		w.both(t, "deny", http.MethodGet, "/", http.StatusOK)
	})
	t.Run("TestTrap09: the path is made normal first", func(t *testing.T) {
		w.both(t, "exact", http.MethodGet, "/open", http.StatusOK)
		w.both(t, "exact", http.MethodGet, "/open?x=/closed", http.StatusOK)
		w.both(t, "exact", http.MethodGet, "/closed/../open", http.StatusOK)
		w.both(t, "exact", http.MethodGet, "/closed/..//open", http.StatusOK)
		w.both(t, "exact", http.MethodGet, "/%6fpen", http.StatusOK)
		w.both(t, "exact", http.MethodGet, "/open/../closed", http.StatusForbidden)
		w.both(t, "exact", http.MethodGet, "/open/%2e%2e/closed", http.StatusForbidden)
		w.both(t, "exact", http.MethodGet, "/closed?/open", http.StatusForbidden)
		w.both(t, "raw", http.MethodGet, "/open/../closed", http.StatusOK) // where nothing makes it normal
	})
}

// trapApp tells the protocol that it hears, after as long as the path says.
func trapApp() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		wait, _ := time.ParseDuration(r.URL.Query().Get("wait"))
		if r.URL.Path == "/stream" {
			_, _ = io.WriteString(w, "begun ")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-time.After(wait):
		case <-r.Context().Done():
			return
		}
		_, _ = io.WriteString(w, r.Proto)
	})
}

// TestTraps puts both into front of applications where a naive proxy goes wrong.
func TestTraps(t *testing.T) {
	t.Parallel()
	plain := httptest.NewUnstartedServer(trapApp())
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetHTTP1(true)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	t.Cleanup(plain.Close)
	ca := newAuthority(t)
	secure, stubborn := ca.server(t, []string{"h2", "http/1.1"}), ca.server(t, nil)
	app, gone := plain.Listener.Addr().String(), "127.0.0.1:9"
	const options = `"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{
		"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",%s}},`
	h2 := fmt.Sprintf(options, `"explicit_http_config":{"http2_protocol_options":{}}`)
	follow := fmt.Sprintf(options, `"use_downstream_protocol_config":{"http_protocol_options":{},"http2_protocol_options":{}}`)
	trust := fmt.Sprintf(`"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
		"sni":"x","common_tls_context":{"validation_context":{"trusted_ca":{"inline_string":%q},
		"match_typed_subject_alt_names":[{"san_type":"URI","matcher":{"exact":"spiffe://test.consul/app"}}]}}}},`, ca.pem())
	ill := `"health_status":"UNHEALTHY",`
	clusters := []json.RawMessage{
		oneCluster("app", "", lbEndpoint(app, "")), oneCluster("gone", "", lbEndpoint(gone, "")),
		oneCluster("a", "", lbEndpoint(app, "")), oneCluster("b", "", lbEndpoint(app, "")), oneCluster("c", "", lbEndpoint(app, "")),
		oneCluster("follow", follow, lbEndpoint(app, "")),
		oneCluster("secure", trust, lbEndpoint(secure, "")), oneCluster("secure2", trust+h2, lbEndpoint(secure, "")),
		oneCluster("stubborn2", trust+h2, lbEndpoint(stubborn, "")),
		oneCluster("panic", "", lbEndpoint(app, ill), lbEndpoint(app, ill)),
		oneCluster("calm", `"common_lb_config":{"healthy_panic_threshold":{}},`, lbEndpoint(app, ill), lbEndpoint(app, ill)),
	}
	to := func(route string) string { return httpChain(`{"match":{"prefix":"/"},"route":{`+route+`}}`, "", "") }
	chains := map[string]string{
		"unset": to(`"cluster":"app"`), "zero": to(`"cluster":"app","timeout":"0s"`),
		"weights": to(`"weighted_clusters":{"clusters":[{"name":"a","weight":3333},{"name":"b","weight":3333},{"name":"c","weight":3333}]}`),
		"follow":  to(`"cluster":"follow"`), "secure": to(`"cluster":"secure"`), "secure2": to(`"cluster":"secure2"`), "stubborn2": to(`"cluster":"stubborn2"`),
		"panic": to(`"cluster":"panic"`), "calm": to(`"cluster":"calm"`),
		"names": ca.named(t, "one.example", to(`"cluster":"app"`)) + "," + ca.named(t, "two.example", to(`"cluster":"app"`)) +
			`,{"filters":[{"name":"tcp","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","stat_prefix":"x","cluster":"gone"}}]}`,
	}
	w := newTrapWorld(t, clusters, chains)
	t.Run("TestTrap10: routes without a timeout have 15 s", func(t *testing.T) { t.Parallel(); testTrap10(t, w) })
	t.Run("TestTrap11: panic", func(t *testing.T) {
		w.both(t, "panic", http.MethodGet, "/", http.StatusOK)
		w.both(t, "calm", http.MethodGet, "/", http.StatusServiceUnavailable)
	})
	t.Run("TestTrap13: weights that do not add up", func(t *testing.T) {
		for range 30 {
			w.both(t, "weights", http.MethodGet, "/", http.StatusOK)
		}
	})
	t.Run("TestTrap16: HTTP/2 by the cluster, not by negotiation", func(t *testing.T) {
		w.says(t, "secure", strict(t), "HTTP/1.1")
		w.says(t, "secure2", strict(t), "HTTP/2.0")
		w.says(t, "stubborn2", strict(t), "HTTP/2.0")
	})
	t.Run("TestTrap17: the protocol of who asks", func(t *testing.T) {
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols}
		t.Cleanup(transport.CloseIdleConnections)
		w.says(t, "follow", strict(t), "HTTP/1.1")
		w.says(t, "follow", &http.Client{Transport: transport, Timeout: 10 * time.Second}, "HTTP/2.0")
		w.says(t, "unset", &http.Client{Transport: transport, Timeout: 10 * time.Second}, "HTTP/1.1")
	})
	t.Run("TestTrap21: certificates by name, and a chain for those without", func(t *testing.T) { testTrap21(t, w) })
}

// says wants the application to have heard a protocol.
func (w *trapWorld) says(t *testing.T, listener string, client *http.Client, protocol string) {
	t.Helper()
	for _, kind := range kinds() {
		got, err := fetch(t.Context(), client, "http://"+w.at(kind, listener)+"/")
		must(t, err)
		if got.body != protocol {
			t.Errorf("%s, %s: status %d: %s, want %s", kind, listener, got.status, got.body, protocol)
		}
	}
}

// testTrap10 waits for longer than Envoy's default.
func testTrap10(t *testing.T, w *trapWorld) {
	t.Helper()
	const longer = "wait=16500ms"
	var asking sync.WaitGroup
	for _, kind := range kinds() {
		for _, c := range []struct {
			listener, path string
			status         int
			whole          bool
		}{
			{"unset", "/?" + longer, http.StatusGatewayTimeout, true},
			{"zero", "/?" + longer, http.StatusOK, true},
			{"unset", "/stream?" + longer, http.StatusOK, false},
			{"zero", "/stream?" + longer, http.StatusOK, true},
		} {
			asking.Go(func() {
				client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+w.at(kind, c.listener)+c.path, http.NoBody)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Errorf("%s: %v", kind, err)
					return
				}
				defer resp.Body.Close()
				body, err := io.ReadAll(resp.Body)
				if resp.StatusCode != c.status || (err == nil) != c.whole {
					t.Errorf("%s, %s%s: status %d, %q, %v; want status %d, whole %v", kind, c.listener, c.path, resp.StatusCode, body, err, c.status, c.whole)
				}
			})
		}
	}
	asking.Wait()
}

// testTrap21 looks at who answers to a name.
func testTrap21(t *testing.T, w *trapWorld) {
	t.Helper()
	for _, kind := range kinds() {
		for _, name := range []string{"one.example", "two.example"} {
			var leaf *x509.Certificate
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
				ServerName: name, InsecureSkipVerify: true,
				VerifyConnection: func(state tls.ConnectionState) error {
					leaf = state.PeerCertificates[0]
					return nil
				},
			}}}
			got, err := fetch(t.Context(), client, "https://"+w.at(kind, "names")+"/")
			must(t, err)
			if got.body != "HTTP/1.1" || leaf.URIs[0].String() != "spiffe://test.consul/"+name {
				t.Errorf("%s: %s is answered by %v: %s", kind, name, leaf.URIs, got.body)
			}
		}
		// As Consul's check of a gateway does: it connects, and says nothing.
		must(t, refused(t.Context(), w.at(kind, "names")))
	}
}

// named is a chain for one server name, with a certificate of its own.
func (ca *authority) named(t *testing.T, name, chain string) string {
	t.Helper()
	cert, key := ca.leaf(t, "spiffe://test.consul/"+name)
	return strings.Replace(chain, "{", fmt.Sprintf(`{"filter_chain_match":{"server_names":[%q]},"transport_socket":{"name":"tls","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","common_tls_context":{
		"tls_certificates":[{"certificate_chain":{"inline_string":%q},"private_key":{"inline_string":%q}}]}}},`, name, cert, key), 1)
}

// server is an application behind TLS that offers the protocols by ALPN, and serves what begins, whatever was negotiated.
func (ca *authority) server(t *testing.T, offers []string) string {
	t.Helper()
	pair, err := tls.X509KeyPair(ca.leaf(t, "spiffe://test.consul/app"))
	must(t, err)
	server := httptest.NewUnstartedServer(trapApp())
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetHTTP1(true)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Listener = veiled{tls.NewListener(server.Listener, &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: offers})}
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// veiled hides that its connections are of TLS, so that what they begin with counts.
type veiled struct{ net.Listener }

func (v veiled) Accept() (net.Conn, error) {
	conn, err := v.Listener.Accept()
	return struct{ net.Conn }{conn}, err
}
