package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
)

func reference(kind, name string) consulapi.ResourceReference {
	return consulapi.ResourceReference{Kind: kind, Name: name}
}

// inlineCertificate is a certificate of a config entry.
func inlineCertificate(t *testing.T, ca *signingCA, name string, hosts ...string) *consulapi.InlineCertificateConfigEntry {
	t.Helper()
	chain, key := ca.leaf(t, hosts...)
	return &consulapi.InlineCertificateConfigEntry{Kind: consulapi.InlineCertificate, Name: name, Certificate: string(chain), PrivateKey: string(key)}
}

// apiRoute is a route of the HTTP listener with all that a route of Consul can say.
func apiRoute(parent ...consulapi.ResourceReference) *consulapi.HTTPRouteConfigEntry {
	to := func(service string, weight int) consulapi.HTTPService {
		return consulapi.HTTPService{Name: service, Weight: weight}
	}
	again := &consulapi.RetryFilter{NumRetries: 4, RetryOnStatusCodes: []uint32{503}}
	path := func(kind consulapi.HTTPPathMatchType, value string) []consulapi.HTTPMatch {
		return []consulapi.HTTPMatch{{Path: consulapi.HTTPPathMatch{Match: kind, Value: value}}}
	}
	return &consulapi.HTTPRouteConfigEntry{
		Kind: consulapi.HTTPRoute, Name: "site", Parents: parent, Hostnames: []string{"web.example", "also.example"},
		Rules: []consulapi.HTTPRouteRule{
			{
				Matches: path(consulapi.HTTPPathMatchExact, "/exact"), Services: []consulapi.HTTPService{to("api", 1)},
				Filters: consulapi.HTTPFilters{
					Headers: []consulapi.HTTPHeaderFilter{{
						Add: map[string]string{"x-added": "by the rule"}, Set: map[string]string{"x-set": "set"}, Remove: []string{"x-removed"},
					}},
				},
				ResponseFilters: consulapi.HTTPResponseFilters{Headers: []consulapi.HTTPHeaderFilter{{
					Add: map[string]string{"x-answer": "added"}, Set: map[string]string{"x-kept": "set"}, Remove: []string{"x-gone"},
				}}},
			},
			{
				Matches: path(consulapi.HTTPPathMatchPrefix, "/rewritten"), Services: []consulapi.HTTPService{to("api", 1)},
				Filters: consulapi.HTTPFilters{URLRewrite: &consulapi.URLRewrite{Path: "/to/here"}},
			},
			{
				Matches:  path(consulapi.HTTPPathMatchRegularExpression, "/re/[0-9]+/end"),
				Services: []consulapi.HTTPService{to("api", 1)},
			},
			{
				Matches: []consulapi.HTTPMatch{
					{Headers: []consulapi.HTTPHeaderMatch{{Match: consulapi.HTTPHeaderMatchExact, Name: "x-to", Value: "api"}}},
					{Headers: []consulapi.HTTPHeaderMatch{{Match: consulapi.HTTPHeaderMatchPresent, Name: "x-any"}}},
					{Headers: []consulapi.HTTPHeaderMatch{{Match: consulapi.HTTPHeaderMatchRegularExpression, Name: "x-re", Value: "a|b"}}},
					{Query: []consulapi.HTTPQueryMatch{{Match: consulapi.HTTPQueryMatchExact, Name: "to", Value: "api"}}},
					{Query: []consulapi.HTTPQueryMatch{{Match: consulapi.HTTPQueryMatchRegularExpression, Name: "re", Value: "[0-9]+"}}},
					{Method: consulapi.HTTPMatchMethodDelete},
				},
				Services: []consulapi.HTTPService{to("api", 1)},
			},
			{
				Matches: path(consulapi.HTTPPathMatchPrefix, "/fail"), Services: []consulapi.HTTPService{to("frail", 1)},
				Filters: consulapi.HTTPFilters{RetryFilter: again},
			},
			{Matches: path(consulapi.HTTPPathMatchPrefix, "/unretried"), Services: []consulapi.HTTPService{to("frail", 1)}},
			{
				Matches: path(consulapi.HTTPPathMatchPrefix, "/slow"), Services: []consulapi.HTTPService{to("web", 1)},
				Filters: consulapi.HTTPFilters{TimeoutFilter: &consulapi.TimeoutFilter{RequestTimeout: time.Second, IdleTimeout: 10 * time.Second}},
			},
			{Matches: path(consulapi.HTTPPathMatchPrefix, "/split"), Services: []consulapi.HTTPService{to("web", 50), to("api", 50)}},
			{Matches: path(consulapi.HTTPPathMatchPrefix, "/"), Services: []consulapi.HTTPService{to("web", 1)}},
		},
	}
}

