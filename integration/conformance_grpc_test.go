package integration_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// interopCase is a case of grpc-go's interop client.
type interopCase struct {
	name string
	args []string
}

// interopCases are all cases of grpc-go's interop client which need no credentials of a cloud, but for pick_first_unary:
// it asks for the server's ID, and grpc-go's server gives none. There is none with compressed messages: grpc-go has not
// written those.
func interopCases() []interopCase {
	soak := []string{
		"--soak_iterations=48", "--soak_num_threads=4", "--soak_overall_timeout_seconds=60",
		"--soak_per_iteration_max_acceptable_latency_ms=30000", // how long it takes is not the matter here
	}
	return []interopCase{
		{name: "empty_unary"},
		{name: "large_unary"},
		{name: "client_streaming"},
		{name: "server_streaming"},
		{name: "ping_pong"},
		{name: "empty_stream"},
		{name: "timeout_on_sleeping_server"},
		{name: "cancel_after_begin"},
		{name: "cancel_after_first_response"},
		{name: "status_code_and_message"},
		{name: "special_status_message"},
		{name: "custom_metadata"},
		{name: "unimplemented_method"},
		{name: "unimplemented_service"},
		{name: "rpc_soak", args: soak},
		{name: "channel_soak", args: soak},
		{name: "orca_per_rpc", args: orcaBalancer()},
		{name: "orca_oob", args: orcaBalancer()},
	}
}

// orcaBalancer makes the client hand the reports of its server to the case.
func orcaBalancer() []string {
	return []string{`--service_config_json={"loadBalancingConfig":[{"test_backend_metrics_load_balancer":{}}]}`}
}

// TestGRPCInterop runs the interop client of grpc-go against its interop server: without a proxy, through the edge in
// clear and over TLS, through two sidecars, and, to know a failure for ours, through two Envoys.
func TestGRPCInterop(t *testing.T) {
	t.Parallel()
	protocols := map[string]string{"interop": "grpc", "caller": "grpc", "their-interop": "grpc", "their-caller": "grpc"}
	w := newWorld(t, protocols)
	w.allow(t, "caller", "interop")
	w.allow(t, "their-caller", "their-interop")
	client, err := w.env.Tool("grpc-interop/client")
	must(t, err)
	direct := w.interopServer(t, "interop-1", "interop")
	w.connect(t, direct)
	caller := w.run(t, "caller-1", "caller", "interop")
	edge := interopEdge(t, w.env, direct.app.port)
	secured := []string{
		"--use_tls", "--use_test_ca", "--ca_file=" + filepath.Join(w.env.Dir(), "site.pem"), "--server_host_override=localhost",
	}
	ways := []struct {
		name string
		port int
		args []string
	}{
		{"no proxy", direct.app.port, nil},
		{"edge", edge, nil},
		{"edge over TLS", edge + 1, secured},
		{"sidecars", caller.upstreams["interop"], nil},
	}
	if _, err := w.env.Tool("envoy"); err == nil {
		theirs := w.interopServer(t, "their-interop-1", "their-interop")
		theirCaller := w.register(t, "their-caller-1", "their-caller", "their-interop")
		w.envoy(t, theirs)
		w.envoy(t, theirCaller)
		ways = append(ways, struct {
			name string
			port int
			args []string
		}{"Envoys", theirCaller.upstreams["their-interop"], nil})
	}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			eventually(t, "a call to be answered", func(ctx context.Context) error {
				return interop(ctx, client, way.port, interopCase{name: "empty_unary", args: way.args})
			})
			for _, c := range interopCases() {
				t.Run(c.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
					defer cancel()
					c.args = append(c.args, way.args...)
					if err := interop(ctx, client, way.port, c); err != nil {
						t.Error(err)
					}
				})
			}
			t.Logf("%d cases", len(interopCases()))
		})
	}
}

// interop runs one case of the client. It must succeed, and say so.
func interop(ctx context.Context, client string, port int, c interopCase) error {
	args := append([]string{"--server_host=127.0.0.1", "--server_port=" + strconv.Itoa(port), "--test_case=" + c.name}, c.args...)
	cmd := exec.CommandContext(ctx, client, args...)
	cmd.Env = append(os.Environ(), "GRPC_GO_LOG_SEVERITY_LEVEL=info", "GRPC_GO_LOG_VERBOSITY_LEVEL=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", c.name, err, out)
	}
	// Such as: 2026/08/28 12:00:00 INFO: [interop] PingPong done
	for line := range strings.Lines(string(out)) {
		_, told, _ := strings.Cut(strings.ToLower(line), " [interop] ")
		if strings.HasPrefix(told, strings.ReplaceAll(c.name, "_", "")) && strings.HasSuffix(told, " done\n") {
			return nil
		}
	}
	return fmt.Errorf("%s: %w: it does not say that it is done\n%s", c.name, errNotYet, out)
}

// interopServer starts grpc-go's interop server as an instance of a service, with a sidecar that does not run yet.
func (w *world) interopServer(t *testing.T, id, service string) *instance {
	t.Helper()
	server, err := w.env.Tool("grpc-interop/server")
	must(t, err)
	port := w.ports(t, 3)
	i := &instance{id: id, service: service, app: &app{name: id, port: port}, public: port + 1, admin: port + 2}
	_, err = w.env.Start(harness.Command{Name: id, Path: server, Args: []string{"--port=" + strconv.Itoa(port)}})
	must(t, err)
	must(t, w.consul.RegisterService(t.Context(), w.registration(i), w.token(t, service)))
	return i
}

// interopEdge starts an edge in front of a port of this machine; it listens in clear at the port that it returns, and by
// TLS at the next one.
func interopEdge(t *testing.T, env *harness.Env, port int) int {
	t.Helper()
	first, err := env.Ports(2)
	must(t, err)
	certificate(t, env.Dir())
	file := filepath.Join(env.Dir(), "interop.hcl")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `edge {
  listener "plain" { address = %q }
  listener "secure" {
    address = %q
    tls {
      certificate_file = "site.pem"
      key_file         = "site.key"
    }
  }
  api "grpc" {
    route "all" {
      upstream {
        addresses = [%q]
        protocol  = "http2"
      }
    }
  }
}
`, local(first), local(first+1), local(port)), 0o600))
	_, err = env.Serai([]string{"edge", "-config", file})
	must(t, err)
	return first
}
