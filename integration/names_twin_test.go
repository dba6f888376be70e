package integration_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/integration/harness"
)

// TestPeerNamesAsEnvoy calls a server by TLS contexts that ask for names of each kind and form, and holds whether it is
// believed to what Envoy says.
func TestPeerNamesAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	envoy, err := env.Envoy()
	must(t, err)
	ca, other := newOutsideCA(t), newOutsideCA(t)
	chain, key := ca.leaf(t, "api.example", "*.wild.example", "10.1.2.3", "fd00::1")
	leaf, err := tls.X509KeyPair(chain, key)
	must(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not believe it
	server.StartTLS()
	t.Cleanup(server.Close)
	tcp, _ := server.Listener.Addr().(*net.TCPAddr)

	san := func(kind, matcher string) string { return fmt.Sprintf(`{"sanType":%q,"matcher":{%s}}`, kind, matcher) }
	exact := func(text string) string { return fmt.Sprintf(`"exact":%q`, text) }
	trust := func(ca *outsideCA, names ...string) string {
		text, err := json.Marshal(string(ca.pem()))
		must(t, err)
		return fmt.Sprintf(`"trustedCa":{"inlineString":%s},"matchTypedSubjectAltNames":[%s]`, text, strings.Join(names, ","))
	}
	contexts := map[string]string{
		"none":          trust(ca),
		"another-ca":    trust(other),
		"exact":         trust(ca, san("DNS", exact("api.example"))),
		"exact-case":    trust(ca, san("DNS", exact("API.example"))),
		"exact-wild":    trust(ca, san("DNS", exact("a.wild.example"))),
		"exact-deep":    trust(ca, san("DNS", exact("a.b.wild.example"))),
		"exact-no":      trust(ca, san("DNS", exact("example"))),
		"prefix":        trust(ca, san("DNS", `"prefix":"api."`)),
		"suffix":        trust(ca, san("DNS", `"suffix":".example"`)),
		"suffix-no":     trust(ca, san("DNS", `"suffix":".com"`)),
		"contains":      trust(ca, san("DNS", `"contains":"wild"`)),
		"regex":         trust(ca, san("DNS", `"safeRegex":{"regex":"a.*example"}`)),
		"regex-part":    trust(ca, san("DNS", `"safeRegex":{"regex":"api"}`)),
		"ip":            trust(ca, san("IP_ADDRESS", exact("10.1.2.3"))),
		"ip6":           trust(ca, san("IP_ADDRESS", exact("fd00::1"))),
		"ip-no":         trust(ca, san("IP_ADDRESS", exact("10.1.2.4"))),
		"ip-as-dns":     trust(ca, san("DNS", exact("10.1.2.3"))),
		"uri-no":        trust(ca, san("URI", exact("api.example"))),
		"one-of-all":    trust(ca, san("URI", exact("api.example")), san("DNS", exact("api.example")), san("EMAIL", exact("api.example")), san("IP_ADDRESS", exact("api.example"))),
		"none-of-all":   trust(ca, san("URI", exact("x.example")), san("DNS", exact("x.example")), san("EMAIL", exact("x.example")), san("IP_ADDRESS", exact("x.example"))),
		"another-ca-ok": trust(other, san("DNS", exact("api.example"))),
	}
	clusters, routes := map[string]string{}, []string{}
	var texts []string
	for name, asks := range contexts {
		text := fmt.Sprintf(`{"name":%q,"type":"STATIC","connectTimeout":"5s","transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",`+
			`"commonTlsContext":{"validationContext":{%s}}}},"loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}}}]}]}}`,
			name, asks, name, tcp.Port)
		clusters[name] = text
		texts = append(texts, text)
		routes = append(routes, fmt.Sprintf(`{"match":{"path":"/%s"},"route":{"cluster":%q}}`, name, name))
	}
	ports, err := env.Ports(2)
	must(t, err)
	file := filepath.Join(env.Dir(), "envoy.json")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `{"admin":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}},"staticResources":{"clusters":[%s],"listeners":[{"name":"l",`+
		`"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}},"filterChains":[{"filters":[{"name":"hcm","typedConfig":{"@type":%q,"statPrefix":"l",`+
		`"httpFilters":[{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],`+
		`"routeConfig":{"virtualHosts":[{"name":"all","domains":["*"],"routes":[%s]}]}}}]}]}]}}`,
		ports, strings.Join(texts, ","), ports+1, hcmType, strings.Join(routes, ",")), 0o600))
	_, err = env.Start(harness.Command{
		Name: "envoy", Path: envoy, Args: []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error", "--use-dynamic-base-id"},
	})
	must(t, err)
	waitStatus(t, "http://"+local(ports)+"/ready", http.StatusOK)
	set := setOf(t, clusters)
	for name := range contexts {
		theirs := get(t, "http://"+local(ports+1)+"/"+name).status
		x := &wire.Exchange{}
		x.Reset(nil, &wire.Peer{}, time.Now())
		ours := http.StatusServiceUnavailable
		resp, err := set.Cluster(name).Serve(x, &wire.Request{Method: http.MethodGet, Scheme: "http", Authority: "api.example", Path: "/", Proto: 1, Minor: 1})
		if err == nil {
			ours = resp.Status
			if resp.Body != nil {
				must(t, resp.Body.Close())
			}
		}
		x.Done(time.Now())
		if ours != theirs {
			t.Errorf("%s: we answer %d (%v), Envoy %d", name, ours, err, theirs)
		}
	}
}