// TestAPIGatewayAsEnvoy_Trap29: an API gateway of ours beside one of Envoy, which are ready before they have a listener:
// routes with all that Consul lets them say, tcp, certificates of config entries by server name, and of files that
// change while connections live.
func TestAPIGatewayAsEnvoy_Trap29(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http", "frail": "http"})
	w.allow(t, "gate", "web", "api", "frail", "db")
	for _, id := range []string{"web-1", "api-1", "frail-1", "frail-2", "db-1"} {
		w.run(t, id, id[:len(id)-2])
	}
	ports := w.ports(t, 6)
	plain, tcp, inline, files, secret, wild := ports, ports+1, ports+2, ports+3, ports+4, ports+5
	outside, dir := newOutsideCA(t), t.TempDir()
	one := []consulapi.ResourceReference{reference(consulapi.InlineCertificate, "one")}
	chain, key := outside.write(t, dir, "web.example", "first.example")
	// Without a route there is no listener of them in xDS. All of it is there before the gateways are: Consul 1.22 may crash
	// when it writes the status of one that it tells a proxy of meanwhile (StatusFromStructs, index out of range).
	w.write(t,
		inlineCertificate(t, outside, "one", "web.example", "one.example"),
		inlineCertificate(t, outside, "two", "two.example"),
		&consulapi.FileSystemCertificateConfigEntry{Kind: consulapi.FileSystemCertificate, Name: "files", Certificate: chain, PrivateKey: key},
		&consulapi.APIGatewayConfigEntry{Kind: consulapi.APIGateway, Name: "gate", Listeners: []consulapi.APIGatewayListener{
			{Name: "plain", Port: plain, Protocol: "http"},
			{Name: "tcp", Port: tcp, Protocol: "tcp"},
			{Name: "inline", Port: inline, Protocol: "http", TLS: consulapi.APIGatewayTLSConfiguration{
				Certificates: []consulapi.ResourceReference{reference(consulapi.InlineCertificate, "one"), reference(consulapi.InlineCertificate, "two")},
				MinVersion:   "TLSv1_2",
			}},
			{Name: "files", Port: files, Protocol: "http", TLS: consulapi.APIGatewayTLSConfiguration{
				Certificates: []consulapi.ResourceReference{reference(consulapi.FileSystemCertificate, "files")},
			}},
			{Name: "wild", Port: wild, Protocol: "http", Hostname: "*.wild.example"},
			{Name: "secret", Port: secret, Protocol: "tcp", TLS: consulapi.APIGatewayTLSConfiguration{Certificates: one}},
		}},
	)
	g := w.gatewayTwins(t, "api", "gate", nil)
	for _, plane := range kinds() {
		waitStatus(t, "http://"+local(g.admin[plane])+"/ready", http.StatusOK)
	}
	parent := func(section string) consulapi.ResourceReference {
		return consulapi.ResourceReference{Kind: consulapi.APIGateway, Name: "gate", SectionName: section}
	}
	w.write(t, apiRoute(parent("plain"), parent("inline"), parent("files")),
		&consulapi.HTTPRouteConfigEntry{
			Kind: consulapi.HTTPRoute, Name: "wild", Parents: []consulapi.ResourceReference{parent("wild")},
			Rules: []consulapi.HTTPRouteRule{{Services: []consulapi.HTTPService{{Name: "api"}}}},
		},
		&consulapi.TCPRouteConfigEntry{
			Kind: consulapi.TCPRoute, Name: "db", Parents: []consulapi.ResourceReference{parent("tcp"), parent("secret")}, Services: []consulapi.TCPService{{Name: "db"}},
		})

	t.Run("routes", func(t *testing.T) { apiRoutes(t, g, plain) })
	t.Run("tcp", func(t *testing.T) {
		for _, plane := range kinds() {
			waitTCP(t, planeAt(plane, tcp))
			waitSecretTCP(t, planeAt(plane, secret), &tls.Config{RootCAs: outside.pool(), ServerName: "one.example"})
		}
	})
	t.Run("hosts by a wildcard", func(t *testing.T) {
		g.same(t, "a host", gatewayCall{port: wild, host: "a.b.wild.example", path: "/"}, gatewaySays(http.StatusOK, "api-1"))
		g.same(t, "another host", gatewayCall{port: wild, host: "wild.example", path: "/"}, gatewaySays(http.StatusNotFound, ""))
	})
	t.Run("retries", func(t *testing.T) { gatewayRetries(t, plain) })
	t.Run("websocket", func(t *testing.T) { gatewayUpgrades(t, plain) })
	trust := func(name string) *tls.Config { return &tls.Config{RootCAs: outside.pool(), ServerName: name} }
	t.Run("inline certificates", func(t *testing.T) {
		g.same(t, "one by its name", gatewayCall{port: inline, host: "web.example", path: "/", tls: trust("web.example")}, gatewayShows("one.example"))
		g.same(t, "two by its name", gatewayCall{port: inline, host: "web.example", path: "/", tls: trust("two.example")}, gatewayShows("two.example"))
		talks := livingConnections(t, inline, trust("one.example"))
		w.write(t, inlineCertificate(t, outside, "one", "web.example", "one.example", "rotated.example"))
		g.same(t, "one's new one", gatewayCall{port: inline, host: "web.example", path: "/", tls: trust("web.example")}, gatewayShows("rotated.example"))
		talks["serai"](t)
	})
	t.Run("certificates of files", func(t *testing.T) {
		c := gatewayCall{port: files, host: "web.example", path: "/", tls: trust("web.example")}
		g.same(t, "the first", c, gatewayShows("first.example"))
		talks := livingConnections(t, files, trust("web.example"))
		outside.write(t, dir, "web.example", "second.example")
		g.same(t, "the second", c, gatewayShows("second.example"))
		talks["serai"](t)
		must(t, os.WriteFile(key, []byte("broken"), 0o600))
		pause(t, 3*time.Second)
		g.same(t, "the last good one", c, gatewayShows("second.example"))
		talks["serai"](t)
		outside.write(t, dir, "web.example", "third.example")
		g.same(t, "the third", c, gatewayShows("third.example"))
	})
	t.Run("no listener any more", func(t *testing.T) {
		for name, kind := range map[string]string{"site": consulapi.HTTPRoute, "wild": consulapi.HTTPRoute, "db": consulapi.TCPRoute} {
			_, err := w.consul.API.ConfigEntries().Delete(kind, name, (&consulapi.WriteOptions{}).WithContext(t.Context()))
			must(t, err)
		}
		for _, plane := range kinds() {
			eventually(t, plane+" to listen no more", func(ctx context.Context) error {
				if _, err := (gatewayCall{port: plain, host: "web.example", path: "/"}).through(ctx, plane); err == nil {
					return errAnswered
				}
				return nil
			})
			waitStatus(t, "http://"+local(g.admin[plane])+"/ready", http.StatusOK)
		}
	})
}

