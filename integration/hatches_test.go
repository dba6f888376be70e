package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	consulapi "github.com/hashicorp/consul/api"
)

const (
	listenerAny = "type.googleapis.com/envoy.config.listener.v3.Listener"
	clusterAny  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
)

// hatchListener is a listener as users of Consul give it, with the filter's name of old: it answers one path itself, and
// adds a header to what it sends on.
func hatchListener(name string, port int, cluster, header, router string) []byte {
	return fmt.Appendf(nil, `{"name":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[
		{"name":"envoy.http_connection_manager","typed_config":{"@type":%q,"stat_prefix":%q,"route_config":{"name":"mine","virtual_hosts":[{"name":"mine","domains":["*"],
		"request_headers_to_add":[{"header":{"key":%q,"value":"yes"}}],"routes":[
		{"match":{"path":"/%s"},"direct_response":{"status":418}},{"match":{"prefix":"/"},"route":{"cluster":%q}}]}]},
		"http_filters":[%s]}}]}]}`, name, port, hcmType, name, header, header, cluster, router)
}

// typed is a cluster or a listener in an Any.
func typed(kind string, message []byte) string {
	return `{"@type":"` + kind + `",` + strings.TrimPrefix(string(message), "{")
}

const (
	hatchRouter = `{"name":"envoy.filters.http.router","typed_config":{"@type":"` + routerAny + `"}}`
	// bareRouter is what older files have. Envoy no longer takes it, which tells nothing that another filter would.
	bareRouter = `{"name":"envoy.filters.http.router"}`
)

// TestEscapeHatches gives sidecars of both kinds the configuration of Envoy that Consul passes on unread, all nine ways
// of it, and patches by property-override, and sees what each does.
func TestEscapeHatches(t *testing.T) {
	t.Parallel()
	h := &hatches{w: newWorld(t, map[string]string{"web": "http", "shop": "http"}), api: map[string]*instance{}, static: map[string]int{}, web: map[string]*instance{}}
	w := h.w
	h.shop = []*instance{w.run(t, "shop-1", "shop"), w.run(t, "shop-2", "shop")}
	w.allow(t, "web", "shop")
	upstreams := []string{"shop"}
	for _, kind := range kinds() {
		h.startAPI(t, kind)
		h.startPatched(t, kind)
		upstreams = append(upstreams, "api-"+kind, "patched-"+kind)
	}
	w.extend(t, "web", "http", consulapi.EnvoyExtension{Name: "builtin/property-override", Required: true, Arguments: object{"ProxyType": "connect-proxy", "Patches": []object{
		{
			"ResourceFilter": object{"ResourceType": "cluster", "TrafficDirection": "outbound", "Services": []object{{"Name": "patched-serai"}}},
			"Op":             "add", "Path": "/alt_stat_name", "Value": "renamed",
		},
	}}})
	sinks := map[string]*udp{}
	for _, kind := range kinds() {
		sinks[kind] = h.startWeb(t, kind, upstreams)
	}
	for _, kind := range kinds() {
		web := h.web[kind]
		sidecarReady(t, web)
		for _, upstream := range upstreams {
			w.waitOK(t, web.url(upstream, "/"))
		}
	}
	t.Run("public listener and local cluster", h.public)
	t.Run("upstream's listener and cluster", h.upstream)
	t.Run("bootstrap", func(t *testing.T) { h.bootstrap(t, sinks) })
	t.Run("property-override", h.patches)
	for _, i := range []*instance{h.web["serai"], h.api["serai"], h.api["patched-serai"]} {
		if logHas(i.sidecar, "not understood", "refused:") {
			t.Errorf("%s: something is refused: %s", i.id, i.sidecar.Log())
		}
	}
}

// hatches is the world of the test.
type hatches struct {
	w      *world
	shop   []*instance
	api    map[string]*instance // by kind; those of patched-KIND by that
	static map[string]int       // ports of the template's listener, by kind
	web    map[string]*instance
}

// startAPI starts a service whose public listener, local cluster and bootstrap are the user's.
func (h *hatches) startAPI(t *testing.T, kind string) {
	t.Helper()
	service := "api-" + kind
	h.w.extend(t, service, "http")
	h.w.allow(t, "web", service)
	h.static[kind] = h.w.ports(t, 2)
	other := startApp(t, "other-"+kind, h.static[kind]+1, "http", nil)
	router := hatchRouter
	if kind == "serai" {
		router = bareRouter
	}
	i := h.w.registerAs(t, service, service, func(r *consulapi.AgentServiceRegistration) {
		sidecar := r.Connect.SidecarService
		sidecar.Proxy.Config = object{
			"envoy_public_listener_json": typed(listenerAny, hatchListener("mine-public", sidecar.Port, "mine-local", "x-public", router)),
			"envoy_local_cluster_json":   typed(clusterAny, clusterAt("mine-local", local(other.port))),
			"envoy_bootstrap_json_tpl":   bootstrapTemplate(h.w.consul.GRPCAddr, h.static[kind]),
		}
	})
	h.api[kind] = i
	h.w.startFromBootstrap(t, kind, i)
	sidecarReady(t, i)
}

