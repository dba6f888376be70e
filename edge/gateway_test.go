package edge_test

import (
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge"
	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/consumer"
)

// nowhere is an upstream that refuses at once, since its socket is not there.
func nowhere() *edge.Upstream {
	return &edge.Upstream{Addresses: []string{"unix:///nonexistent/serai"}}
}

func listener() edge.Listener {
	return edge.Listener{Name: "public", Address: netip.MustParseAddrPort("127.0.0.1:0")}
}

func newGateway(t *testing.T, c edge.Config) *edge.Gateway {
	t.Helper()
	if c.Listeners == nil {
		c.Listeners = []edge.Listener{listener()}
	}
	g, err := edge.New(c, edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// request is "METHOD host/path" with header fields as "name: value".
func request(text string, fields ...string) *wire.Request {
	method, target, _ := strings.Cut(text, " ")
	req := &wire.Request{Method: method, Scheme: "http", Proto: 1, Minor: 1, Path: target}
	if i := strings.IndexByte(target, '/'); i >= 0 {
		req.Authority, req.Path = target[:i], target[i:]
	}
	for _, one := range fields {
		name, value, _ := strings.Cut(one, ": ")
		req.Header.Add(name, value)
	}
	return req
}

// serve sends req from a client at 192.0.2.7 and returns the exchange and the
// status that it would end with.
func serve(t *testing.T, g *edge.Gateway, req *wire.Request) (*wire.Exchange, *wire.Fault) {
	t.Helper()
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:4711")}, time.Now())
	defer func() { x.Done(time.Now()) }()
	resp, err := g.Service("public").Serve(x, req)
	if err == nil {
		t.Fatalf("%s %s: answered with %d", req.Method, req.Path, resp.Status)
	}
	return x, wire.AsFault(err)
}

// routes makes an API of routes that are given as "METHOD path", "prefix/*" and
// "~regex".
func apiOf(name, base string, hosts []string, routes ...string) edge.API {
	a := edge.API{Name: name, BasePath: base, Hosts: hosts}
	for _, text := range routes {
		r := edge.Route{Name: text, Upstream: nowhere()}
		if method, rest, ok := strings.Cut(text, " "); ok {
			r.Methods, text = []string{method}, rest
		}
		if regex, ok := strings.CutPrefix(text, "~"); ok {
			r.PathRegex = regex
		} else if prefix, ok := strings.CutSuffix(text, "*"); ok {
			r.PathPrefix = prefix
		} else {
			r.Path = text
		}
		a.Routes = append(a.Routes, r)
	}
	return a
}

func TestRouting(t *testing.T) {
	versioned := apiOf("versioned", "/v", nil, "/*")
	versioned.Routes = append(versioned.Routes, edge.Route{
		Name: "two", PathPrefix: "/", Headers: map[string]string{"X-Version": "2"}, Upstream: nowhere(),
	})
	g := newGateway(t, edge.Config{APIs: []edge.API{
		apiOf("exact", "/", []string{"Orders.example.com"}, "/v1*", "/v1", "/v1/*", "/v1/list*", "~/v1/[0-9]+", "~/v1/[0-9]+/lines/.*"),
		apiOf("wild", "", []string{"*.example.com"}, "/*"),
		apiOf("wilder", "", []string{"*.eu.example.com"}, "/eu*"),
		apiOf("any", "/", nil, "GET /any*", "POST /any*", "/any/delete", "DELETE /any*"),
		apiOf("based", "/base", nil, "/", "/sub/*", "~/[a-z]+", "/*"),
		versioned,
	}})
	for _, row := range []struct{ request, want string }{
		{"GET orders.example.com/v1", "exact /v1"},
		{"GET ORDERS.example.com:8080/v1", "exact /v1"},
		{"GET orders.example.com./v1", "exact /v1"},
		{"GET orders.example.com/v1/", "exact /v1/*"},
		{"GET orders.example.com/v1/x", "exact /v1/*"},
		{"GET orders.example.com/v1/list", "exact /v1/list*"},
		{"GET orders.example.com/v1/list/7", "exact /v1/list*"},
		{"GET orders.example.com/v1/lists", "exact /v1/*"},
		{"GET orders.example.com/v1/7", "exact ~/v1/[0-9]+"},
		{"GET orders.example.com/v1/7/lines/2", "exact ~/v1/[0-9]+/lines/.*"},
		{"GET orders.example.com/v1/7?x=/v1/list", "exact ~/v1/[0-9]+"},
		{"GET orders.example.com/v10", "wild /*"},
		{"GET orders.example.com/%76%31", "exact /v1"},
		{"GET orders.example.com/x/../v1", "exact /v1"},
		{"GET shop.example.com/v1", "wild /*"},
		{"GET shop.eu.example.com/eu/1", "wilder /eu*"},
		{"GET shop.eu.example.com/us", "wild /*"},
		{"GET example.com/", "404"},
		{"GET [::1]:80/any", "any GET /any*"},
		{"POST /any/x", "any POST /any*"},
		{"DELETE /any/delete", "any /any/delete"},
		{"PUT /any/x", "404"},
		{"PUT /any/delete", "any /any/delete"},
		{"GET /base", "based /"},
		{"GET /base/", "based /"},
		{"GET /base/abc", "based ~/[a-z]+"},
		{"GET /base/ABC", "based /*"},
		{"GET /base/sub", "based ~/[a-z]+"},
		{"GET /base/sub/", "based /sub/*"},
		{"GET /based", "404"},
		{"GET /v", "versioned /*"},
		{"OPTIONS *", "400"},
		{"GET /any/%2e%2e/%2f", "400"},
	} {
		x, fault := serve(t, g, request(row.request))
		got := strings.TrimSpace(x.API + " " + x.Route)
		if got == "" {
			got = map[int]string{400: "400", 404: "404"}[fault.Status]
		}
		if got != row.want {
			t.Errorf("%s: %q (%d %v), want %q", row.request, got, fault.Status, fault, row.want)
		}
	}
	if x, _ := serve(t, g, request("GET /v/x", "x-version: 2")); x.Route != "two" {
		t.Errorf("with x-version: 2: %q", x.Route)
	}
}

func TestRewrites(t *testing.T) {
	for _, row := range []struct {
		api        edge.API
		path, want string
	}{
		{apiOf("a", "/orders", nil, "/v1*"), "/orders/v1/x?y", "/orders/v1/x?y"},
		{edge.API{BasePath: "/orders", StripBasePath: true, Routes: []edge.Route{{PathPrefix: "/v1"}}}, "/orders/v1/x?y", "/v1/x?y"},
		{edge.API{BasePath: "/orders", StripBasePath: true, Routes: []edge.Route{{}}}, "/orders?y", "/?y"},
		{edge.API{BasePath: "/orders", StripBasePath: true, Routes: []edge.Route{{Path: "/x"}}}, "/orders/x", "/x"},
		{edge.API{BasePath: "/orders", StripBasePath: true, Routes: []edge.Route{{PathRegex: "/x.*"}}}, "/orders/x/1", "/x/1"},
		{edge.API{BasePath: "/orders", Routes: []edge.Route{{PathPrefix: "/v1", StripPrefix: true}}}, "/orders/v1/x", "/orders/x"},
		{edge.API{Routes: []edge.Route{{PathPrefix: "/v1", StripPrefix: true}}}, "/v1", "/"},
		{edge.API{Routes: []edge.Route{{PathPrefix: "/v1/", StripPrefix: true}}}, "/v1/?y", "/?y"},
		{edge.API{Routes: []edge.Route{{PathPrefix: "/v1", RewritePrefix: "/v2/api"}}}, "/v1/x", "/v2/api/x"},
		{edge.API{Routes: []edge.Route{{PathPrefix: "/v1", RewritePrefix: "/"}}}, "/v1/x", "/x"},
		{edge.API{Routes: []edge.Route{{PathPrefix: "/", RewritePrefix: "/v2"}}}, "/x", "/v2/x"},
		{edge.API{BasePath: "/o", StripBasePath: true, Routes: []edge.Route{{PathPrefix: "/v1", RewritePrefix: "/v2"}}}, "/o/v1", "/v2"},
		{edge.API{BasePath: "/", Routes: []edge.Route{{}}}, "/a/./b//c/%7e", "/a/b/c/~"},
	} {
		row.api.Name = "a"
		row.api.Routes[0].Name, row.api.Routes[0].Upstream = "r", nowhere()
		req := request("GET " + row.path)
		if _, fault := serve(t, newGateway(t, edge.Config{APIs: []edge.API{row.api}}), req); fault.Status != 503 || req.Path != row.want {
			t.Errorf("%s became %s (%d), want %s", row.path, req.Path, fault.Status, row.want)
		}
	}
}

func TestForwardedHeaders(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	for _, row := range []struct {
		name    string
		trusted []netip.Prefix
		fields  []string
		want    map[string]string
	}{
		{"plain", nil, nil, map[string]string{
			"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http", "x-forwarded-host": "api.example.com",
		}},
		{"lies", nil, []string{
			"x-forwarded-for: 10.0.0.1", "x-forwarded-proto: https", "x-forwarded-host: evil", "x-forwarded-port: 1",
			"forwarded: for=10.0.0.1", "x-real-ip: 10.0.0.1", "x-request-id: mine", "x-serai-consumer: root",
			"x_serai_consumer: root", "x-serai_plan: gold", "x_forwarded_for: 10.0.0.1", "x-envoy-retry-on: 5xx", "x-other: kept",
		}, map[string]string{
			"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http", "x-forwarded-host": "api.example.com", "x-other": "kept",
		}},
		{"believed", trusted, []string{
			"x-forwarded-for: 10.0.0.1", "x-forwarded-for: 10.0.0.2", "x-forwarded-proto: https", "x-forwarded-host: site",
			"x-request-id: mine", "x-serai-consumer: root", "x_forwarded_for: 10.0.0.1",
		}, map[string]string{
			"x-forwarded-for": "10.0.0.1,10.0.0.2, 192.0.2.7", "x-forwarded-proto": "https", "x-forwarded-host": "site",
			"x-request-id": "mine",
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := newGateway(t, edge.Config{TrustedProxies: row.trusted, APIs: []edge.API{apiOf("a", "", nil, "/*")}})
			req := request("GET api.example.com/", row.fields...)
			x, _ := serve(t, g, req)
			if row.want["x-request-id"] == "" {
				row.want["x-request-id"] = x.ID
			}
			if len(x.ID) != 16 && x.ID != "mine" {
				t.Errorf("request ID %q", x.ID)
			}
			for name, value := range req.Header.All() {
				if want := row.want[name]; value != want {
					t.Errorf("%s is %q, want %q", name, value, want)
				}
				delete(row.want, name)
			}
			if len(row.want) > 0 {
				t.Errorf("missing: %v", row.want)
			}
		})
	}
}

func TestHeaderEdits(t *testing.T) {
	a := apiOf("a", "", nil, "/*")
	a.Routes[0].RequestHeaders = &edge.HeaderEdit{
		Set: map[string]string{"X-A": "1", "x-b": "2"}, Remove: []string{"x-b", "X-C"},
	}
	req := request("GET /", "x-a: 0", "x-a: 00", "x-b: 0", "x-c: 0", "x-d: 0")
	if _, fault := serve(t, newGateway(t, edge.Config{APIs: []edge.API{a}}), req); fault.Status != 503 {
		t.Errorf("status %d", fault.Status)
	}
	for name, want := range map[string]string{"x-a": "1", "x-b": "2", "x-c": "", "x-d": "0"} {
		if got := req.Header.Joined(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

func TestConsumers(t *testing.T) {
	closed := apiOf("closed", "/closed", nil, "/*")
	closed.Authenticate = &auth.Config{Kind: "api_key"}
	closed.AllowConsumers = []string{"acme"}
	g := newGateway(t, edge.Config{
		Consumers: []consumer.Config{
			{Name: "acme", Plan: "gold", Keys: []consumer.KeyConfig{{Name: "k", Key: "acme-key"}}},
			{Name: "beta", Keys: []consumer.KeyConfig{{Name: "k", Key: "beta-key"}}},
		},
		APIs: []edge.API{closed, apiOf("open", "/open", nil, "/*")},
	})
	for _, row := range []struct {
		request, key, consumer string
		status                 int
	}{
		{"GET /open", "acme-key", "", 503},
		{"GET /closed", "", "", 401},
		{"GET /closed", "other", "", 401},
		{"GET /closed", "beta-key", "beta", 403},
		{"GET /closed", "acme-key", "acme", 503},
	} {
		req := request(row.request, "x-serai-consumer: root")
		if row.key != "" {
			req.Header.Add("x-api-key", row.key)
		}
		x, fault := serve(t, g, req)
		if fault.Status != row.status || x.Consumer != row.consumer {
			t.Errorf("%s with %q: %d %q, want %d %q", row.request, row.key, fault.Status, x.Consumer, row.status, row.consumer)
		}
		if got := req.Header.Joined("x-serai-consumer"); row.status == 503 && got != row.consumer {
			t.Errorf("%s with %q: the upstream is told %q", row.request, row.key, got)
		}
	}
}

func TestTimeout(t *testing.T) {
	a := apiOf("a", "", nil, "/default", "/none", "/long")
	none, long := time.Duration(0), time.Hour
	a.Routes[1].Timeout, a.Routes[2].Timeout = &none, &long
	g := newGateway(t, edge.Config{APIs: []edge.API{a}})
	for path, want := range map[string]time.Duration{"/default": 15 * time.Second, "/none": 0, "/long": time.Hour} {
		x, _ := serve(t, g, request("GET "+path))
		got := time.Duration(0)
		if !x.Deadline.IsZero() {
			got = time.Until(x.Deadline).Round(time.Second)
		}
		if got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func TestReloadKeepsTheOldOnError(t *testing.T) {
	good := edge.Config{Listeners: []edge.Listener{listener()}, APIs: []edge.API{apiOf("a", "", nil, "/a")}}
	g := newGateway(t, good)
	bad := good
	bad.APIs = []edge.API{{Name: "b"}}
	if err := g.Reload(bad); err == nil || !strings.Contains(err.Error(), "no route") {
		t.Errorf("reload of a bad configuration: %v", err)
	}
	other := good
	other.Service = "gate"
	if err := g.Reload(other); err == nil || !strings.Contains(err.Error(), "restart") {
		t.Errorf("reload with another service name: %v", err)
	}
	if x, _ := serve(t, g, request("GET /a")); x.Route != "/a" {
		t.Errorf("the old route is gone: %q", x.Route)
	}
	next := good
	next.APIs = []edge.API{apiOf("a", "", nil, "/b")}
	if err := g.Reload(next); err != nil {
		t.Fatal(err)
	}
	if x, _ := serve(t, g, request("GET /b")); x.Route != "/b" {
		t.Error("the new route is not there")
	}
}

func TestNewNeedsConsulOnlyForItsServices(t *testing.T) {
	a := edge.API{Name: "a", Routes: []edge.Route{{Name: "r", Upstream: &edge.Upstream{Service: "web"}}}}
	c := edge.Config{Listeners: []edge.Listener{listener()}, APIs: []edge.API{a}}
	if !c.NeedsConsul() {
		t.Error("a mesh service needs no Consul")
	}
	_, err := edge.New(c, edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	if err == nil {
		t.Error("no error without Consul")
	}
}
