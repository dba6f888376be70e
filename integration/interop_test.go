package integration_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/serai-net/serai/integration/harness"
)

// TestBuiltinProxy talks with `consul connect proxy`, which knows tcp only, in both roles.
func TestBuiltinProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	// Denied by an intention and not by default: Consul's authorize endpoint, which its proxy asks, goes on for minutes
	// to say that there is no intention.
	must(t, w.consul.Intention(t.Context(), "caller", "theirs", false))
	ours := w.run(t, "ours-1", "ours")
	caller := w.run(t, "caller-1", "caller", "theirs")
	theirs := w.register(t, "theirs-1", "theirs")
	theirCaller := w.register(t, "their-caller-1", "their-caller", "ours")
	for _, i := range []*instance{theirs, theirCaller} {
		w.builtin(t, i)
	}
	listens(t, ours, caller, theirs, theirCaller)
	for _, service := range []string{"ours", "theirs"} {
		must(t, w.consul.WaitHealthy(t.Context(), service+"-sidecar-proxy", 1))
	}
	t.Run("it calls ours", func(t *testing.T) { callTCP(t, w, theirCaller, "ours", nothing) })
	t.Run("ours calls it", func(t *testing.T) {
		// Not whether a later deny holds: the receiver decides, by its agent's authorize endpoint, which was seen to
		// go on for more than 30 s with what it had answered before.
		callTCP(t, w, caller, "theirs", nil)
	})
}

// listens waits until somebody listens on the public ports of instances.
func listens(t *testing.T, all ...*instance) {
	t.Helper()
	for _, i := range all {
		eventually(t, "the public listener of "+i.id, func(ctx context.Context) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", local(i.public))
			if err != nil {
				return err
			}
			return conn.Close()
		})
	}
}

func nothing() {}

// callTCP calls a tcp service: denied by default, then allowed, then denied; denied is called in between, and without it
// the last is left out.
func callTCP(t *testing.T, w *world, from *instance, to string, denied func()) {
	t.Helper()
	addr := local(from.upstreams[to])
	eventually(t, "a connection to be refused", func(ctx context.Context) error {
		return refused(ctx, addr)
	})
	w.allow(t, from.service, to)
	waitTCP(t, addr)
	m := dialMirror(t, addr)
	for size := 1; size < 1<<17; size *= 4 {
		must(t, m.ping(strings.Repeat("x", size)))
	}
	if denied == nil {
		return
	}
	must(t, w.consul.Intention(t.Context(), from.service, to, false))
	denied()
	eventually(t, "a connection to be refused again", func(ctx context.Context) error {
		return refused(ctx, addr)
	})
}

// refused wants the local listener to be there, and nobody to answer.
func refused(ctx context.Context, addr string) error {
	m, err := tryMirror(ctx, addr)
	if err != nil {
		return err
	}
	defer drop(m.conn)
	if err := m.ping("hello"); err == nil {
		return errAnswered
	}
	return nil
}

// callHTTP does the same for an http service.
func callHTTP(t *testing.T, w *world, from *instance, to, name string) {
	t.Helper()
	waitStatus(t, from.url(to, "/"), http.StatusForbidden)
	w.allow(t, from.service, to)
	waitStatus(t, from.url(to, "/"), http.StatusOK)
	if got := get(t, from.url(to, "/x/a")); got.body != name {
		t.Errorf("status %d, answer %q, want %q", got.status, got.body, name)
	}
	testEcho(t, from.url(to, "/echo"))
	testUpgrade(t, from.url(to, "/upgrade"))
	must(t, w.consul.Intention(t.Context(), from.service, to, false))
	waitStatus(t, from.url(to, "/"), http.StatusForbidden)
}

// callHTTP2 does so for an http2 service, whose app tells what it hears, by a caller of HTTP/1.1 and one of HTTP/2. A
// sidecar hands on what the caller's sidecar speaks, which is HTTP/2.
func callHTTP2(t *testing.T, w *world, from *instance, to string) {
	t.Helper()
	waitStatus(t, from.url(to, "/"), http.StatusForbidden)
	w.allow(t, from.service, to)
	waitStatus(t, from.url(to, "/"), http.StatusOK)
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	for name, client := range map[string]*http.Client{"HTTP/1.1": strict(t), "HTTP/2": {Transport: transport, Timeout: patience}} {
		for range 3 {
			data := string(noise(t, 1<<18))
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, from.url(to, "/echo"), strings.NewReader(data))
			must(t, err)
			got, err := send(client, req)
			must(t, err)
			if got.status != http.StatusOK || got.body != data || got.header.Get("X-Proto") != "HTTP/2.0" {
				t.Errorf("by %s: status %d, %d bytes, the app heard %s", name, got.status, len(got.body), got.header.Get("X-Proto"))
			}
		}
	}
}

func testEcho(t *testing.T, url string) {
	t.Helper()
	data := string(noise(t, 1<<20))
	got := ask(t, http.MethodPost, url, strings.NewReader(data))
	wantStatus(t, got, http.StatusOK)
	if got.body != data {
		t.Errorf("of %d bytes came back %d, and not those", len(data), len(got.body))
	}
}

// builtin starts Consul's own proxy as the sidecar of an instance.
func (w *world) builtin(t *testing.T, i *instance) {
	t.Helper()
	consul, err := w.env.Tool("consul")
	must(t, err)
	i.sidecar, err = w.env.Start(harness.Command{
		Name: "builtin-" + i.id, Path: consul, Args: []string{"connect", "proxy", "-sidecar-for", i.id},
		Env: w.consul.Environ(w.token(t, i.service)),
	})
	must(t, err)
}

