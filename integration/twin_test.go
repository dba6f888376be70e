package integration_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// twin is Envoy and us with the same filter chains in front of the same application, side by side: what one answers to
// a request, the other has to answer as well.
type twin struct {
	chains map[string]*pair
	kinds  map[string]*staticTwin
	client *tls.Config // nil without TLS
}

// pair is one chain of both.
type pair struct{ ours, theirs string }

// chainSpec is a filter chain of HTTP, as JSON. The cluster "app" tells in JSON what it heard.
type chainSpec struct {
	filters string // the HTTP filters in front of the router
	options string // further fields of the connection manager, each with a comma behind it
	tls     string // a transport socket; "" for none
	cluster string // where requests go; "" is app
	route   string // further fields of the route, each with a comma in front
}

const (
	hcmType = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
	jwtAny  = "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
	rbacAny = "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC"
	h2mAny  = "type.googleapis.com/envoy.extensions.filters.http.header_to_metadata.v3.Config"
)

func httpFilter(typ, config string) string {
	return fmt.Sprintf(`{"name":%q,"typedConfig":{"@type":%q%s}}`, typ[strings.LastIndex(typ, ".")+1:], typ, comma(config))
}

func comma(s string) string {
	if s == "" {
		return ""
	}
	return "," + s
}

func (c chainSpec) listener(name string, port int) string {
	return fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}},"filterChains":[{%s"filters":[{"name":"hcm","typedConfig":{
		"@type":%q,"statPrefix":%q,%s"httpFilters":[%s{"name":"router","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}],
		"routeConfig":{"name":"r","virtualHosts":[{"name":"all","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%q%s}}]}]}}}]}]}`,
		name, port, prefixed("transportSocket", c.tls), hcmType, name, c.options, behind(c.filters), cmp.Or(c.cluster, "app"), c.route)
}

func prefixed(name, value string) string {
	if value == "" {
		return ""
	}
	return fmt.Sprintf("%q:%s,", name, value)
}

func behind(s string) string {
	if s == "" {
		return ""
	}
	return s + ","
}

// heard is what the application got.
type heard struct {
	Method, URI, Host string
	Header            map[string][]string
}

// newTwin starts both. clusters are further ones.
func newTwin(t *testing.T, specs map[string]chainSpec, clusters ...string) *twin {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("X-Request-Id")
		_ = json.NewEncoder(w).Encode(heard{r.Method, r.RequestURI, r.Host, r.Header})
	}))
	t.Cleanup(app.Close)
	names := slices.Sorted(maps.Keys(specs))
	w := &twin{chains: map[string]*pair{}}
	w.kinds = staticTwins(t, harness.ForTest(t), len(names), func(ports []int) (all, listeners []json.RawMessage) {
		for _, text := range append(clusters, staticCluster("app", app.Listener.Addr())) {
			all = append(all, json.RawMessage(text))
		}
		for i, name := range names {
			listeners = append(listeners, json.RawMessage(specs[name].listener(name, ports[i])))
		}
		return all, listeners
	})
	for i, name := range names {
		w.chains[name] = &pair{ours: local(w.kinds["serai"].ports[i]), theirs: local(w.kinds["envoy"].ports[i])}
	}
	if dump := get(t, "http://"+local(w.kinds["serai"].admin)+"/config_dump").body; strings.Contains(dump, "error_state") {
		t.Fatalf("something is refused:\n%s", w.kinds["serai"].process.Log())
	}
	return w
}

func staticCluster(name string, addr net.Addr) string {
	tcp, _ := addr.(*net.TCPAddr)
	return fmt.Sprintf(`{"name":%q,"type":"STATIC","connectTimeout":"5s","loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}}}]}]}}`,
		name, name, tcp.Port)
}

// reply is what one of both answers.
type reply struct {
	status int
	header http.Header
	body   string
	heard  *heard // nil if the application was not asked
}

// String is what is compared of it.
func (r *reply) String() string {
	if r.heard == nil {
		body, _, _ := strings.Cut(r.body, " or disconnect/reset before headers") // why is told in our log
		return fmt.Sprintf("%d %q %q", r.status, strings.TrimSpace(body), r.header.Get("Www-Authenticate"))
	}
	var fields []string
	for _, name := range slices.Sorted(maps.Keys(r.heard.Header)) {
		switch name {
		case "X-Forwarded-Proto", "X-Envoy-Expected-Rq-Timeout-Ms", "X-Envoy-Internal", "Content-Length", "Connection": // for us, or the connection's
		default:
			fields = append(fields, fmt.Sprintf("%s: %q", name, strings.Join(r.heard.Header[name], ",")))
		}
	}
	return fmt.Sprintf("%d %s %s host=%s {%s}", r.status, r.heard.Method, r.heard.URI, r.heard.Host, strings.Join(fields, "; "))
}

// raw sends the bytes of one HTTP/1.1 request to an address and reads the answer.
func (w *twin) raw(t *testing.T, addr, request string) *reply {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer conn.Close()
	if w.client != nil {
		conn = tls.Client(conn, w.client)
	}
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	if _, err := io.WriteString(conn, request); err != nil {
		return &reply{body: "no answer"}
	}
	method, _, _ := strings.Cut(request, " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return &reply{body: "no answer"}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	r := &reply{status: resp.StatusCode, header: resp.Header, body: string(body)}
	if bytes.HasPrefix(body, []byte(`{"Method"`)) {
		r.heard = &heard{}
		must(t, json.Unmarshal(body, r.heard))
	}
	return r
}

// ask sends a request to both and complains if they differ. It returns ours.
func (w *twin) ask(t *testing.T, chain, request string) *reply {
	t.Helper()
	p := w.chains[chain]
	ours, theirs := w.raw(t, p.ours, request), w.raw(t, p.theirs, request)
	if ours.String() != theirs.String() {
		t.Errorf("%s: to\n%s\nwe answer    %s\nEnvoy answers %s", chain, request, ours, theirs)
	}
	return ours
}

// request is the bytes of a request; fields are "name: value".
func request(line string, fields ...string) string {
	host := "Host: app.example\r\n"
	for _, f := range fields {
		if strings.HasPrefix(strings.ToLower(f), "host:") {
			host = ""
		}
	}
	return line + " HTTP/1.1\r\n" + host + strings.Join(append(fields, ""), "\r\n") + "\r\n"
}

// sameStats waits until both have counted the same: what a client has seen the end of is counted a moment later.
func (w *twin) sameStats(t *testing.T, names ...string) {
	t.Helper()
	eventually(t, "counters that are the same", func(context.Context) error {
		all := map[string]map[string]string{}
		for kind, twin := range w.kinds {
			all[kind] = map[string]string{}
			for line := range strings.Lines(get(t, "http://"+local(twin.admin)+"/stats").body) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				all[kind][name] = value
			}
		}
		var errs []error
		for _, name := range names {
			if ours, theirs := all["serai"][name], all["envoy"][name]; ours != theirs || theirs == "" {
				errs = append(errs, fmt.Errorf("%s: we count %q, Envoy %q", name, ours, theirs))
			}
		}
		return errors.Join(errs...)
	})
}
