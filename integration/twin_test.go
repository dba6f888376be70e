package integration_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_to_metadata/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/integration/harness"
)

// twin is Envoy and us with the same filter chains in front of the same application, side by side: what one answers to
// a request, the other has to answer as well.
type twin struct {
	chains map[string]*pair
	admin  int // Envoy's
	stats  *stats.Registry
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
		"routeConfig":{"name":"r","virtualHosts":[{"name":"all","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%q}}]}]}}}]}]}`,
		name, port, prefixed("transportSocket", c.tls), hcmType, name, c.options, behind(c.filters), cmp.Or(c.cluster, "app"))
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
	env := harness.ForTest(t)
	envoy, err := env.Envoy()
	must(t, err)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("X-Request-Id")
		_ = json.NewEncoder(w).Encode(heard{r.Method, r.RequestURI, r.Host, r.Header})
	}))
	t.Cleanup(app.Close)
	clusters = append(clusters, staticCluster("app", app.Listener.Addr()))
	names := slices.Sorted(maps.Keys(specs))
	port, err := env.Ports(1 + len(names))
	must(t, err)
	w := &twin{chains: map[string]*pair{}, admin: port, stats: &stats.Registry{}}
	set := w.clusters(t, clusters)
	var listeners []string
	for i, name := range names {
		text := specs[name].listener(name, port+1+i)
		listeners = append(listeners, text)
		w.chains[name] = &pair{ours: w.serve(t, text, set), theirs: local(port + 1 + i)}
	}
	file := filepath.Join(env.Dir(), "envoy.json")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `{"admin":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}},"layeredRuntime":{"layers":[{"name":"static","staticLayer":{"re2.max_program_size.error_level":1048576}}]},"staticResources":{"clusters":[%s],"listeners":[%s]}}`,
		port, strings.Join(clusters, ","), strings.Join(listeners, ",")), 0o600))
	_, err = env.Start(harness.Command{
		Name: "envoy", Path: envoy, Args: []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "error", "--use-dynamic-base-id"},
	})
	must(t, err)
	eventually(t, "Envoy", func(ctx context.Context) error {
		got, err := fetch(ctx, strict(t), "http://"+local(port)+"/ready")
		if err == nil && got.status != http.StatusOK {
			err = fmt.Errorf("status %d", got.status)
		}
		return err
	})
	return w
}

func staticCluster(name string, addr net.Addr) string {
	tcp, _ := addr.(*net.TCPAddr)
	return fmt.Sprintf(`{"name":%q,"type":"STATIC","connectTimeout":"5s","loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}}}]}]}}`,
		name, name, tcp.Port)
}

func (w *twin) clusters(t *testing.T, texts []string) *upstream.Set {
	t.Helper()
	byName := map[string]string{}
	for _, text := range texts {
		var c struct{ Name string }
		must(t, json.Unmarshal([]byte(text), &c))
		byName[c.Name] = text
	}
	return setOf(t, byName, func(s *upstream.Set) { s.CountIn(w.stats) })
}

// serve serves a listener's chain by our parts, and returns its address.
func (w *twin) serve(t *testing.T, text string, set *upstream.Set) string {
	t.Helper()
	msg := &listenerv3.Listener{}
	must(t, protojson.Unmarshal([]byte(text), msg))
	body, err := proto.Marshal(msg)
	must(t, err)
	l, notes, err := resource.Listener(body)
	must(t, err)
	for _, note := range notes {
		t.Logf("%s: %s", l.Name, note)
	}
	chain := l.Chains[0]
	if refusal := l.Refusal + chain.Refusal; refusal != "" {
		t.Fatalf("%s: refused: %s", l.Name, refusal)
	}
	for _, f := range chain.HTTP.Filters {
		if f.Refusal != "" {
			t.Fatalf("%s: refused: %s", l.Name, f.Refusal)
		}
	}
	service, err := stack.HTTP(chain.HTTP, nil, set)
	must(t, err)
	policy, err := rbac.Compile(chain.Intentions)
	must(t, err)
	service = wire.Stack(service, stack.Connection(policy))
	var secured *tls.Config
	if chain.TLS != nil {
		secured, err = (&mtls.Loader{}).Server(chain.TLS)
		must(t, err)
	}
	server := stack.NewServer(chain.HTTP.Codec, func() wire.Service { return service }, slog.New(slog.DiscardHandler))
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	accept(t, listener, secured, server)
	return listener.Addr().String()
}

// accept hands every connection to server, as connect/listen does.
func accept(t *testing.T, listener net.Listener, secured *tls.Config, server *stack.Server) {
	t.Helper()
	drain := &wire.Drain{}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				peer := &wire.Peer{Addr: addrOf(conn.RemoteAddr()), Local: addrOf(conn.LocalAddr())}
				if secured != nil {
					if conn = shakeHands(conn, secured, peer); conn == nil {
						return
					}
				}
				server.Serve(conn, peer, drain)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		drain.Kill()
		running.Wait()
	})
}

func addrOf(addr net.Addr) netip.AddrPort {
	tcp, _ := addr.(*net.TCPAddr)
	return tcp.AddrPort()
}

func shakeHands(conn net.Conn, config *tls.Config, peer *wire.Peer) net.Conn {
	secured := tls.Server(conn, config)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil
	}
	state := secured.ConnectionState()
	peer.TLS, peer.ServerName, peer.Ours = true, state.ServerName, mtls.Shown(config, state.ServerName)
	if len(state.PeerCertificates) > 0 {
		peer.Certificate, peer.Chain = state.PeerCertificates[0], state.PeerCertificates
		if id, err := spiffe.FromCertificate(peer.Certificate); err == nil {
			peer.ID = id
		}
	}
	return secured
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

// sameStats compares counters by the end of their names.
func (w *twin) sameStats(t *testing.T, names ...string) {
	t.Helper()
	theirs := map[string]string{}
	for line := range strings.Lines(get(t, "http://"+local(w.admin)+"/stats").body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		theirs[name] = value
	}
	ours := map[string]string{}
	for s := range w.stats.All() {
		ours[s.Name] = fmt.Sprint(s.Value)
	}
	for _, name := range names {
		if ours[name] != theirs[name] || theirs[name] == "" {
			t.Errorf("%s: we count %q, Envoy %q", name, ours[name], theirs[name])
		}
	}
}
