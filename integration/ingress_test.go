package integration_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestIngressAsEnvoy: an ingress gateway of ours beside one of Envoy, registered and started as a user would. Services by
// host, header fields, tcp, TLS with the gateway's own leaf, and certificates of a server of secrets, for a listener and
// for each of its services.
func TestIngressAsEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http", "busy": "http", "echo": "grpc"})
	w.allow(t, "ingress", "web", "api", "busy", "echo", "db", "few")
	for _, service := range []string{"web", "api", "busy", "echo", "db", "few"} {
		w.run(t, service+"-1", service)
	}
	ports := w.ports(t, 11)
	plain, tcp, own, listener, service, empty := ports, ports+1, ports+2, ports+3, ports+4, ports+5
	sds := newSDS(t, ports+6)
	old, modern, few, calls := ports+7, ports+8, ports+9, ports+10
	outside := newOutsideCA(t)
	w.write(t, &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal,
		Config: map[string]any{"envoy_extra_static_clusters_json": sds.cluster()},
	})
	secret := func(name string) *consulapi.GatewayTLSSDSConfig {
		return &consulapi.GatewayTLSSDSConfig{ClusterName: "sds-server", CertResource: name}
	}
	limit, one := uint32(50), uint32(1)
	toWeb := []consulapi.IngressService{{Name: "web", Hosts: []string{"web.example"}}}
	w.write(t, &consulapi.IngressGatewayConfigEntry{
		Kind: consulapi.IngressGateway, Name: "ingress",
		Defaults: &consulapi.IngressServiceConfig{MaxConnections: &limit, MaxPendingRequests: &limit, MaxConcurrentRequests: &limit},
		Listeners: []consulapi.IngressListener{
			{Port: plain, Protocol: "http", Services: []consulapi.IngressService{
				{
					Name: "web", Hosts: []string{"web.example"},
					RequestHeaders: &consulapi.HTTPHeaderModifiers{
						Add: map[string]string{"x-added": "by the gateway"}, Set: map[string]string{"x-set": "set"}, Remove: []string{"x-removed"},
					},
					ResponseHeaders: &consulapi.HTTPHeaderModifiers{Add: map[string]string{"x-answer": "added"}, Remove: []string{"x-gone"}},
				},
				{Name: "api", Hosts: []string{"api.example", "*.wild.example"}},
				{Name: "busy", Hosts: []string{"busy.example"}, MaxConcurrentRequests: &one},
			}},
			{Port: few, Protocol: "tcp", Services: []consulapi.IngressService{{Name: "few", MaxConnections: &one}}},
			{Port: calls, Protocol: "grpc", Services: []consulapi.IngressService{{Name: "echo", Hosts: []string{"grpc.example"}}}},
			{
				Port: old, Protocol: "http", Services: toWeb,
				TLS: &consulapi.GatewayTLSConfig{Enabled: true, TLSMaxVersion: "TLSv1_2", CipherSuites: []string{oldCipher}},
			},
			{Port: modern, Protocol: "http", Services: toWeb, TLS: &consulapi.GatewayTLSConfig{Enabled: true, TLSMinVersion: "TLSv1_3"}},
			{Port: tcp, Protocol: "tcp", Services: []consulapi.IngressService{{Name: "db"}}},
			{
				Port: own, Protocol: "http", TLS: &consulapi.GatewayTLSConfig{Enabled: true, TLSMinVersion: "TLSv1_2"},
				Services: toWeb,
			},
			{
				Port: listener, Protocol: "http", TLS: &consulapi.GatewayTLSConfig{SDS: secret("listener")},
				Services: []consulapi.IngressService{{Name: "web", Hosts: []string{"web.example"}}},
			},
			{Port: service, Protocol: "http", TLS: &consulapi.GatewayTLSConfig{SDS: secret("listener")}, Services: []consulapi.IngressService{
				{Name: "web", Hosts: []string{"web.example"}, TLS: &consulapi.GatewayServiceTLSConfig{SDS: secret("web")}},
				{Name: "api", Hosts: []string{"api.example"}, TLS: &consulapi.GatewayServiceTLSConfig{SDS: secret("api")}},
			}},
			{
				Port: empty, Protocol: "http", TLS: &consulapi.GatewayTLSConfig{SDS: secret("late")},
				Services: []consulapi.IngressService{{Name: "web", Hosts: []string{"web.example"}}},
			},
		},
	})
	for name, hosts := range map[string][]string{"listener": {"web.example", "other.example"}, "web": {"web.example"}, "api": {"api.example"}} {
		chain, key := outside.leaf(t, hosts...)
		sds.set(name, chain, key)
	}
	g := w.gatewayTwins(t, "ingress", "ingress", func(bootstrap []byte) []byte { return bootstrap })
	show := map[string]string{"X-Show": "1", "X-Removed": "by the gateway"}

	t.Run("ready", func(t *testing.T) {
		for _, plane := range kinds() {
			waitStatus(t, "http://"+planeAt(plane, g.ready)+"/ready", http.StatusOK)
		}
	})
	t.Run("hosts", func(t *testing.T) {
		g.same(t, "web by its host", gatewayCall{port: plain, host: "web.example", path: "/a?b=c", header: show}, gatewaySays(200, "web-1"))
		g.same(t, "api by its host", gatewayCall{port: plain, host: "api.example", path: "/", header: show}, gatewaySays(200, "api-1"))
		g.same(t, "api by a wildcard", gatewayCall{port: plain, host: "a.b.wild.example", path: "/", header: show}, gatewaySays(200, "api-1"))
		g.same(t, "a host that nobody has", gatewayCall{port: plain, host: "nobody.example", path: "/"}, gatewaySays(404, ""))
	})
	t.Run("tcp", func(t *testing.T) {
		for _, plane := range kinds() {
			waitTCP(t, planeAt(plane, tcp))
		}
	})
	t.Run("websocket", func(t *testing.T) { gatewayUpgrades(t, plain) })
	t.Run("gRPC", func(t *testing.T) { gatewayCalls(t, calls, "grpc.example") })
	t.Run("versions and ciphers of TLS", func(t *testing.T) { gatewayHandshakes(t, old, modern) })
	t.Run("limits of requests", func(t *testing.T) { g.limited(t, "busy", gatewayCall{port: plain, host: "busy.example", path: "/"}) })
	t.Run("limits of connections", func(t *testing.T) { g.limitedTCP(t, "few", few) })
	trust := func(name string) *tls.Config {
		return &tls.Config{RootCAs: outside.pool(), ServerName: name}
	}
	t.Run("TLS with its own leaf", func(t *testing.T) {
		leaf := &tls.Config{InsecureSkipVerify: true, ServerName: "web.example"}
		g.same(t, "a certificate of Consul", gatewayCall{port: own, host: "web.example", path: "/", tls: leaf}, gatewayShows("/svc/ingress"))
	})
	t.Run("SDS", func(t *testing.T) {
		g.same(t, "the listener's", gatewayCall{port: listener, host: "web.example", path: "/", tls: trust("web.example")}, gatewayShows("other.example"))
		g.same(t, "web's", gatewayCall{port: service, host: "web.example", path: "/", header: show, tls: trust("web.example")}, gatewayShows("web.example"))
		g.same(t, "api's", gatewayCall{port: service, host: "api.example", path: "/", header: show, tls: trust("api.example")}, gatewayShows("api.example"))
		chain, key := outside.leaf(t, "web.example", "rotated.example")
		sds.set("web", chain, key)
		g.same(t, "web's new one", gatewayCall{port: service, host: "web.example", path: "/", tls: trust("web.example")}, gatewayShows("rotated.example"))
		other, _ := outside.leaf(t, "web.example", "broken.example")
		sds.set("web", other, key)
		eventually(t, "both to refuse a certificate without its key", func(context.Context) error { return atLeast(sds.refused(), 2) })
		g.same(t, "web's last good one", gatewayCall{port: service, host: "web.example", path: "/", tls: trust("web.example")}, gatewayShows("rotated.example"))
		g.same(t, "the others", gatewayCall{port: service, host: "api.example", path: "/", tls: trust("api.example")}, gatewayShows("api.example"))
	})
	t.Run("a secret that comes late", func(t *testing.T) {
		late := gatewayCall{port: empty, host: "web.example", path: "/", tls: trust("web.example")}
		for _, plane := range kinds() {
			if o, err := late.through(t.Context(), plane); err == nil {
				t.Errorf("%s answers without a certificate: %+v", plane, o)
			}
		}
		chain, key := outside.leaf(t, "web.example", "late.example")
		sds.set("late", chain, key)
		g.same(t, "the late one", late, gatewayShows("late.example"))
	})
}

// TestIngressByFlags: a gateway that registers itself passes Consul's check, which asks where nothing of xDS listens.
func TestIngressByFlags(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.allow(t, "ingress", "db")
	w.run(t, "db-1", "db")
	ports := w.ports(t, 3)
	w.write(t, &consulapi.IngressGatewayConfigEntry{
		Kind: consulapi.IngressGateway, Name: "ingress",
		Listeners: []consulapi.IngressListener{{Port: ports, Protocol: "tcp", Services: []consulapi.IngressService{{Name: "db"}}}},
	})
	g := &twinGateway{
		w: w, kind: "ingress", service: "ingress", ready: ports + 1, admin: map[string]int{"serai": ports + 2},
		process: map[string]*harness.Process{}, onLoopback: true,
	}
	g.start(t, "serai", nil)
	waitStatus(t, "http://"+local(g.ready)+"/ready", http.StatusOK)
	waitStatus(t, "http://"+local(g.ready)+"/stats", http.StatusNotFound)
	waitTCP(t, local(ports))
	must(t, w.consul.WaitHealthy(t.Context(), "ingress", 1))
}
