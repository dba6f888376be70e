package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"

	"github.com/serai-net/serai/integration/harness"
)

// patients are the endpoints that one proxy asks for their health.
type patients struct {
	http, well *patient
	tcp        *patient
	grpc       *health.Server
	addrs      []string // of http, tcp and grpc
}

// patient is an endpoint that is as healthy as it is told to be.
type patient struct {
	mu    sync.Mutex // guards:
	says  string     // the status, or what is sent
	asked map[string]bool
}

func (p *patient) become(says string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.says = says
}

// heard are the different requests that came.
func (p *patient) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for text := range p.asked {
		all = append(all, text)
	}
	slices.Sort(all)
	return all
}

// serveHTTP serves an app that is asked at /health.
func (p *patient) serveHTTP(t *testing.T, name string) net.Addr {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/health" {
			fmt.Fprint(w, name)
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.asked == nil {
			p.asked = map[string]bool{}
		}
		p.asked[fmt.Sprintf("%s %s %s %v", r.Method, r.Host, r.RequestURI, r.Header)] = true
		status := http.StatusOK
		switch p.says {
		case "degraded":
			w.Header().Set("X-Envoy-Degraded", "1")
		case "":
		default:
			_, err := fmt.Sscan(p.says, &status)
			must(t, err)
		}
		w.WriteHeader(status)
		fmt.Fprint(w, "all is well here")
	})}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { drop(server) })
	return listener.Addr()
}

// serveTCP answers a line with what it is told to say.
func (p *patient) serveTCP(t *testing.T) net.Addr {
	t.Helper()
	return accepting(t, func(conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			if line, err := in.ReadString('\n'); err != nil || line != "ping\n" {
				return
			}
			p.mu.Lock()
			says := p.says
			p.mu.Unlock()
			if _, err := conn.Write([]byte(says)); err != nil {
				return
			}
		}
	})
}

func serveGRPCHealth(t *testing.T) (*health.Server, net.Addr) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	server, status := grpc.NewServer(), health.NewServer()
	grpc_health_v1.RegisterHealthServer(server, status)
	status.SetServingStatus("shop", grpc_health_v1.HealthCheckResponse_SERVING)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return status, listener.Addr()
}

// healthFlags are what an admin interface says of the health of an endpoint.
func healthFlags(t *testing.T, admin int, cluster, address string) string {
	t.Helper()
	for line := range strings.Lines(get(t, "http://"+local(admin)+"/clusters").body) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), cluster+"::"+address+"::health_flags::"); ok {
			return rest
		}
	}
	return ""
}

