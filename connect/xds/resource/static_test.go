package resource_test

import (
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

// readyListener is in Consul's manner: spellings are mixed.
const readyListener = `{
  "name": "envoy_ready_listener",
  "address": {"socket_address": {"address": "127.0.0.1", "port_value": 21000}},
  "filter_chains": [{"filters": [{"name": "envoy.filters.network.http_connection_manager", "typedConfig": {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    "stat_prefix": "envoy_ready", "codec_type": "HTTP1",
    "route_config": {"name": "self_admin_route", "virtual_hosts": [{"name": "self_admin", "domains": ["*"], "routes": [
      {"match": {"path": "/ready"}, "route": {"cluster": "self_admin", "prefix_rewrite": "/ready"}},
      {"match": {"prefix": "/"}, "direct_response": {"status": 404}}]}]},
    "http_filters": [{"name": "envoy.filters.http.router", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]
}`

func TestStaticListener(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		readyListener,
		// lists of one without their brackets
		strings.NewReplacer(`"filter_chains": [{"filters": [{`, `"filterChains": {"filters": {`, `}}]}]
}`, `}}}
}`).Replace(readyListener),
		strings.NewReplacer(`"domains": ["*"]`, `"domains": "*"`, `"http_filters": [{`, `"httpFilters": {`, `v3.Router"}}]}`, `v3.Router"}}}`).Replace(readyListener),
	} {
		name, body, err := resource.FromJSON(resource.ListenerType, []byte(text))
		if err != nil || name != "envoy_ready_listener" {
			t.Fatalf("%q, %v in %s", name, err, text)
		}
		l, _, err := resource.Listener(body)
		if err != nil || l.Refusal != "" || l.Address.String() != "127.0.0.1:21000" || len(l.Chains) != 1 || l.Chains[0].Refusal != "" {
			t.Fatalf("got %+v, %v", l, err)
		}
		rules := l.Chains[0].HTTP.Route.VirtualHosts[0].Rules
		if len(rules) != 2 || rules[0].Targets[0].Cluster != "self_admin" || rules[1].Refusal != "" {
			t.Errorf("rules: %+v", rules)
		}
	}
}

func TestStaticCluster(t *testing.T) {
	t.Parallel()
	name, body, err := resource.FromJSON(resource.ClusterType, []byte(`{"name": "self_admin", "ignore_health_on_host_removal": false,
	 "connect_timeout": "5s", "type": "STATIC", "http_protocol_options": {}, "loadAssignment": {"clusterName": "self_admin", "endpoints": [{"lbEndpoints":
	 [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": "19000"}}}}]}]}}`))
	if err != nil || name != "self_admin" {
		t.Fatal(name, err)
	}
	c, _, err := resource.Cluster(body)
	if err != nil || c.Refusal != "" || c.Kind != mesh.ClusterStatic || c.Endpoints.Endpoints[0].Address.String() != "127.0.0.1:19000" {
		t.Errorf("got %+v, %v", c, err)
	}
}

func TestStaticRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ typ, text, name, want string }{
		{resource.ListenerType, `{"name": "a", "adress": {}}`, "a", `unknown field "adress"`},
		{resource.ListenerType, `{"name": "a", "filter_chains": [{"filters": [{"typed_config": {"@type": "type.googleapis.com/no.such"}}]}]}`, "a", "no.such"},
		{resource.ClusterType, `{"type": "STATIC"}`, "", "no name"},
		{resource.ClusterType, `[]`, "", "not a JSON object"},
		{resource.ClusterType, `{`, "", "not JSON"},
		{resource.RouteType, `{}`, "", "cannot be static"},
	} {
		name, _, err := resource.FromJSON(row.typ, []byte(row.text))
		if err == nil || name != row.name || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %q, %v; want %q", row.text, name, err, row.want)
		}
	}
}

func FuzzStatic(f *testing.F) {
	f.Add(readyListener)
	f.Add(`{"name":"a","loadAssignment":{"endpoints":{"lbEndpoints":null}}}`)
	f.Add(`{"name":"a","typedExtensionProtocolOptions":{"b":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, typ := range []string{resource.ListenerType, resource.ClusterType, resource.SecretType} {
			if _, body, err := resource.FromJSON(typ, []byte(text)); err == nil && typ == resource.ListenerType {
				if _, _, err := resource.Listener(body); err != nil {
					t.Errorf("what was written cannot be read: %v", err)
				}
			}
		}
	})
}
