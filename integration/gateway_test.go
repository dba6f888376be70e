package integration_test

import (
	"net/http"
	"os"
	"path/filepath"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// gateway is a mesh gateway that is registered, and behind which our proxy or Envoy stands.
type gateway struct {
	w           *world
	port, admin int
	file        string // its bootstrap
	kind        string // of what stands there; "" for nothing
	process     *harness.Process
}

// meshGateway registers a mesh gateway, at one port for the datacenter and for others. Nobody checks it: that it was away
// while it was changed would be known, and be over, when a test has gone on.
func (w *world) meshGateway(t *testing.T) *gateway {
	t.Helper()
	return w.meshGatewayAs(t, func(r *consulapi.AgentServiceRegistration) { r.Check = nil })
}

// meshGatewayAs is meshGateway for one that is not like the others; edit changes the registration.
func (w *world) meshGatewayAs(t *testing.T, edit func(*consulapi.AgentServiceRegistration)) *gateway {
	t.Helper()
	port := w.ports(t, 2)
	g := &gateway{w: w, port: port, admin: port + 1}
	address := consulapi.ServiceAddress{Address: "127.0.0.1", Port: port}
	registration := &consulapi.AgentServiceRegistration{
		Kind: consulapi.ServiceKindMeshGateway, ID: "mesh-gateway-1", Name: "mesh-gateway", Address: "127.0.0.1", Port: port,
		TaggedAddresses: map[string]consulapi.ServiceAddress{"lan": address, "wan": address},
		Check:           &consulapi.AgentServiceCheck{TCP: local(port), Interval: w.interval, Timeout: "1s"},
		Proxy:           &consulapi.AgentServiceConnectProxyConfig{},
	}
	edit(registration)
	must(t, w.consul.RegisterService(t.Context(), registration, w.consul.Token))
	g.file = filepath.Join(w.env.Dir(), "mesh-gateway.json")
	text := w.bootstrapOf(t, w.consul.Token, "-gateway", "mesh", "-proxy-id", "mesh-gateway-1", "-admin-bind", local(g.admin))
	must(t, os.WriteFile(g.file, text, 0o600))
	return g
}

// put starts a data plane behind the gateway, after that which was there.
func (g *gateway) put(t *testing.T, kind string) {
	t.Helper()
	g.stop(t)
	if kind == "serai" {
		var err error
		g.process, err = g.w.env.Serai([]string{"connect", "-c", g.file})
		must(t, err)
	} else {
		g.process = startEnvoy(t, g.w.env, "envoy-gateway", g.file)
	}
	g.kind = kind
	waitStatus(t, "http://"+local(g.admin)+"/ready", http.StatusOK)
}

// mix puts data planes of these kinds behind gateways, where they are not there already.
func mix(t *testing.T, gateways []*gateway, pair [2]string) {
	t.Helper()
	for n, g := range gateways {
		if g.kind != pair[n] {
			g.put(t, pair[n])
		}
	}
}

// stop leaves nothing behind the gateway.
func (g *gateway) stop(t *testing.T) {
	t.Helper()
	if g.process != nil {
		must(t, g.process.Stop(t.Context()))
	}
	g.process, g.kind = nil, ""
}

// unejected configures an upstream whose endpoints are never ejected: of a gateway that is just being changed a test
// that asks again and again would be told for 30 s that nobody is there.
func unejected() map[string]any {
	return map[string]any{"passive_health_check": map[string]any{"enforcing_consecutive_5xx": 0}}
}