// TestActiveChecksAsEnvoy asks endpoints for their health in all ways, and sees what becomes of the answers.
func TestActiveChecksAsEnvoy(t *testing.T) {
	t.Parallel()
	const times = `"timeout":"2s","interval":"0.1s","noTrafficInterval":"0.1s","unhealthyThreshold":2,"healthyThreshold":2,`
	const calm = `"commonLbConfig":{"healthyPanicThreshold":{"value":0}},`
	all := map[int]*patients{} // by the first port
	twins := staticTwins(t, harness.ForTest(t), 3, func(ports []int) (clusters, listeners []json.RawMessage) {
		p := &patients{http: &patient{}, well: &patient{}, tcp: &patient{says: "all pong\n"}}
		all[ports[0]] = p
		sick, well, raw := p.http.serveHTTP(t, "sick"), p.well.serveHTTP(t, "well"), p.tcp.serveTCP(t)
		var call net.Addr
		p.grpc, call = serveGRPCHealth(t)
		p.addrs = []string{sick.String(), raw.String(), call.String()}
		clusters = append(clusters,
			clusterOf("http", calm+`"healthChecks":[{`+times+`"httpHealthCheck":{"path":"/health","expectedStatuses":[{"start":200,"end":202}],"retriableStatuses":[{"start":503,"end":504}],
				"receive":[{"text":"616c6c"},{"text":"77656c6c"}],"requestHeadersToAdd":[{"header":{"key":"X-Who","value":"proxy"}}]}}]`, endpointAt(sick, ""), endpointAt(well, "")),
			clusterOf("tcp", calm+`"healthChecks":[{`+times+`"tcpHealthCheck":{"send":{"text":"70696e670a"},"receive":[{"text":"706f6e67"}]}}]`, endpointAt(raw, "")),
			clusterOf("grpc", calm+`"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"http2ProtocolOptions":{}}}},
				"healthChecks":[{`+times+`"grpcHealthCheck":{"serviceName":"shop"}}]`, endpointAt(call, "")))
		for i, name := range []string{"http", "tcp", "grpc"} {
			listeners = append(listeners, json.RawMessage(chainSpec{cluster: name}.listener(name, ports[i])))
		}
		return clusters, listeners
	})
	type step struct {
		name  string
		do    func(*patients)
		flags [3]string // of http, tcp and grpc
	}
	for _, kind := range kinds() {
		twin := twins[kind]
		p := all[twin.ports[0]]
		serves := func(p *patients, s grpc_health_v1.HealthCheckResponse_ServingStatus) {
			p.grpc.SetServingStatus("shop", s)
		}
		for _, step := range []step{
			{"all are well", func(*patients) {}, [3]string{"healthy", "healthy", "healthy"}},
			{"all say that they are not", func(p *patients) {
				p.http.become("500")
				p.tcp.become("")
				serves(p, grpc_health_v1.HealthCheckResponse_NOT_SERVING)
			}, [3]string{"/failed_active_hc", "/failed_active_hc/active_hc_timeout", "/failed_active_hc"}},
			{"all are well again", func(p *patients) {
				p.http.become("201")
				p.tcp.become("pong")
				serves(p, grpc_health_v1.HealthCheckResponse_SERVING)
			}, [3]string{"healthy", "healthy", "healthy"}},
			{"one does not answer for now", func(p *patients) { p.http.become("503") }, [3]string{"/failed_active_hc", "healthy", "healthy"}},
			{"it is degraded", func(p *patients) { p.http.become("degraded") }, [3]string{"/degraded_active_hc", "healthy", "healthy"}},
		} {
			step.do(p)
			eventually(t, step.name+" for "+kind, func(context.Context) error {
				for i, name := range []string{"http", "tcp", "grpc"} {
					if got := healthFlags(t, twin.admin, name, p.addrs[i]); got != step.flags[i] {
						return fmt.Errorf("%s is %s", name, got)
					}
				}
				return nil
			})
			if !strings.HasPrefix(step.flags[0], "/failed") {
				continue
			}
			eventually(t, "answers of who is well by "+kind, func(ctx context.Context) error { // Envoy collects such news for a second
				for range 4 {
					got, err := fetch(ctx, strict(t), "http://"+local(twin.ports[0])+"/")
					if err == nil && got.body != "well" {
						err = fmt.Errorf("one of %s", got.body)
					}
					if err != nil {
						return err
					}
				}
				return nil
			})
			if step.flags[1] != "healthy" {
				waitStatus(t, "http://"+local(twin.ports[1])+"/", http.StatusServiceUnavailable)
			}
		}
		for _, name := range []string{"attempt", "success", "failure"} {
			if stat(t, twin.admin, "http", ".health_check."+name) == "0" {
				t.Errorf("%s: no %s is counted", kind, name)
			}
		}
		for name, want := range map[string]string{"http.health_check.healthy": "2", "http.health_check.degraded": "1", "tcp.health_check.healthy": "1", "http.membership_degraded": "1", "http.membership_healthy": "1"} {
			cluster, suffix, _ := strings.Cut(name, ".")
			if got := stat(t, twin.admin, cluster, "."+suffix); got != want {
				t.Errorf("%s: %s is %s, not %s", kind, name, got, want)
			}
		}
	}
	ours, theirs := all[twins["serai"].ports[0]].well.heard(), all[twins["envoy"].ports[0]].well.heard()
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("we do not ask as Envoy does (-Envoy +we):\n%s", diff)
	}
}
