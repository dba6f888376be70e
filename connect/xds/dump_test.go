package xds_test

import (
	"encoding/json"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

const secretCluster = `{"name": "secured", "load_assignment": {"cluster_name": "secured", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "/s"}}}}]}]},
 "transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
  "common_tls_context": {"tls_certificates": [{"certificate_chain": {"inline_string": "CHAIN"}, "private_key": {"inline_string": "SECRET"}}],
  "validation_context": {"trusted_ca": {"inline_string": "ROOTS"}}}}}}`

func TestDump(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, source: &source{started: make(chan struct{})}, store: &mesh.Store{}, sets: map[string]*mesh.EndpointSet{}, dead: map[string]bool{}}
		watcher, err := xds.New(xds.Config{
			Source: r.source, Probe: r.probe, ADS: ads.Config{Node: ads.Node{ID: "web1"}},
			Static: xds.Static{Clusters: []json.RawMessage{json.RawMessage(secretCluster)}, Listeners: []json.RawMessage{json.RawMessage(bootListener)}},
		}, r.store, r, []xds.Stage{stage{r, "first"}}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		r.watcher = watcher
		go watcher.Run(t.Context()) //nolint:errcheck // it ends with the context
		synctest.Wait()
		r.source.handler.Up()
		r.update(resource.ClusterType, edsCluster("api", 1))
		r.update(resource.EndpointsType, claWith("api", 2))
		odd := listenerOf(t, "odd", 3, &tcpv3.TcpProxy{StatPrefix: "a", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: "api"}})
		odd.ConnectionBalanceConfig = &listenerv3.Listener_ConnectionBalanceConfig{}
		odd.BindToPort = wrapperspb.Bool(false)
		odd.FilterChains[0].Filters = nil
		r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "api"), odd)

		show := func(q xds.DumpQuery) (string, map[string]map[string]any) {
			t.Helper()
			text, err := watcher.Dump(q, []byte(`{"node": {"id": "x"}, "zone": {"secret_access_key": "SECRET", "session_token": "SECRET"},
   "one": {"generic_secret": {"secret": {"inline_string": "SECRET"}}}, "many": {"generic_secret": {"secrets": {"a": {"inline_string": "SECRET"}}}}, "secrets": [{"name": "known"}]}`), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			var out struct{ Configs []map[string]any }
			if err := json.Unmarshal(text, &out); err != nil {
				t.Fatal(err)
			}
			byType := map[string]map[string]any{}
			var order []string
			for _, config := range out.Configs {
				name, _ := config["@type"].(string)
				name = strings.TrimPrefix(name, "type.googleapis.com/envoy.admin.v3.")
				byType[name] = config
				order = append(order, name)
			}
			return strings.Join(order, " "), byType
		}
		order, all := show(xds.DumpQuery{})
		const want = "BootstrapConfigDump ClustersConfigDump ListenersConfigDump ScopedRoutesConfigDump RoutesConfigDump SecretsConfigDump"
		if order != want {
			t.Errorf("order %s, want %s", order, want)
		}
		text, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		for _, wanted := range []string{
			`"node":{"id":"x"}`, `"static_resources":{"clusters":[{`, `"private_key":{"inline_string":"[redacted]"}`, `"certificate_chain":{"inline_string":"CHAIN"}`, `"secrets":[{"name":"known"}]`,
			`"version_info":"v"`, `"name":"api:1"`, `"error_state":{"details":`, `"static_listeners"`, `"static_clusters"`, `"dynamic_active_clusters"`,
		} {
			if !strings.Contains(string(text), wanted) {
				t.Errorf("no %s in\n%s", wanted, text)
			}
		}
		if strings.Contains(string(text), "SECRET") {
			t.Error("a key is shown")
		}
		if order, all = show(xds.DumpQuery{Endpoints: true}); !strings.Contains(order, "ClustersConfigDump EndpointsConfigDump ListenersConfigDump") || all["EndpointsConfigDump"]["dynamic_endpoint_configs"] == nil {
			t.Errorf("with endpoints: %s", order)
		}
		if order, _ = show(xds.DumpQuery{Resource: "dynamic_active_clusters"}); order != "ClustersConfigDump.DynamicCluster" {
			t.Errorf("one list: %s", order)
		}
		if order, _ = show(xds.DumpQuery{Resource: "dynamic_listeners", Name: regexp.MustCompile("^api.*$")}); order != "ListenersConfigDump.DynamicListener" {
			t.Errorf("by name: %s", order)
		}
		if _, all = show(xds.DumpQuery{Mask: []string{"static_clusters.cluster.name"}}); len(all["ListenersConfigDump"]) != 1 || all["ClustersConfigDump"]["static_clusters"] == nil {
			t.Errorf("masked: %v", all)
		}
		if _, all = show(xds.DumpQuery{Resource: "dynamic_warming_clusters"}); len(all) != 0 {
			t.Errorf("an empty list: %v", all)
		}
		if _, err := watcher.Dump(xds.DumpQuery{Resource: "none"}, nil, time.Now()); !errors.As(err, new(*xds.DumpError)) {
			t.Errorf("a list that is none: %v", err)
		}
	})
}