// TestEnvoy talks with Envoy, as Consul starts it, in both roles and in both protocols.
func TestEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"ours-http": "http", "theirs-http": "http", "ours-http2": "http2", "theirs-http2": "http2", "caller": "http", "their-caller": "http"})
	for _, service := range []string{"ours-http", "ours-http2", "ours-tcp"} {
		sidecarReady(t, w.run(t, service+"-1", service))
	}
	caller := w.run(t, "caller-1", "caller", "theirs-http", "theirs-http2", "theirs-tcp")
	theirCaller := w.register(t, "their-caller-1", "their-caller", "ours-http", "ours-http2", "ours-tcp")
	for _, i := range []*instance{w.register(t, "theirs-http-1", "theirs-http"), w.register(t, "theirs-http2-1", "theirs-http2"), w.register(t, "theirs-tcp-1", "theirs-tcp"), theirCaller} {
		w.envoy(t, i)
		sidecarReady(t, i)
	}
	t.Run("it calls ours by http", func(t *testing.T) { callHTTP(t, w, theirCaller, "ours-http", "ours-http-1") })
	t.Run("ours calls it by http", func(t *testing.T) { callHTTP(t, w, caller, "theirs-http", "theirs-http-1") })
	t.Run("it calls ours by http2", func(t *testing.T) { callHTTP2(t, w, theirCaller, "ours-http2") })
	t.Run("ours calls it by http2", func(t *testing.T) { callHTTP2(t, w, caller, "theirs-http2") })
	t.Run("it calls ours by tcp", func(t *testing.T) { callTCP(t, w, theirCaller, "ours-tcp", nothing) })
	t.Run("ours calls it by tcp", func(t *testing.T) { callTCP(t, w, caller, "theirs-tcp", nothing) })
	t.Run("the edge calls it", func(t *testing.T) {
		g := w.edge(t, mesh("theirs-http"))
		waitStatus(t, g.url("/theirs-http"), http.StatusForbidden)
		w.allow(t, "edge", "theirs-http")
		waitStatus(t, g.url("/theirs-http"), http.StatusOK)
	})
}

// envoy starts Envoy as the sidecar of an instance.
func (w *world) envoy(t *testing.T, i *instance) {
	t.Helper()
	file := filepath.Join(w.env.Dir(), i.id+".json")
	must(t, os.WriteFile(file, w.bootstrap(t, i), 0o600))
	i.sidecar = startEnvoy(t, w.env, "envoy-"+i.id, file)
}

// startEnvoy starts Envoy on one thread, as Nomad does, with a bootstrap file.
func startEnvoy(t *testing.T, env *harness.Env, name, file string) *harness.Process {
	t.Helper()
	envoy, err := env.Envoy()
	must(t, err)
	process, err := env.Start(harness.Command{
		Name: name, Path: envoy, Args: []string{"-c", file, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "--use-dynamic-base-id"},
	})
	must(t, err)
	return process
}

// bootstrap is what `consul connect envoy` would start Envoy with, for the sidecar of an instance.
func (w *world) bootstrap(t *testing.T, i *instance) []byte {
	t.Helper()
	return w.bootstrapOf(t, w.token(t, i.service), "-sidecar-for", i.id, "-admin-bind", local(i.admin))
}

// bootstrapOf is what `consul connect envoy` writes for a token and these flags.
func (w *world) bootstrapOf(t *testing.T, token string, flags ...string) []byte {
	t.Helper()
	consul, err := w.env.Tool("consul")
	must(t, err)
	cmd := exec.CommandContext(t.Context(), consul, append([]string{
		"connect", "envoy", "-bootstrap", "-ignore-envoy-compatibility", "-http-addr", w.consul.HTTPAddr, "-grpc-addr", w.consul.GRPCAddr, "-token", token,
	}, flags...)...)
	text, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		t.Fatalf("consul connect envoy: %v: %s", err, exit.Stderr)
	}
	must(t, err)
	return text
}

// TestBootstrap starts our sidecars with the file that `consul connect envoy -bootstrap` writes.
func TestBootstrap(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	api := w.register(t, "api-1", "api")
	web := w.register(t, "web-1", "web", "api")

	file := filepath.Join(w.env.Dir(), "bootstrap.json")
	must(t, os.WriteFile(file, w.bootstrap(t, api), 0o600))
	// As Nomad starts Envoy, with arguments that mean nothing to us.
	args := []string{"connect", "-c", file, "-l", "info", "--concurrency", "1", "--disable-hot-restart"}
	var err error
	api.sidecar, err = w.env.Serai(args)
	must(t, err)

	// `consul connect envoy` itself hands a FIFO over, which can be read once.
	fifo := filepath.Join(w.env.Dir(), "bootstrap.fifo")
	must(t, syscall.Mkfifo(fifo, 0o600))
	text := w.bootstrap(t, web)
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(fifo, text, 0o600) }()
	web.sidecar, err = w.env.Serai([]string{"connect", "-c", fifo})
	must(t, err)
	must(t, <-written)

	waitStatus(t, web.url("api", "/"), http.StatusOK)
	for _, i := range []*instance{api, web} {
		sidecarReady(t, i)
	}
	t.Run("stop", func(t *testing.T) {
		must(t, api.sidecar.Signal(syscall.SIGTERM))
		exits(t, api.sidecar, nomadKill)
	})
}
