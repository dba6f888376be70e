package integration_test

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestPeerNamesAsEnvoy calls a server by TLS contexts that ask for names of each kind and form, and holds whether it is
// believed to what Envoy says.
func TestPeerNamesAsEnvoy(t *testing.T) {
	t.Parallel()
	ca, other := newOutsideCA(t), newOutsideCA(t)
	chain, key := ca.leaf(t, "api.example", "*.wild.example", "10.1.2.3", "fd00::1")
	leaf, err := tls.X509KeyPair(chain, key)
	must(t, err)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}}
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // of those who do not believe it
	server.StartTLS()
	t.Cleanup(server.Close)

	san := func(kind, matcher string) string { return fmt.Sprintf(`{"sanType":%q,"matcher":{%s}}`, kind, matcher) }
	exact := func(text string) string { return fmt.Sprintf(`"exact":%q`, text) }
	trust := func(ca *signingCA, names ...string) string {
		text, err := json.Marshal(ca.pem())
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
	specs := map[string]chainSpec{}
	var clusters []string
	for name, asks := range contexts {
		text := staticCluster(name, server.Listener.Addr())
		clusters = append(clusters, text[:len(text)-1]+`,"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",`+
			`"commonTlsContext":{"validationContext":{`+asks+`}}}}}`)
		specs[name] = chainSpec{cluster: name}
	}
	w := newTwin(t, specs, clusters...)
	for name := range specs {
		w.ask(t, name, request("GET /"))
	}
}
