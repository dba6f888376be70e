package integration_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// occasion is one thing that can happen on a listener of HTTP or TCP, whose stat_prefix and cluster have its name.
type occasion struct {
	// cluster has further fields of the cluster, each with a comma before it; upstream is where it goes, by the names of
	// countedUpstreams.
	upstream, cluster string
	// manager has further fields of the connection manager, route those of its only route beside match and cluster, chain
	// those of the filter chain; all as cluster.
	manager, route, chain string
	// action takes the place of the route, tcp is a tcp_proxy in place of HTTP with these further fields.
	action string
	tcp    string
	// differs matches names behind those of the scenario of what is meant to differ, or is chance.
	differs string
	// happen makes it happen.
	happen func(s scene)
}

// scene is where it happens.
type scene struct {
	t       *testing.T
	address string
	*progress
}

// text is the listener.
func (c *occasion) listener(name string, port int) json.RawMessage {
	filter := fmt.Sprintf(`{"name":"tcp","typed_config":{"@type":%q,"stat_prefix":%q,"cluster":%q%s}}`, tcpAny, name, name, strings.TrimPrefix(c.tcp, "-"))
	if c.tcp == "" {
		action := cmp.Or(c.action, fmt.Sprintf(`"route":{"cluster":%q%s}`, name, c.route))
		filter = fmt.Sprintf(`{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":%q,"http_filters":[{"name":"router","typed_config":{"@type":%q}}],
			"route_config":{"name":"r","virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},%s}]}]}%s}}`, hcmType, name, routerAny, action, c.manager)
	}
	return fmt.Appendf(nil, `{"name":%q,"stat_prefix":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[%s]%s}]}`,
		name, name, port, filter, c.chain)
}

// The rest of a cluster that speaks HTTP/2, and of a retry policy.
const (
	overHTTP2 = `,"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}}`
	overTLS   = `,"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"}}`
	overTLS13 = `,"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",` +
		`"common_tls_context":{"tls_params":{"tls_maximum_protocol_version":"TLSv1_3"},"validation_context":%s}}}`
)

// uncounted are names whose values are chance, or meant to differ (see docs/envoy.md).
var uncounted = regexp.MustCompile(`_bytes_|_ms$|_time$|\.worker_|max_host_weight|assignment|default\.total_match_count|membership|update_|\.tracing\.|upstream_rq_repeated`)

// numbers reads what a twin has counted of the scenarios, and of the codecs of all.
func (s *staticTwin) numbers(ctx context.Context, names []string) (map[string]int64, error) {
	got, err := fetch(ctx, http.DefaultClient, "http://"+local(s.admin)+"/stats")
	if err != nil {
		return nil, err
	}
	all := map[string]int64{}
	for line := range strings.Lines(got.body) {
		name, text, _ := strings.Cut(strings.TrimSpace(line), ": ")
		value, err := strconv.ParseInt(text, 10, 64)
		if err != nil || uncounted.MatchString(name) {
			continue
		}
		kind, rest, _ := strings.Cut(name, ".")
		scenario, _, _ := strings.Cut(rest, ".")
		if kind == "http1" || kind == "http2" || slices.Contains([]string{"http", "cluster", "listener", "tcp"}, kind) && slices.Contains(names, scenario) {
			all[name] = value
		}
	}
	return all, nil
}

// since is what has changed since before; what was there and has not is 0.
func since(before, now map[string]int64) map[string]int64 {
	all := map[string]int64{}
	for name, value := range now {
		all[name] = value - before[name]
	}
	return all
}

