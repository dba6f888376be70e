package integration_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// TestAccessLogStuck lets the access log go into a FIFO whose reader has fallen asleep: lines are lost and counted, but
// no request waits, and the end neither.
func TestAccessLogStuck(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	m := &meter{name: "edge", log: filepath.Join(env.Dir(), "log.fifo")}
	must(t, syscall.Mkfifo(m.log, 0o600))
	sleeper, err := os.OpenFile(m.log, os.O_RDWR, 0) // for both, it waits for nobody
	must(t, err)
	t.Cleanup(func() { drop(sleeper) })
	port, err := env.Port()
	must(t, err)
	m.admin = local(port)
	g := startGate(t, env, fmt.Sprintf("admin { address = %q }\nedge {\n  access_log {\n    path = %q\n    format = \"json\"\n  }\n}\n",
		m.admin, m.log), map[string]string{"one": plainApp(t, env, "one")})
	waitStatus(t, g.url("/one"), http.StatusOK)
	before := m.settled(t, "serai_requests_total", "code")
	// Each line is longer than its request, and together they are longer than what may wait.
	const workers, each = 4, 5000
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			if err := flood(t.Context(), g.addr, each); err != nil {
				t.Error(err)
			}
		})
	}
	working.Wait()
	m.wants(t, "serai_requests_total", before, map[string]float64{"404": workers * each}, "code")
	dropped := m.read(t, "serai_access_log_dropped_total")[""]
	written := m.read(t, "serai_access_log_written_total")[""]
	t.Logf("of %d lines, %v were dropped and %v written while the reader slept", workers*each, dropped, written)
	if dropped == 0 || dropped >= workers*each {
		t.Errorf("%v lines were dropped", dropped)
	}
	// The sleeper wakes up: what has waited comes, whole, and what is new.
	woken := make(chan error, 1)
	go func() { woken <- wholeLines(sleeper, 1000) }()
	must(t, <-woken)
	must(t, g.process.Signal(syscall.SIGTERM))
	ctx, cancel := context.WithTimeout(t.Context(), nomadKill)
	defer cancel()
	must(t, g.process.Wait(ctx))
}

// flood sends requests for nothing, with a long name, on one connection, and wants 404 for each.
func flood(ctx context.Context, addr string, n int) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	request := "GET /nothing/" + strings.Repeat("x", 200) + " HTTP/1.1\r\nHost: a\r\n\r\n"
	answers := bufio.NewReader(conn)
	for range n {
		if _, err := conn.Write([]byte(request)); err != nil {
			return err
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusNotFound {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
	}
	return nil
}

// wholeLines reads n lines, each of which must be JSON.
func wholeLines(r *os.File, n int) error {
	lines := bufio.NewReader(r)
	for range n {
		text, err := lines.ReadBytes('\n')
		if err != nil {
			return err
		}
		if !json.Valid(text) {
			return fmt.Errorf("a line is torn: %s", text)
		}
	}
	return nil
}

// TestBadTelemetry starts serai with what it cannot tell at: it says so and ends, and serves nothing.
func TestBadTelemetry(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { drop(taken) })
	port, err := env.Port()
	must(t, err)
	missing := filepath.Join(env.Dir(), "missing", "access.log")
	count := 0
	edge := func(block string) []string {
		count++
		path := filepath.Join(env.Dir(), fmt.Sprintf("edge-%d.hcl", count))
		must(t, os.WriteFile(path, fmt.Appendf(nil, "%s\nedge {\n  listener \"public\" {\n    address = %q\n  }\n}\n", block, local(port)), 0o600))
		return []string{"edge", "-config", path}
	}
	for _, c := range []struct {
		name  string
		args  []string
		texts []string
	}{
		{"address in use", edge(fmt.Sprintf("admin { address = %q }", taken.Addr())), []string{"admin interface", "address already in use"}},
		{"no address", edge("admin {}"), []string{"edge-2.hcl:1", "address is required"}},
		{"no port", edge(`admin { address = "127.0.0.1" }`), []string{"edge-3.hcl:1", "127.0.0.1:9901"}},
		{"unknown argument", edge(`admin { port = 9901 }`), []string{"edge-4.hcl:1", "port"}},
		{"too few series", edge(`metrics { max_series = 1 }`), []string{"edge-5.hcl:1", "max_series is 1", "100 to 1000000"}},
		{"no folder for the access log", edge(fmt.Sprintf("edge {\n  access_log { path = %q }\n}", missing)), []string{"edge-6.hcl:2", missing, "no such file"}},
		{"of a sidecar", []string{"connect", "-sidecar-for", "a", "-access-log", missing}, []string{missing, "no such file"}},
		{"its format", []string{"connect", "-sidecar-for", "a", "-access-log", "-", "-access-log-format", "xml"}, []string{"xml", "json"}},
		{"its series", []string{"connect", "-sidecar-for", "a", "-metrics-max-series", "-5"}, []string{"max_series is -5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := fails(t, env, c.args, nil, c.texts...)
			if logHas(p, "msg=listening") {
				t.Errorf("it has begun to serve:\n%s", p.Log())
			}
		})
	}
	t.Run("reload", func(t *testing.T) { testAdminReload(t, env) })
}

// testAdminReload moves the admin interface, which a reload cannot.
func testAdminReload(t *testing.T, env *harness.Env) {
	t.Helper()
	first, err := env.Ports(2)
	must(t, err)
	g := startGate(t, env, fmt.Sprintf("admin { address = %q }\n", local(first)), map[string]string{"one": plainApp(t, env, "one")})
	waitStatus(t, g.url("/one"), http.StatusOK)
	waitStatus(t, "http://"+local(first)+"/ready", http.StatusOK)
	g.consul = fmt.Sprintf("admin { address = %q }\n", local(first+1))
	g.reload(t, g.config(map[string]string{"two": plainApp(t, env, "two")}))
	noted(t, g.process, "restart to change it", "the old one stays in force")
	waitStatus(t, g.url("/one"), http.StatusOK)
	waitStatus(t, g.url("/two"), http.StatusNotFound)
	waitStatus(t, "http://"+local(first)+"/ready", http.StatusOK)
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", local(first+1)); err == nil {
		drop(conn)
		t.Error("the new address is bound")
	} else if !errors.Is(err, syscall.ECONNREFUSED) {
		t.Error(err)
	}
}

// TestBootstrapMetrics serves metrics where Consul's configuration of the proxy says, as Envoy does.
func TestBootstrapMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http"})
	i := w.register(t, "web-1", "web")
	ports := w.ports(t, 2)
	registration := w.registration(i)
	registration.Connect.SidecarService.Proxy.Config = map[string]any{
		"envoy_prometheus_bind_addr": local(ports), "envoy_stats_bind_addr": local(ports + 1),
	}
	must(t, w.consul.RegisterService(t.Context(), registration, w.token(t, "web")))
	file := filepath.Join(w.env.Dir(), "bootstrap.json")
	must(t, os.WriteFile(file, w.bootstrap(t, i), 0o600))
	var err error
	i.sidecar, err = w.env.Serai([]string{"connect", "-c", file})
	must(t, err)
	sidecarReady(t, i)
	m := &meter{name: "web-1", admin: local(ports), process: i.sidecar}
	if diff := cmp.Diff(map[string]float64{"": 1}, m.read(t, "serai_ready")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	wantStatus(t, get(t, "http://"+local(ports)+"/ready"), http.StatusNotFound)
	wantStatus(t, get(t, "http://"+local(ports+1)+"/stats"), http.StatusOK)
	wantStatus(t, get(t, "http://"+local(ports+1)+"/stats/prometheus"), http.StatusOK)
}
