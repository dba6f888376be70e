package integration_test

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestQuietHouse: Consul's bare TCP checks, which connect and leave, make no line in the log, no error in what is
// counted and no connection to the application, whether TCP or HTTP is spoken behind mutual TLS, or the chain is first
// to be chosen by a ClientHello that never comes.
func TestQuietHouse(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http"})
	for _, service := range []string{"db", "api"} {
		port := w.ports(t, 3)
		i := &instance{id: service, service: service, app: &app{port: port}, public: port + 1, admin: port + 2}
		called := countConnections(t, port)
		registration := w.registration(i)
		registration.Check = nil // it would call the application itself
		must(t, w.consul.RegisterService(t.Context(), registration, w.token(t, service)))
		w.connect(t, i)
		t.Run(service, func(t *testing.T) {
			quiet(t, i.sidecar, i.admin, i.public)
			if n := called.Load(); n != 0 {
				t.Errorf("the application was called %d times", n)
			}
		})
	}
	port := w.ports(t, 2)
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.TerminatingGatewayConfigEntry{
		Kind: consulapi.TerminatingGateway, Name: "leaving", Services: []consulapi.LinkedService{{Name: "legacy"}},
	}))
	must(t, w.consul.RegisterService(t.Context(), &consulapi.AgentServiceRegistration{
		Kind: consulapi.ServiceKindTerminatingGateway, ID: "leaving", Name: "leaving", Address: "127.0.0.1", Port: port,
		Check: &consulapi.AgentServiceCheck{TCP: local(port), Interval: w.interval, Timeout: "1s"},
	}, w.consul.Token))
	gateway, err := w.env.Serai([]string{"connect", "-proxy-id", "leaving", "-admin-bind", local(port + 1)}, w.consul.Environ(w.consul.Token)...)
	must(t, err)
	t.Run("terminating gateway", func(t *testing.T) { quiet(t, gateway, port+1, port) })
}

// countConnections counts the connections to a port.
func countConnections(t *testing.T, port int) *atomic.Int64 {
	t.Helper()
	var n atomic.Int64
	serveEach(t, listenAt(t, port), func(net.Conn) { n.Add(1) })
	return &n
}

// quiet lets a few checks pass and looks for what they have left behind.
func quiet(t *testing.T, proxy *harness.Process, admin, public int) {
	t.Helper()
	waitStatus(t, "http://"+local(admin)+"/ready", 200)
	// Those that leave before a chain was chosen are counted by that.
	accepted, left := fmt.Sprintf("listener.127.0.0.1_%d.downstream_cx_total", public), fmt.Sprintf("listener.127.0.0.1_%d.downstream_listener_filter_remote_close", public)
	counted := func() map[string]int64 {
		all := map[string]int64{}
		for line := range strings.Lines(get(t, "http://"+local(admin)+"/stats").body) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				all[name] = n
			}
		}
		return all
	}
	checks := func(more int64) {
		t.Helper()
		came := func() int64 { all := counted(); return all[accepted] + all[left] }
		start := came()
		eventually(t, "checks", func(context.Context) error {
			if got := came(); got < start+more {
				return fmt.Errorf("%s and %s: %d", accepted, left, got)
			}
			return nil
		})
	}
	checks(1)
	said, before := proxy.Log(), counted()
	checks(4)
	bad := regexp.MustCompile(`^(listener|http|tcp|cluster)\..*(error|fail|timeout|denied|overflow|no_route|no_filter_chain|reset|4xx|5xx|reject|upstream_cx_total)`)
	for name, value := range counted() {
		if value != before[name] && bad.MatchString(name) {
			t.Errorf("%s grew from %d to %d", name, before[name], value)
		}
	}
	if more := strings.TrimPrefix(proxy.Log(), said); more != "" {
		t.Errorf("logged:\n%s", more)
	}
}