// TestCountedAsEnvoy makes things happen to our proxy and to Envoy, each on a listener and a cluster of its own, and
// compares all that both count of them.
func TestCountedAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	ca := newSigningCA(t, "ca")
	progress := newProgress()
	upstreams, scenarios := countedUpstreams(t, ca, progress), countedScenarios(t, ca)
	names := slices.Sorted(maps.Keys(scenarios))
	twins := staticTwins(t, env, len(names), func(ports []int) (clusters, listeners []json.RawMessage) {
		for i, name := range names {
			c := scenarios[name]
			text := string(clusterAt(name, upstreams[cmp.Or(c.upstream, "http1")]))
			clusters = append(clusters, json.RawMessage(text[:len(text)-1]+c.cluster+"}"))
			listeners = append(listeners, c.listener(name, ports[i]))
		}
		return clusters, listeners
	})
	got := map[string]map[string]int64{}
	for kind, twin := range twins {
		var before map[string]int64
		eventually(t, "what the start has opened to be closed", func(ctx context.Context) (err error) {
			if before, err = twin.numbers(ctx, names); err != nil {
				return err
			}
			for name, value := range before {
				if strings.HasSuffix(name, "cx_active") && value != 0 {
					return fmt.Errorf("%s is %d", name, value)
				}
			}
			return nil
		})
		for i, name := range names {
			t.Run(kind+"/"+name, func(t *testing.T) { scenarios[name].happen(scene{t, local(twin.ports[i]), progress}) })
		}
		drains(scene{t, local(twin.ports[slices.Index(names, "drains")]), progress}, twin)
		last, changed := map[string]int64{}, time.Now()
		eventually(t, "what has happened to be over", func(ctx context.Context) error {
			now, err := twin.numbers(ctx, names)
			if err != nil {
				return err
			}
			for name, value := range now {
				if strings.HasPrefix(name, "http.") && strings.HasSuffix(name, "_active") && value != 0 {
					return fmt.Errorf("%s is %d", name, value)
				}
			}
			if !maps.Equal(now, last) {
				last, changed = now, time.Now()
			}
			if time.Since(changed) < time.Second {
				return errors.New("it goes on")
			}
			return nil
		})
		got[kind] = since(before, last)
	}
	for _, name := range slices.Sorted(maps.Keys(got["envoy"])) {
		if c := scenarios[strings.Split(name, ".")[1]]; c != nil && c.differs != "" && regexp.MustCompile(c.differs).MatchString(name) {
			delete(got["serai"], name)
			continue
		}
		if ours, there := got["serai"][name]; !there {
			t.Errorf("%s: Envoy counts %d, we do not know it", name, got["envoy"][name])
		} else if ours != got["envoy"][name] {
			t.Errorf("%s: Envoy counts %d, we %d", name, got["envoy"][name], ours)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(got["serai"])) {
		if _, there := got["envoy"][name]; !there && got["serai"][name] != 0 {
			t.Errorf("%s: we count %d, Envoy does not know it", name, got["serai"][name])
		}
	}
	if len(got["envoy"]) < 100*len(names) {
		t.Errorf("only %d numbers were compared", len(got["envoy"]))
	}
}

// drains has clients be asked to leave for a while.
func drains(s scene, twin *staticTwin) {
	t := s.t
	t.Helper()
	health := func(path string) {
		if got := ask(t, http.MethodPost, "http://"+local(twin.admin)+path, http.NoBody); got.status != http.StatusOK {
			t.Errorf("%s: status %d", path, got.status)
		}
	}
	again := func(conn net.Conn, r *bufio.Reader, leave bool) {
		_, err := io.WriteString(conn, ask1("/"))
		must(t, err)
		resp, err := http.ReadResponse(r, nil)
		must(t, err)
		_, _ = io.Copy(io.Discard, resp.Body)
		must(t, resp.Body.Close())
		if resp.Close != leave {
			t.Errorf("%s: is the client asked to leave? %t", twin.process.Name, resp.Close)
		}
	}
	speakTo(t, s.address, "", func(conn net.Conn, r *bufio.Reader) {
		again(conn, r, false)
		health("/healthcheck/fail")
		again(conn, r, true)
	})
	s.second("/", http.StatusOK, nil)
	health("/healthcheck/ok")
	speakTo(t, s.address, "", func(conn net.Conn, r *bufio.Reader) { again(conn, r, false) })
}

// speakTo sends text on a new connection and hands it to then, and closes it.
func speakTo(t *testing.T, address, text string, then func(conn net.Conn, r *bufio.Reader)) {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", address)
	must(t, err)
	defer drop(conn)
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, text)
	must(t, err)
	then(conn, bufio.NewReader(conn))
}

// hears reads responses until there is none any more, or there were n.
func (s scene) hears(n int, statuses ...int) func(conn net.Conn, r *bufio.Reader) {
	s.t.Helper()
	return func(_ net.Conn, r *bufio.Reader) {
		for i := range n {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				s.t.Errorf("no response: %v", err)
				return
			}
			s.read(resp.Body)
			_ = resp.Body.Close()
			if i < len(statuses) && resp.StatusCode != statuses[i] {
				s.t.Errorf("status %d, want %d", resp.StatusCode, statuses[i])
			}
		}
	}
}

func ask1(path string, fields ...string) string { return request("GET "+path, fields...) }

// second makes a request over HTTP/2 on a connection of its own, and closes it. If change says so it leaves once the
// upstream has heard of it.
func (s scene) second(path string, status int, change func(*http.Request) (leaves bool)) {
	t := s.t
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", s.address)
	must(t, err)
	defer drop(conn)
	transport := &http.Transport{Protocols: &http.Protocols{}, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	transport.Protocols.SetUnencryptedHTTP2(true)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.address+path, http.NoBody)
	must(t, err)
	if change != nil {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		req = req.WithContext(ctx)
		if forget(s.begun); change(req) {
			go func() {
				defer cancel()
				s.waitBegun(ctx, t)
			}()
		}
	}
	resp, err := transport.RoundTrip(req)
	defer pause(t, 100*time.Millisecond) // for what the transport has still to say
	if err != nil {
		if status != 0 {
			t.Errorf("%s: %v", path, err)
		}
		return
	}
	defer drop(resp.Body)
	s.read(resp.Body)
	if status != 0 && resp.StatusCode != status {
		t.Errorf("%s: status %d, want %d", path, resp.StatusCode, status)
	}
}
