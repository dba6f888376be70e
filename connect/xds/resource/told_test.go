package resource_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/xds/resource"
)

// What a user may have meant something by and has no effect is told, or refused.
func TestNothingIsSilentlyWithoutEffect(t *testing.T) {
	t.Parallel()
	const http = `"typedExtensionProtocolOptions":{"h":{"@type":"` + googleapis + `extensions.upstreams.http.v3.HttpProtocolOptions",`
	read := map[string]func(text string) (refusal string, notes []string, err error){
		"cluster": func(text string) (string, []string, error) {
			c, notes, err := resource.Cluster(bytesOf(t, `{`+eds+`,`+text+`}`, &clusterv3.Cluster{}))
			return c.Refusal, notes, err
		},
		"static cluster": func(text string) (string, []string, error) {
			c, notes, err := resource.Cluster(bytesOf(t, `{"name":"c","type":"STATIC",`+text+`}`, &clusterv3.Cluster{}))
			return c.Refusal, notes, err
		},
		"endpoints": func(text string) (string, []string, error) {
			_, notes, err := resource.Endpoints(bytesOf(t, text, &endpointv3.ClusterLoadAssignment{}))
			return "", notes, err
		},
		"manager": func(text string) (string, []string, error) {
			l, notes, err := resource.Listener(bytesOf(t, `{"name":"l","address":{"socketAddress":{"address":"127.0.0.1","portValue":1}},"filterChains":[{"filters":[{"name":"h","typedConfig":{
				"@type":"`+googleapis+`extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","routeConfig":{},"httpFilters":[{"name":"envoy.filters.http.router"}],`+text+`}}]}]}`, &listenerv3.Listener{}))
			if err != nil || l.Refusal != "" {
				return l.Refusal, nil, err
			}
			return l.Chains[0].Refusal, notes, nil
		},
		"rule": func(text string) (string, []string, error) {
			r, notes, err := resource.Route(bytesOf(t, `{"virtualHosts":[{"domains":["*"],"routes":[{"match":{"prefix":"/"},`+text+`}]}]}`, &routev3.RouteConfiguration{}))
			return r.VirtualHosts[0].Rules[0].Refusal, notes, err
		},
		"downstream TLS": func(text string) (string, []string, error) {
			l, notes, err := resource.Listener(bytesOf(t, `{"name":"l","address":{"socketAddress":{"address":"127.0.0.1","portValue":1}},"filterChains":[{"filters":[{"name":"t","typedConfig":{
				"@type":"`+googleapis+`extensions.filters.network.tcp_proxy.v3.TcpProxy","statPrefix":"s","cluster":"c"}}],"transportSocket":{"name":"tls","typedConfig":{
				"@type":"`+googleapis+`extensions.transport_sockets.tls.v3.DownstreamTlsContext",`+text+`}}}]}`, &listenerv3.Listener{}))
			return l.Chains[0].Refusal, notes, err
		},
	}
	for _, row := range []struct{ what, text, note, refusal string }{
		{"cluster", http + `"explicitHttpConfig":{"httpProtocolOptions":{"headerKeyFormat":{"properCaseWords":{}}}}}}`, "Http1ProtocolOptions.header_key_format is ignored", ""},
		{"cluster", http + `"useDownstreamProtocolConfig":{"httpProtocolOptions":{"sendFullyQualifiedUrl":true}}}}`, "Http1ProtocolOptions.send_fully_qualified_url is ignored", ""},
		{"cluster", http + `"explicitHttpConfig":{"httpProtocolOptions":{"enableTrailers":true}}}}`, "", ""},
		{"cluster", `"perConnectionBufferLimitBytes":1`, "Cluster.per_connection_buffer_limit_bytes is ignored", ""},
		{"cluster", `"commonLbConfig":{"closeConnectionsOnHostSetChange":true}`, "CommonLbConfig.close_connections_on_host_set_change is ignored", ""},
		{"endpoints", `{"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":1}},"healthCheckConfig":{"portValue":2}}}]}]}`, "Endpoint.health_check_config is ignored: an endpoint is checked where it serves", ""},
		{"endpoints", `{"endpoints":[{"ledsClusterLocalityConfig":{"ledsCollectionName":"x"}}]}`, "LocalityLbEndpoints.leds_cluster_locality_config is not supported", ""},
		{"static cluster", `"loadAssignment":{"endpoints":[{"loadBalancerEndpoints":{}}]}`, "", "LocalityLbEndpoints.load_balancer_endpoints is not supported"},
		{"manager", `"setCurrentClientCertDetails":{"issuer":true}`, "SetCurrentClientCertDetails.issuer is ignored", ""},
		{"manager", `"setCurrentClientCertDetails":{"format":1}`, "", "network filter h: SetCurrentClientCertDetails.format is not supported"},
		{"manager", `"delayedCloseTimeout":"1s"`, "HttpConnectionManager.delayed_close_timeout is ignored", ""},
		{"manager", `"http2ProtocolOptions":{"maxOutboundFrames":1}`, "Http2ProtocolOptions.max_outbound_frames is ignored", ""},
		{"rule", `"perRequestBufferLimitBytes":1,"route":{"cluster":"c"}`, "Route.per_request_buffer_limit_bytes is ignored", ""},
		{"rule", `"route":{"cluster":"c","hedgePolicy":{"hedgeOnPerTryTimeout":true}}`, "RouteAction.hedge_policy is ignored", ""},
		{"downstream TLS", `"requireSni":false,"commonTlsContext":{` + leaf + `}`, "", ""},
		{"downstream TLS", `"requireSni":true,"commonTlsContext":{` + leaf + `}`, "", "tls: require_sni is not supported"},
		{
			"downstream TLS", `"commonTlsContext":{` + leaf + `,"validationContext":{"customValidatorConfig":{"name":"spiffe","typedConfig":{"@type":"` + googleapis +
				`extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig","trustDomains":[{"name":"a","trustBundle":{"inlineString":"CA"},"workloadTrustDomain":"b"}]}}}}`,
			"", "tls: TrustDomain.workload_trust_domain is not supported",
		},
	} {
		refusal, notes, err := read[row.what](row.text)
		if err != nil || refusal != row.refusal {
			t.Errorf("%s %s: refusal %q, %v", row.what, row.text, refusal, err)
		}
		if row.note != "" && !slices.Contains(notes, row.note) || row.note == "" && len(notes) > 0 {
			t.Errorf("%s %s: notes %q", row.what, row.text, notes)
		}
	}
}

