package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// endpointAt is an endpoint in the text of a cluster.
func endpointAt(addr net.Addr, more string) string {
	tcp, _ := addr.(*net.TCPAddr)
	return fmt.Sprintf(`{"endpoint":{"address":{"socketAddress":{"address":%q,"portValue":%d}}%s}}`, tcp.IP, tcp.Port, comma(more))
}

// clusterOf is the text of a static cluster.
func clusterOf(name, options string, endpoints ...string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name":%q,"connectTimeout":"5s",%s"loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[%s]}]}}`,
		name, behind(options), name, strings.Join(endpoints, ",")))
}

// tcpListener is the text of a listener that ends in tcp_proxy.
func tcpListener(name string, port int, cluster, options string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{"name":%q,"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}},"filterChains":[{"filters":[{"name":"tcp","typedConfig":{
		"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":%q,"cluster":%q%s}}]}]}`, name, port, name, cluster, comma(options)))
}

// answering serves HTTP at an address of this machine with what text says of a request.
func answering(t *testing.T, address string, text func(r *http.Request) string) net.Addr {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", address)
	must(t, err)
	server := &httptest.Server{Listener: listener, Config: &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, text(r))
	})}}
	server.Start()
	t.Cleanup(server.Close)
	return listener.Addr()
}

// TestClusterOptionsAsEnvoy connects as the options of clusters say.
func TestClusterOptionsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	gates := map[string]chan struct{}{"serai": make(chan struct{}), "envoy": make(chan struct{})}
	busy := make(chan string, 16)
	held := answering(t, "127.0.0.1:0", func(r *http.Request) string {
		busy <- r.URL.Path
		<-gates[r.Header.Get("X-Kind")]
		return "done"
	})
	from := answering(t, "127.0.0.1:0", func(r *http.Request) string {
		host, _, _ := net.SplitHostPort(r.RemoteAddr)
		return host
	})
	names := []string{"limit", "bind", "race"}
	four := answering(t, "127.0.0.1:0", func(*http.Request) string { return "four" })
	six := answering(t, "[::1]:0", func(*http.Request) string { return "six" })
	sixPort := six.(*net.TCPAddr).Port //nolint:errcheck,forcetypeassert // it is one
	twins := staticTwins(t, env, len(names), func(ports []int) (clusters, listeners []json.RawMessage) {
		clusters = append(clusters,
			clusterOf("limit", `"circuitBreakers":{"thresholds":[{"maxConnections":7,"maxRetries":5,"trackRemaining":true}],"perHostThresholds":[{"maxConnections":1}]}`, endpointAt(held, "")),
			clusterOf("bind", `"upstreamBindConfig":{"sourceAddress":{"address":"127.0.0.9","portValue":0}}`, endpointAt(from, "")),
			clusterOf("race", `"upstreamConnectionOptions":{"happyEyeballsConfig":{"firstAddressFamilyVersion":"V6","firstAddressFamilyCount":1}}`,
				endpointAt(four, fmt.Sprintf(`"additionalAddresses":[{"address":{"socketAddress":{"address":"::1","portValue":%d}}}]`, sixPort))))
		for i, name := range names {
			listeners = append(listeners, json.RawMessage(chainSpec{cluster: name}.listener(name, ports[i])))
		}
		return clusters, listeners
	})
	stats := map[string]string{}
	for _, kind := range kinds() {
		twin := twins[kind]
		if got := get(t, "http://"+local(twin.ports[1])+"/").body; got != "127.0.0.9" {
			t.Errorf("%s connects from %s", kind, got)
		}
		if got := get(t, "http://"+local(twin.ports[2])+"/").body; got != "six" {
			t.Errorf("%s begins with %s", kind, got)
		}
		// Of two exchanges with a host that may have one connection, one waits.
		var asking sync.WaitGroup
		for range 2 {
			asking.Go(func() {
				got := get(t, "http://"+local(twin.ports[0])+"/", func(r *http.Request) { r.Header.Set("X-Kind", kind) })
				if got.body != "done" {
					t.Errorf("%s: %d %s", kind, got.status, got.body)
				}
			})
		}
		<-busy
		eventually(t, "one that waits", func(context.Context) error {
			if n := stat(t, twin.admin, "limit", ".upstream_rq_pending_active"); n != "1" {
				return fmt.Errorf("%s do", n)
			}
			return nil
		})
		var told []string
		for _, name := range []string{"remaining_cx", "remaining_pending", "remaining_rq", "remaining_retries", "cx_open"} {
			told = append(told, name+" "+stat(t, twin.admin, "limit", ".circuit_breakers.default."+name))
		}
		if stat(t, twin.admin, "limit", ".upstream_cx_overflow") == "0" { // Envoy counts one exchange more than once
			t.Errorf("%s counts none that waits for a connection", kind)
		}
		close(gates[kind])
		asking.Wait()
		<-busy
		told = append(told, "total "+stat(t, twin.admin, "limit", ".upstream_cx_total"))
		stats[kind] = strings.Join(told, ", ")
	}
	if stats["serai"] != stats["envoy"] {
		t.Errorf("we count    %s\nEnvoy counts %s", stats["serai"], stats["envoy"])
	}
}

// TestCloseUnhealthyAsEnvoy ends the raw connections to a host that is ejected, if that is asked for.
func TestCloseUnhealthyAsEnvoy(t *testing.T) {
	t.Parallel()
	names := []string{"close", "keep"}
	listeners := map[int]net.Listener{}
	twins := staticTwins(t, harness.ForTest(t), len(names), func(ports []int) (clusters, all []json.RawMessage) {
		for i, name := range names {
			app, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
			must(t, err)
			listeners[ports[i]] = app
			serveEach(t, app, giveBack)
			options := `"outlierDetection":{"consecutive5xx":2,"maxEjectionPercent":100,"interval":"600s"}`
			if name == "close" {
				options += `,"closeConnectionsOnHostHealthFailure":true`
			}
			clusters = append(clusters, clusterOf(name, options, endpointAt(app.Addr(), "")))
			all = append(all, tcpListener(name, ports[i], name, ""))
		}
		return clusters, all
	})
	for kind, twin := range twins {
		for i, name := range names {
			open := dialMirror(t, local(twin.ports[i]))
			must(t, open.ping("one"))
			drop(listeners[twin.ports[i]]) // who is connected stays so
			eventually(t, "an ejection by "+kind, func(ctx context.Context) error {
				if m, err := tryMirror(ctx, local(twin.ports[i])); err == nil {
					_, _ = m.conn.Write([]byte("x\n"))
					_, _ = m.conn.Read(make([]byte, 1))
					drop(m.conn)
				}
				if n := stat(t, twin.admin, name, ".outlier_detection.ejections_active"); n != "1" {
					return fmt.Errorf("%s are ejected", n)
				}
				return nil
			})
			if name == "keep" {
				must(t, open.ping("two"))
				continue
			}
			must(t, open.conn.SetReadDeadline(time.Now().Add(patience)))
			if _, err := open.conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s keeps the connection to a host that is ejected: %v", kind, err)
			}
		}
	}
}
