package resource_test

import (
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

// manager is the HTTP chain of a listener whose connection manager has more fields.
func manager(t *testing.T, more string) *mesh.FilterChain {
	t.Helper()
	l := listener(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[{"name":"hcm","typedConfig":{
		"@type":"`+network+`http_connection_manager.v3.HttpConnectionManager","statPrefix":"p","routeConfig":{"name":"r"},`+more+`}}]}]}`)
	return l.Chains[0]
}

func TestCodec(t *testing.T) {
	t.Parallel()
	filters := `"httpFilters":[` + router + `]`
	chain := manager(t, `"maxRequestHeadersKb":32,"requestTimeout":"3s","requestHeadersTimeout":"0s",
		"upgradeConfigs":[{"upgradeType":"websocket"},{"upgradeType":"CONNECT"},{"upgradeType":"x","enabled":false}],
		"commonHttpProtocolOptions":{"idleTimeout":"0s","maxConnectionDuration":"60s","maxHeadersCount":7,"maxStreamDuration":"120s"},
		"httpProtocolOptions":{"acceptHttp10":true,"defaultHostForHttp10":"Old.example","enableTrailers":true},
		"http2ProtocolOptions":{"maxConcurrentStreams":5,"initialStreamWindowSize":70000,"initialConnectionWindowSize":2147483647,"allowConnect":true,
		 "maxOutboundFrames":1,"connectionKeepalive":{"interval":"7s","timeout":"8s"}},`+filters)
	if chain.Refusal != "" {
		t.Fatal(chain.Refusal)
	}
	equal(t, mesh.Codec{
		MaxHeaderBytes: 32 << 10, MaxHeaders: 7, IdleTimeout: -1, HeaderTimeout: -1, RequestTimeout: 3 * time.Second, MaxAge: time.Minute, Connect: true,
		HTTP2: mesh.HTTP2Options{
			MaxStreams: 5, StreamWindow: 70000, ConnWindow: 64 << 20, PingInterval: 7 * time.Second, PingTimeout: 8 * time.Second,
		},
	}, chain.HTTP.Codec)
	equal(t, []string{"websocket", "connect"}, chain.HTTP.Upgrades)
	if chain.HTTP.DefaultHost != "old.example" || chain.HTTP.MaxStreamDuration != 2*time.Minute {
		t.Errorf("%+v", chain.HTTP)
	}
	// What nothing is said of has Envoy's defaults.
	equal(t, mesh.Codec{IdleTimeout: time.Hour, HTTP2: mesh.HTTP2Options{MaxStreams: 1024}}, manager(t, filters).HTTP.Codec)
	for more, want := range map[string]string{
		`"http2ProtocolOptions":{"customSettingsParameters":[{"identifier":99,"value":1}]},`: "custom_settings_parameters",
		`"http2ProtocolOptions":{"connectionKeepalive":{"interval":"7s"}},`:                  "without a timeout",
		`"upgradeConfigs":[{"upgradeType":"x","filters":[{"name":"f"}]}],`:                   "UpgradeConfig.filters",
	} {
		if got := manager(t, more+filters).Refusal; !strings.Contains(got, want) {
			t.Errorf("%s: refusal %q", more, got)
		}
	}
}

func TestGRPCFilters(t *testing.T) {
	t.Parallel()
	filter := func(typ, more string) string {
		return `{"name":"f","typedConfig":{"@type":"` + filters + typ + `"` + more + `}},`
	}
	chain := manager(t, `"httpFilters":[`+filter("grpc_stats.v3.FilterConfig", `,"statsForAllMethods":true`)+
		filter("grpc_http1_bridge.v3.Config", "")+filter("grpc_http1_bridge.v3.Config", `,"upgradeProtobufToGrpc":true,"ignoreQueryParameters":true`)+
		filter("grpc_web.v3.GrpcWeb", "")+router+`]`)
	for i := range chain.HTTP.Filters {
		chain.HTTP.Filters[i].Name = ""
	}
	equal(t, []mesh.HTTPFilter{
		{GRPCStats: &mesh.GRPCStats{AllMethods: true}}, {GRPCBridge: &mesh.GRPCBridge{}}, {GRPCBridge: &mesh.GRPCBridge{UpgradeProtobuf: true, IgnoreQuery: true}}, {GRPCWeb: true},
	}, chain.HTTP.Filters)
}

func TestRuleUpgrades(t *testing.T) {
	t.Parallel()
	rule := func(more string) *mesh.Rule {
		t.Helper()
		r, _, err := resource.Route(bytesOf(t, `{"name":"r","virtualHosts":[{"name":"v","domains":["*"],"routes":[
			{"match":{"connectMatcher":{}},"route":{"cluster":"c","upgradeConfigs":[`+more+`]}}]}]}`, &routev3.RouteConfiguration{}))
		if err != nil {
			t.Fatal(err)
		}
		return r.VirtualHosts[0].Rules[0]
	}
	got := rule(`{"upgradeType":"CONNECT","connectConfig":{}},{"upgradeType":"websocket","enabled":false}`)
	if !got.Connect || !got.Upgrades["connect"] || got.Upgrades["websocket"] || len(got.Upgrades) != 2 || got.Refusal != "" || got.Match.Headers[0].Value.Exact != "CONNECT" {
		t.Errorf("%+v", got)
	}
	if got = rule(`{"upgradeType":"CONNECT"}`); got.Connect || !got.Upgrades["connect"] {
		t.Errorf("%+v", got)
	}
	for more, want := range map[string]string{
		`{"upgradeType":"CONNECT","connectConfig":{"allowPost":true}}`: "allow_post",
		`{"upgradeType":"websocket","connectConfig":{}}`:               "connect_config",
	} {
		if got := rule(more).Refusal; !strings.Contains(got, want) {
			t.Errorf("%s: refusal %q", more, got)
		}
	}
}

func TestClusterHTTP2(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"explicitHttpConfig", "useDownstreamProtocolConfig"} {
		c, _, err := resource.Cluster(bytesOf(t, `{"name":"c","type":"STATIC","typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{
			"@type":"`+googleapis+`extensions.upstreams.http.v3.HttpProtocolOptions","`+options+`":{"http2ProtocolOptions":{"maxConcurrentStreams":9,"connectionKeepalive":{"interval":"0s","timeout":"1s"}}}}}}`, &clusterv3.Cluster{}))
		if err != nil || c.Refusal != "" {
			t.Fatalf("%v, %q", err, c.Refusal)
		}
		equal(t, mesh.HTTP2Options{MaxStreams: 9, PingInterval: -1, PingTimeout: time.Second}, c.HTTP2Options)
	}
}