// A set may have as many oddities as endpoints, and each be another.
func TestNotesAreBounded(t *testing.T) {
	t.Parallel()
	group := &endpointv3.LocalityLbEndpoints{}
	for i := range 1000 {
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
			Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
				Address: "10.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 1<<16 + uint32(i)},
			}}},
		}}})
	}
	body, err := proto.Marshal(&endpointv3.ClusterLoadAssignment{Endpoints: []*endpointv3.LocalityLbEndpoints{group}})
	if err != nil {
		t.Fatal(err)
	}
	_, notes, err := resource.Endpoints(body)
	if err != nil || len(notes) != 100 || !strings.Contains(notes[99], "there is more") {
		t.Errorf("%d notes, %v", len(notes), err)
	}
}

// What many rules share is read once: a message must not become many times as large.
func TestSharedIsReadOnce(t *testing.T) {
	t.Parallel()
	r := route(t, `{"virtualHosts":[{"domains":["*"],"retryPolicy":{"retryOn":"5xx"},"routes":[{"match":{"prefix":"/a"},"route":{"cluster":"c"}},{"match":{"prefix":"/b"},"route":{"cluster":"c"}},
		{"match":{"prefix":"/c"},"route":{"cluster":"c","retryPolicy":{}}}]}]}`).VirtualHosts[0].Rules
	if r[0].Retry == nil || r[0].Retry != r[1].Retry || r[2].Retry == r[0].Retry || r[2].Retry == nil {
		t.Errorf("retries %p %p %p", r[0].Retry, r[1].Retry, r[2].Retry)
	}
	bad := route(t, `{"virtualHosts":[{"domains":["*"],"retryPolicy":{"retryBackOff":{"baseInterval":"2s","maxInterval":"1s"}},"routes":[{"match":{"prefix":"/a"},"route":{"cluster":"c"}},
		{"match":{"prefix":"/c"},"route":{"cluster":"c","retryPolicy":{}}}]}]}`).VirtualHosts[0].Rules
	if bad[0].Refusal == "" || bad[1].Refusal != "" {
		t.Errorf("a bad policy of the virtual host: %q, %q", bad[0].Refusal, bad[1].Refusal)
	}
	jwt := filterOf(t, `{"@type":"`+googleapis+`extensions.filters.http.jwt_authn.v3.JwtAuthentication","providers":{"p":{"localJwks":{"inlineString":"{}"}}},"requirementMap":{"r":{"providerName":"p"}},
		"rules":[{"match":{"prefix":"/a"},"requirementName":"r"},{"match":{"prefix":"/"},"requirementName":"r"}]}`).JWT
	if jwt == nil || jwt.Rules[0].Requires == nil || jwt.Rules[0].Requires != jwt.Rules[1].Requires || jwt.Named["r"] != jwt.Rules[0].Requires {
		t.Errorf("%+v", jwt)
	}
	// One that is not understood is no matter of who does not ask for it.
	config := `{"@type":"` + googleapis + `extensions.filters.http.jwt_authn.v3.JwtAuthentication","providers":{"p":{"localJwks":{"inlineString":"{}"}}},
		"requirementMap":{"r":{"providerName":"p"},"x":{"providerName":"q"}},"rules":[{"match":{"prefix":"/a"},"requirementName":"%s"}]}`
	if f := filterOf(t, fmt.Sprintf(config, "r")); f.JWT == nil || f.JWT.Named["x"].Refusal != `provider "q" is not known` {
		t.Errorf("%+v", f)
	}
	if f := filterOf(t, fmt.Sprintf(config, "x")); f.JWT != nil || !strings.Contains(f.Refusal, `requirement x: provider "q" is not known`) {
		t.Errorf("%+v", f)
	}
	same := route(t, `{"virtualHosts":[{"domains":["*"],"routes":[`+strings.Repeat(`{"match":{"prefix":"/a"},"route":{"cluster":"c"},"typedPerFilterConfig":{"f":{"@type":"`+
		googleapis+`config.route.v3.FilterConfig","disabled":true}}},`, 2)+`{"match":{"prefix":"/"},"redirect":{}}]}]}`).VirtualHosts[0].Rules
	if o := same[0].Filters["f"]; o == nil || o != same[1].Filters["f"] {
		t.Errorf("%p and %p", o, same[1].Filters["f"])
	}
}