// livingConnections are connections over TLS that were made now; each is used again by a call of its function.
func livingConnections(t *testing.T, p int, config *tls.Config) map[string]func(*testing.T) {
	t.Helper()
	all := map[string]func(*testing.T){}
	for _, plane := range kinds() {
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", planeAt(plane, p))
		must(t, err)
		t.Cleanup(func() { drop(conn) })
		reader := bufio.NewReader(conn)
		all[plane] = func(t *testing.T) {
			t.Helper()
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: web.example\r\n\r\n")
			must(t, err)
			resp, err := http.ReadResponse(reader, nil)
			if err != nil {
				t.Errorf("%s on a connection from before: %v", plane, err)
				return
			}
			body, err := io.ReadAll(resp.Body)
			must(t, err)
			must(t, resp.Body.Close())
			if resp.StatusCode != http.StatusOK || string(body) != "web-1" {
				t.Errorf("%s on a connection from before: %d %s", plane, resp.StatusCode, body)
			}
		}
		all[plane](t)
	}
	return all
}

func apiRoutes(t *testing.T, g *twinGateway, plain int) {
	t.Helper()
	show := func(extra ...string) map[string]string {
		header := map[string]string{"X-Show": "1", "X-Removed": "by the gateway"}
		for i := 0; i < len(extra); i += 2 {
			header[extra[i]] = extra[i+1]
		}
		return header
	}
	for _, tt := range []struct {
		name, host, path string
		header           map[string]string
		status           int
		part             string
	}{
		{"the rest", "web.example", "/any?x=y", show(), 200, "web-1"},
		{"the other host", "also.example", "/", show(), 200, "web-1"},
		{"another host", "other.example", "/", show(), 404, ""},
		{"exact", "web.example", "/exact", show(), 200, "api-1"},
		{"exact, but not so", "web.example", "/exact/not", show(), 200, "web-1"},
		{"rewritten", "web.example", "/rewritten/a/b?c=d", show(), 200, "api-1"},
		{"rewritten itself", "web.example", "/rewritten", show(), 200, "api-1"},
		{"pattern", "web.example", "/re/12/end", show(), 200, "api-1"},
		{"pattern in part", "web.example", "/re/12/end/not", show(), 200, "web-1"},
		{"header", "web.example", "/", show("X-To", "api"), 200, "api-1"},
		{"header, another value", "web.example", "/", show("X-To", "apis"), 200, "web-1"},
		{"header that is there", "web.example", "/", show("X-Any", ""), 200, ""},
		{"header by a pattern", "web.example", "/", show("X-Re", "b"), 200, "api-1"},
		{"header by a pattern in part", "web.example", "/", show("X-Re", "bc"), 200, "web-1"},
		{"query", "web.example", "/?to=api", show(), 200, "api-1"},
		{"query by a pattern", "web.example", "/?re=12", show(), 200, "api-1"},
		{"query by a pattern in part", "web.example", "/?re=12a", show(), 200, "web-1"},
		{"timeout, the prefix being cut off", "web.example", "/slow/slow/3s", nil, 504, ""},
	} {
		g.same(t, tt.name, gatewayCall{port: plain, host: tt.host, path: tt.path, header: tt.header}, gatewaySays(tt.status, tt.part))
	}
	for _, plane := range kinds() {
		found := map[string]bool{}
		eventually(t, plane+" to split", func(ctx context.Context) error {
			o, err := (gatewayCall{port: plain, host: "web.example", path: "/split", header: map[string]string{"X-Show": "1"}}).through(ctx, plane)
			if err != nil {
				return err
			}
			found[o.Body[:5]] = true
			if !found["web-1"] || !found["api-1"] {
				return fmt.Errorf("only %v", found)
			}
			return nil
		})
	}
}