// startPatched starts a service that can only be reached, and counts as is asked below, by patches: its bind_port is not
// what Consul tells others.
func (h *hatches) startPatched(t *testing.T, kind string) {
	t.Helper()
	service := "patched-" + kind
	port := 0
	h.w.protocols[service] = "http"
	wrong := h.w.ports(t, 1)
	i := h.w.registerAs(t, service, service, func(r *consulapi.AgentServiceRegistration) {
		port = r.Connect.SidecarService.Port
		r.Connect.SidecarService.Proxy.Config = object{"bind_port": wrong}
	})
	inbound := func(resource, path string, value any) object {
		return object{"ResourceFilter": object{"ResourceType": resource, "TrafficDirection": "inbound"}, "Op": "add", "Path": path, "Value": value}
	}
	h.w.extend(t, service, "http", consulapi.EnvoyExtension{Name: "builtin/property-override", Required: true, Arguments: object{"ProxyType": "connect-proxy", "Patches": []object{
		inbound("listener", "/address/socket_address/port_value", port), inbound("listener", "/stat_prefix", "patched"),
		inbound("cluster", "/max_requests_per_connection", 1),
	}}})
	h.w.allow(t, "web", service)
	h.api[service] = i
	h.w.startFromBootstrap(t, kind, i)
	sidecarReady(t, i)
}

// startWeb starts what calls, with an upstream and static resources, a sink and statistics that are the user's.
func (h *hatches) startWeb(t *testing.T, kind string, upstreams []string) *udp {
	t.Helper()
	id := "web-" + kind
	sink, sinkPort := listenUDP(t)
	static := h.w.ports(t, 1)
	h.static[id] = static
	i := h.w.registerAs(t, id, "web", func(r *consulapi.AgentServiceRegistration) {
		proxy := r.Connect.SidecarService.Proxy
		proxy.Config = object{
			"envoy_stats_flush_interval":        "1s",
			"envoy_extra_static_clusters_json":  string(clusterAt("mine-static", local(r.Port))),
			"envoy_extra_static_listeners_json": string(hatchListener("mine-listener", static, "mine-static", "x-static", hatchRouter)),
			"envoy_extra_stats_sinks_json": fmt.Sprintf(`{"name":"envoy.stat_sinks.statsd","typed_config":{"@type":"type.googleapis.com/envoy.config.metrics.v3.StatsdSink",
				"prefix":"mine","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}}`, sinkPort),
			"envoy_stats_config_json": `{"stats_matcher":{"inclusion_list":{"patterns":[{"prefix":"cluster.mine-"},{"prefix":"cluster.renamed."},{"contains":"mine-listener"}]}},
				"stats_tags":[{"tag_name":"house","fixed_value":"north"}]}`,
		}
		for n := range proxy.Upstreams {
			u := &proxy.Upstreams[n]
			if u.DestinationName == "shop" {
				u.Config = object{
					"envoy_listener_json": typed(listenerAny, hatchListener("mine-shop", u.LocalBindPort, "mine-upstream", "x-upstream", hatchRouter)),
					"envoy_cluster_json":  typed(clusterAny, clusterAt("mine-upstream", local(h.shop[0].public))),
				}
			}
		}
	}, upstreams...)
	h.web[kind] = i
	h.w.startFromBootstrap(t, kind, i)
	return sink
}

// public asks services whose public listener is the user's: Consul has put mTLS and the intentions into it.
func (h *hatches) public(t *testing.T) {
	for _, kind := range kinds() {
		same(t, h.web, []question{
			{name: "own cluster/" + kind, upstream: "api-" + kind, path: "/headers", app: "other-" + kind, sees: map[string]string{"x-public": "yes"}},
			{name: "own route/" + kind, upstream: "api-" + kind, path: "/x-public", status: http.StatusTeapot},
		})
		if got, err := fetch(t.Context(), strict(t), "http://"+local(h.api[kind].public)+"/x-public"); err == nil {
			t.Errorf("%s: without TLS: status %d", kind, got.status)
		}
	}
	for _, kind := range kinds() {
		must(t, h.w.consul.Intention(t.Context(), "web", "api-"+kind, false))
		for _, web := range h.web {
			waitStatus(t, web.url("api-"+kind, "/x-public"), http.StatusForbidden)
		}
	}
}

