package integration_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// bundles is a validator that knows trust domains, each with its authority.
func bundles(domains map[string]*signingCA) string {
	var list []string
	for name, ca := range domains {
		list = append(list, fmt.Sprintf(`{"name":%q,"trustBundle":{"inlineString":%q}}`, name, ca.pem()))
	}
	return `"customValidatorConfig":{"name":"envoy.tls.cert_validator.spiffe","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig","trustDomains":[` +
		strings.Join(list, ",") + `]}}`
}

// TestTrustDomainsAsEnvoy shakes hands with peers of several trust domains, as peering has it: the domain chooses the
// authority, on both sides of a connection, and identities of all domains can be told apart by intentions.
func TestTrustDomainsAsEnvoy(t *testing.T) {
	t.Parallel()
	one, two, third := newSigningCA(t, "one"), newSigningCA(t, "two"), newSigningCA(t, "third")
	known := bundles(map[string]*signingCA{"one.consul": one, "two.consul": two})
	const web, peered = "spiffe://one.consul/ns/default/dc/dc1/svc/web", "spiffe://two.consul/ns/default/dc/dc2/svc/web"
	server := one.issue(t, uris("spiffe://one.consul/ns/default/dc/dc1/svc/api"))
	socket := downstreamTLS(t, server, "{"+known+"}")
	only := func(pattern string) string {
		return httpFilter(rbacAny, `"rules":{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"authenticated":{"principalName":{"safeRegex":{"regex":"`+pattern+`"}}}}]}}}`)
	}
	// The other side: a cluster with the same validator, and servers that show what is asked for.
	var clusters []string
	specs := map[string]chainSpec{
		"all":      {tls: socket},
		"plain":    {tls: downstreamTLS(t, server, trusting(one))},
		"ours":     {tls: socket, filters: only(`^spiffe://one.consul/ns/default/dc/[^/]+/svc/web$`)}, // trap 7: its dot is any character, as Consul writes it
		"peer's":   {tls: socket, filters: only(`^spiffe://two.consul/ns/default/dc/[^/]+/svc/web$`)},
		"anchored": {tls: socket, filters: only(`spiffe://one.consul/ns/default/dc/dc1/svc/we`)}, // trap 7: no more than the whole matches
	}
	shows := map[string]tls.Certificate{
		"web":           one.issue(t, uris(web)),
		"peer":          two.issue(t, uris(peered)),
		"crossed":       one.issue(t, uris(peered)), // a domain's authority cannot speak for another
		"crossed back":  two.issue(t, uris(web)),
		"unknown":       third.issue(t, uris("spiffe://third.consul/ns/default/dc/dc1/svc/web")),
		"forged":        third.issue(t, uris(web)),
		"sub domain":    one.issue(t, uris("spiffe://x.one.consul/ns/default/dc/dc1/svc/web")),
		"upper case":    one.issue(t, uris("spiffe://ONE.consul/ns/default/dc/dc1/svc/web")),
		"dots":          one.issue(t, uris("spiffe://oneXconsul/ns/default/dc/dc1/svc/web")),
		"no name":       one.issue(t, func(*x509.Certificate) {}),
		"dns only":      one.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"one.consul"} }),
		"other scheme":  one.issue(t, uris("https://one.consul/ns/default/dc/dc1/svc/web")),
		"two names":     one.issue(t, uris(web, peered)),
		"two turned":    two.issue(t, uris(peered, web)),
		"with dns":      one.issue(t, func(c *x509.Certificate) { uris(web)(c); c.DNSNames = []string{"web.example"} }),
		"empty domain":  one.issue(t, uris("spiffe:///ns/default/dc/dc1/svc/web")),
		"longer":        one.issue(t, uris(web+"2")),
		"path in front": one.issue(t, uris("spiffe://one.consul/x/"+web)),
	}
	for name, leaf := range shows {
		secured := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(rw).Encode(heard{r.Method, r.RequestURI, "", nil})
		}))
		secured.TLS = &tls.Config{Certificates: []tls.Certificate{leaf}} //nolint:gosec // as it comes
		secured.Config.ErrorLog = log.New(io.Discard, "", 0)
		secured.StartTLS()
		t.Cleanup(secured.Close)
		cluster := "to " + name
		text := staticCluster(cluster, secured.Listener.Addr())
		names := fmt.Sprintf(`"matchTypedSubjectAltNames":[{"sanType":"URI","matcher":{"exact":%q}},{"sanType":"URI","matcher":{"exact":%q}}],`, web, peered)
		clusters = append(clusters, text[:len(text)-1]+`,"transportSocket":{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","sni":"x",
			"commonTlsContext":{"validationContext":{`+names+known+`}}}}}`)
		specs[cluster] = chainSpec{cluster: cluster}
	}
	w := newTwin(t, specs, clusters...)
	// An intended difference: we hold certificates to the X.509-SVID standard, with one well-formed URI name. Envoy
	// takes the first of several, and any path.
	stricter := map[string]bool{"two names": true, "two turned": true, "path in front": true}
	for name := range stricter {
		leaf := shows[name]
		w.as(&leaf)
		if r := w.raw(t, w.chains["all"].ours, request("GET /")); r.status != 0 {
			t.Errorf("as %q: %s", name, r)
		}
		w.client = nil
		if r := w.raw(t, w.chains["to "+name].ours, request("GET /")); r.status != http.StatusServiceUnavailable {
			t.Errorf("to %q: %s", name, r)
		}
		delete(shows, name)
	}
	for name, leaf := range shows {
		w.as(&leaf)
		got := map[string]int{}
		for _, chain := range []string{"all", "plain", "ours", "peer's", "anchored"} {
			before := t.Failed()
			got[chain] = w.ask(t, chain, request("GET /")).status
			if t.Failed() && !before {
				t.Logf("as %q", name)
			}
		}
		if let := got["all"] == http.StatusOK; let != strings.Contains("web peer with dns longer", name) {
			t.Errorf("as %q: %v", name, got)
		}
		if got["anchored"] == http.StatusOK {
			t.Errorf("as %q: a part of a name matches", name)
		}
		w.client = nil
		before := t.Failed()
		r := w.ask(t, "to "+name, request("GET /"))
		if t.Failed() && !before {
			t.Logf("to %q", name)
		}
		if (r.status == http.StatusOK) != strings.Contains("web peer with dns", name) {
			t.Errorf("to %q: %s", name, r)
		}
	}
	w.as(nil)
	for _, chain := range []string{"all", "plain", "ours"} {
		w.ask(t, chain, request("GET /"))
	}
}
