package integration_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestAutoOptionsAsEnvoy agrees with a server on the protocol, and asks it for the host of each request.
func TestAutoOptionsAsEnvoy(t *testing.T) {
	t.Parallel()
	ca := newSigningCA(t, "one")
	leaf := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "b.example", "*.wild.example"} })
	serve := func(protocols ...string) string {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "%s sni=%s", r.Proto, r.TLS.ServerName)
		}))
		server.EnableHTTP2 = len(protocols) > 1
		server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf}, NextProtos: protocols}
		server.StartTLS()
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	both, old, none := serve("h2", "http/1.1"), serve("http/1.1"), serve()
	options := func(text string) string {
		return `"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",` + text + `}}`
	}
	cluster := func(name, address, sni, text string) string {
		addr, err := net.ResolveTCPAddr("tcp", address)
		must(t, err)
		socket := fmt.Sprintf(`"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","sni":%q,"commonTlsContext":{"validationContext":%s}}}`,
			sni, trusting(ca))
		return string(clusterOf(name, socket+","+options(text), endpointAt(addr, "")))
	}
	const auto, one = `"autoConfig":{}`, `"explicitHttpConfig":{"httpProtocolOptions":{}}`
	const two, both2 = `"explicitHttpConfig":{"http2ProtocolOptions":{}}`, `"upstreamHttpProtocolOptions":{"autoSni":true,"autoSanValidation":true},`
	clusters := []string{
		cluster("auto-both", both, "a.example", auto), cluster("auto-old", old, "a.example", auto), cluster("auto-none", none, "a.example", auto),
		cluster("sni", both, "x.example", both2+one), cluster("sni2", both, "x.example", both2+two), cluster("sni-auto", both, "x.example", both2+auto),
		cluster("san", both, "x.example", `"upstreamHttpProtocolOptions":{"autoSanValidation":true},`+one),
		cluster("unchecked", both, "x.example", `"upstreamHttpProtocolOptions":{"autoSni":true},`+one),
		cluster("header", both, "x.example", `"upstreamHttpProtocolOptions":{"autoSni":true,"autoSanValidation":true,"overrideAutoSniHeader":"x-name"},`+one),
	}
	// Checks are no requests: they go by the names that are configured, and speak what they are said to.
	checked := func(name, san, text string) {
		const checks = `"commonLbConfig":{"healthyPanicThreshold":{}},"healthChecks":[{"timeout":"5s","interval":"0.1s","noTrafficInterval":"0.1s","unhealthyThreshold":1,"healthyThreshold":1,"httpHealthCheck":{"path":"/"}}],`
		c := cluster(name, both, "x.example", text)
		c = strings.Replace(c, trusting(ca), strings.TrimSuffix(trusting(ca), "}")+`,"matchTypedSubjectAltNames":[{"sanType":"DNS","matcher":{"exact":"`+san+`"}}]}`, 1)
		clusters = append(clusters, strings.Replace(c, `"transportSocket"`, checks+`"transportSocket"`, 1))
	}
	const bySAN = `"upstreamHttpProtocolOptions":{"autoSanValidation":true},`
	checked("s-checked", "b.example", bySAN+auto)
	checked("s-checked-stranger", "stranger.example", bySAN+auto)
	specs := map[string]chainSpec{}
	for _, name := range []string{"auto-both", "auto-old", "auto-none", "sni", "sni2", "sni-auto", "san", "unchecked", "header", "s-checked", "s-checked-stranger"} {
		specs[name] = chainSpec{cluster: name}
	}
	w := newTwin(t, specs, clusters...)
	want := map[string]string{ // for a.example
		"auto-both": "HTTP/2.0 sni=a.example", "auto-old": "HTTP/1.1 sni=a.example", "auto-none": "HTTP/1.1 sni=a.example",
		"sni": "HTTP/1.1 sni=a.example", "sni2": "HTTP/2.0 sni=a.example", "sni-auto": "HTTP/2.0 sni=a.example", "san": "HTTP/1.1 sni=x.example",
		"unchecked": "HTTP/1.1 sni=a.example", "header": "HTTP/1.1 sni=a.example",
		"s-checked": "HTTP/2.0 sni=x.example", "s-checked-stranger": "no healthy upstream\n",
	}
	for name := range specs {
		for _, host := range []string{"a.example", "b.example", "A.example:8443", "c.wild.example", "stranger.example", "a.example", "127.0.0.1"} {
			for range 2 {
				got := w.ask(t, name, request("GET /", "Host: "+host))
				if host == "a.example" && got.body != want[name] {
					t.Errorf("%s: %d %q", name, got.status, got.body)
				}
				if refused := got.status == http.StatusServiceUnavailable; host == "stranger.example" && refused != (strings.HasPrefix(name, "s") || name == "header") {
					t.Errorf("%s: a stranger gets %d %s", name, got.status, got.body)
				}
			}
		}
		w.ask(t, name, request("GET /", "Host: a.example", "X-Name: b.example"))
		w.ask(t, name, request("GET /", "Host: a.example", "X-Name: stranger.example"))
	}
}

// TestRawNamesAsEnvoy makes raw connections by clusters that go by the host of a request: these go by the names that are
// configured, and by who has signed the certificate where there are none.
func TestRawNamesAsEnvoy(t *testing.T) {
	t.Parallel()
	ca, other := newSigningCA(t, "one"), newSigningCA(t, "other")
	leaf := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} })
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "sni=%s", r.TLS.ServerName) }))
	server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{leaf}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not believe it
	server.StartTLS()
	t.Cleanup(server.Close)
	named := func(san string) string {
		return strings.TrimSuffix(trusting(ca), "}") + `,"matchTypedSubjectAltNames":[{"sanType":"DNS","matcher":{"exact":"` + san + `"}}]}`
	}
	contexts := []struct {
		name, validation string
		believed         bool
	}{{"none", trusting(ca), true}, {"named", named("a.example"), true}, {"stranger", named("stranger.example"), false}, {"other-ca", trusting(other), false}}
	twins := staticTwins(t, harness.ForTest(t), len(contexts), func(ports []int) (clusters, listeners []json.RawMessage) {
		for i, c := range contexts {
			clusters = append(clusters, clusterOf(c.name, fmt.Sprintf(`"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
				"sni":"x.example","commonTlsContext":{"validationContext":%s}}},"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
				"upstreamHttpProtocolOptions":{"autoSni":true,"autoSanValidation":true},"explicitHttpConfig":{"httpProtocolOptions":{}}}}`, c.validation), endpointAt(server.Listener.Addr(), "")))
			listeners = append(listeners, tcpListener(c.name, ports[i], c.name, ""))
		}
		return clusters, listeners
	})
	for kind, twin := range twins {
		for i, c := range contexts {
			got := ""
			if conn, err := net.Dial("tcp", local(twin.ports[i])); err == nil {
				must(t, conn.SetDeadline(time.Now().Add(patience)))
				fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: anybody.example\r\nConnection: close\r\n\r\n")
				answer, _ := io.ReadAll(conn) // who is not believed is reset
				got = string(answer)
				conn.Close()
			}
			if strings.HasSuffix(got, "sni=x.example") != c.believed {
				t.Errorf("%s, %s: %q", kind, c.name, got)
			}
		}
	}
}