// upstream asks what the user's cluster has only one instance of.
func (h *hatches) upstream(t *testing.T) {
	same(t, h.web, []question{
		{name: "own listener", upstream: "shop", path: "/headers", app: "shop-1", sees: map[string]string{"x-upstream": "yes"}},
		{name: "own route", upstream: "shop", path: "/x-upstream", status: http.StatusTeapot},
	})
	for kind, web := range h.web {
		if found := spread(t, web, question{upstream: "shop", path: "/"}, 20); len(found) != 1 || found["200 shop-1"] != 20 {
			t.Errorf("%s: %v", kind, found)
		}
	}
}

// bootstrap looks at what the bootstrap alone says.
func (h *hatches) bootstrap(t *testing.T, sinks map[string]*udp) {
	t.Helper()
	for _, kind := range kinds() {
		if got := get(t, "http://"+local(h.static[kind])+"/"); got.status != http.StatusTeapot {
			t.Errorf("%s: the template's listener: status %d", kind, got.status)
		}
		base := "http://" + local(h.static["web-"+kind])
		if got := get(t, base+"/x-static"); got.status != http.StatusTeapot {
			t.Errorf("%s: the static listener's own route: status %d", kind, got.status)
		}
		got := get(t, base+"/headers")
		if got.status != http.StatusOK || !strings.Contains(got.body, `"X-Static":["yes"]`) || !strings.Contains(got.body, `"web-`+kind+`"`) {
			t.Errorf("%s: through the static listener and cluster: status %d: %s", kind, got.status, got.body)
		}
		admin := "http://" + local(h.web[kind].admin)
		within(t, patience, "lines with the sink's prefix", func(ctx context.Context) error {
			_, _ = fetch(ctx, strict(t), base+"/headers")
			lines := sinks[kind].take()
			if !mentions(lines, "mine.cluster.mine-static.upstream_rq_200|c") {
				return fmt.Errorf("%v", slices.Sorted(maps.Keys(lines)))
			}
			if mentions(lines, "local_app") {
				t.Errorf("%s: the sink gets what the matcher does not include: %v", kind, lines)
			}
			return nil
		})
		shown := get(t, admin+"/stats").body
		if !strings.Contains(shown, "cluster.mine-upstream.upstream_rq_200: ") || strings.Contains(shown, "cluster.local_app.") || strings.Contains(shown, "server.live") {
			t.Errorf("%s: the matcher is not kept to: %s", kind, shown)
		}
		if prom := get(t, admin+"/stats/prometheus").body; !strings.Contains(prom, `house="north"`) {
			t.Errorf("%s: no tag of the user's: %.500s", kind, prom)
		}
	}
}

// patches looks at what property-override has changed; that patched-KIND is reached is one of them.
func (h *hatches) patches(t *testing.T) {
	for _, kind := range kinds() {
		i := h.api["patched-"+kind]
		for range 5 {
			for _, web := range h.web {
				waitStatus(t, web.url(i.service, "/"), http.StatusOK)
			}
		}
		admin := "http://" + local(i.admin)
		shown := get(t, admin+"/stats?filter="+"local_app|listener").body
		values := map[string]string{}
		for line := range strings.Lines(shown) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
			values[name] = value
		}
		if cx, rq := values["cluster.local_app.upstream_cx_total"], values["cluster.local_app.upstream_rq_total"]; cx != rq || cx == "" || len(cx) < 2 {
			t.Errorf("%s: %q requests by %q connections, not one each", kind, rq, cx)
		}
		for _, name := range []string{"listener.patched.downstream_cx_total", "listener.patched.http.public_listener.downstream_rq_2xx"} {
			if v := values[name]; v == "" || v == "0" {
				t.Errorf("%s: %s is %q", kind, name, v)
			}
		}
		dump := get(t, admin+"/config_dump").body
		for _, text := range []string{`"stat_prefix": "patched"`, `"max_requests_per_connection": 1`, fmt.Sprintf(`"port_value": %d`, i.public)} {
			if !strings.Contains(dump, text) {
				t.Errorf("%s: the dump lacks %s", kind, text)
			}
		}
		if got := get(t, "http://"+local(h.web[kind].admin)+"/stats?filter=renamed").body; !strings.Contains(got, "cluster.renamed.upstream_rq_200: ") {
			t.Errorf("%s: the cluster's name in statistics is not patched: %s", kind, got)
		}
	}
}
