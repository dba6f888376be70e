package resource_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

// bytesOf is a resource written as JSON.
func bytesOf(tb testing.TB, text string, msg proto.Message) []byte {
	tb.Helper()
	unmarshal(tb, "test", []byte(text), msg)
	body, err := proto.Marshal(msg)
	if err != nil {
		tb.Fatal(err)
	}
	return body
}

func equal(t *testing.T, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func listener(t *testing.T, text string) *mesh.Listener {
	t.Helper()
	l, _, err := resource.Listener(bytesOf(t, text, &listenerv3.Listener{}))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

const (
	googleapis = "type.googleapis.com/envoy."
	network    = googleapis + "extensions.filters.network."
	filters    = googleapis + "extensions.filters.http."
	tcp        = `{"name":"tcp","typedConfig":{"@type":"` + network + `tcp_proxy.v3.TcpProxy","statPrefix":"s","cluster":"local_app"}}`
	router     = `{"name":"envoy.filters.http.router","typedConfig":{"@type":"` + filters + `router.v3.Router"}}`
	address    = `"address":{"socketAddress":{"address":"127.0.0.1","portValue":21000}}`
)

func TestPublicListener(t *testing.T) {
	t.Parallel()
	got := listener(t, `{"name":"public_listener:127.0.0.1:21000",`+address+`,"trafficDirection":"INBOUND","statPrefix":"x",
		"connectionBalanceConfig":{"exactBalance":{}},"listenerFilters":[{"name":"i","typedConfig":{"@type":"`+googleapis+`extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
		"filterChains":[{"name":"c","filterChainMatch":{"destinationPort":8080,"serverNames":["*.Example"],"prefixRanges":[{"addressPrefix":"240.0.0.1","prefixLen":8}],
		"sourcePrefixRanges":[{"addressPrefix":"::1","prefixLen":128}],"applicationProtocols":["h2"],"transportProtocol":"tls"},
		"filters":[
		 {"name":"rbac","typedConfig":{"@type":"`+network+`rbac.v3.RBAC","statPrefix":"connect_authz","rules":{}}},
		 {"name":"limit","typedConfig":{"@type":"`+network+`connection_limit.v3.ConnectionLimit","maxConnections":"7","statPrefix":"l"}},
		 `+tcp+`],
		"transportSocket":{"name":"tls","typedConfig":{"@type":"`+googleapis+`extensions.transport_sockets.tls.v3.DownstreamTlsContext","requireClientCertificate":true,
		 "commonTlsContext":{"tlsParams":{"tlsMinimumProtocolVersion":"TLSv1_2","tlsMaximumProtocolVersion":"TLSv1_3","cipherSuites":["A"]},"alpnProtocols":["h2","http/1.1"],
		  "tlsCertificates":[{"certificateChain":{"inlineString":"CERT"},"privateKey":{"inlineString":"KEY"}}],"validationContext":{"trustedCa":{"inlineString":"CA"}}}}}}]}`)
	equal(t, &mesh.Listener{
		Name: "public_listener:127.0.0.1:21000", Direction: mesh.Inbound, StatName: "x", Inspect: mesh.Inspect{TLS: true},
		Address: mesh.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:21000")},
		Chains: []*mesh.FilterChain{{
			Name: "c",
			Match: mesh.ChainMatch{
				DestinationPort: 8080, ServerNames: []string{"*.example"}, ALPN: []string{"h2"}, Transport: mesh.TransportTLS,
				Prefixes: []netip.Prefix{netip.MustParsePrefix("240.0.0.0/8")}, SourcePrefixes: []netip.Prefix{netip.MustParsePrefix("::1/128")},
			},
			TLS: &mesh.DownstreamTLS{
				Leaves: []mesh.Leaf{{CertificatePEM: "CERT", KeyPEM: "KEY"}}, Roots: mesh.Roots{PEM: "CA"}, RequireClient: true,
				Params: mesh.TLSParams{MinVersion: 0x303, MaxVersion: 0x304, CipherSuites: []string{"A"}, ALPN: []string{"h2", "http/1.1"}},
			},
			Intentions: []*mesh.Intention{{Action: mesh.Allow, StatPrefix: "connect_authz"}},
			Limit:      &mesh.ConnectionLimit{Max: 7, StatPrefix: "l"},
			TCP:        &mesh.TCPProxy{StatPrefix: "s", Targets: []mesh.Target{{Cluster: "local_app", Weight: 1}}, IdleTimeout: time.Hour},
		}},
	}, got)
}

func TestHTTPListener(t *testing.T) {
	t.Parallel()
	got := listener(t, `{"name":"l","address":{"pipe":{"path":"/run/l.sock","mode":416}},"trafficDirection":"OUTBOUND","filterChains":[],"defaultFilterChain":{"filters":[
		{"name":"hcm","typedConfig":{"@type":"`+network+`http_connection_manager.v3.HttpConnectionManager","statPrefix":"p","http2ProtocolOptions":{},"maxRequestHeadersKb":96,
		"rds":{"configSource":{"ads":{}},"routeConfigName":"api"},"normalizePath":true,"mergeSlashes":true,"pathWithEscapedSlashesAction":"UNESCAPE_AND_FORWARD",
		"commonHttpProtocolOptions":{"headersWithUnderscoresAction":"REJECT_REQUEST"},"forwardClientCertDetails":"APPEND_FORWARD",
		"setCurrentClientCertDetails":{"subject":true,"cert":true,"chain":true,"dns":true,"uri":true},"upgradeConfigs":[{"upgradeType":"WebSocket"},{"upgradeType":"x","enabled":false}],
		"streamIdleTimeout":"0s","tracing":{"randomSampling":{}},"httpFilters":[
		{"name":"stats","typedConfig":{"@type":"`+filters+`grpc_stats.v3.FilterConfig"}},
		{"name":"rbac","typedConfig":{"@type":"`+filters+`rbac.v3.RBAC","rules":{"action":"DENY"}}},
		{"name":"h2m","typedConfig":{"@type":"`+filters+`header_to_metadata.v3.Config","requestRules":[{"header":"X-Forwarded-Client-Cert","remove":true,
		 "onHeaderPresent":{"metadataNamespace":"consul","key":"service","regexValueRewrite":{"pattern":{"regex":".*svc/(.*)"},"substitution":"\\1"}},
		 "onHeaderMissing":{"metadataNamespace":"consul","key":"service","value":"none"}}]}},
		{"name":"wasm","typedConfig":{"@type":"`+filters+`wasm.v3.Wasm"}},
		{"name":"wasm","isOptional":true,"typedConfig":{"@type":"`+filters+`wasm.v3.Wasm"}},
		{"name":"wasm","disabled":true,"typedConfig":{"@type":"`+filters+`wasm.v3.Wasm"}},
		{"name":"envoy.filters.http.router"}]}}]}}`)
	equal(t, &mesh.Listener{
		Name: "l", Direction: mesh.Outbound, Address: mesh.Address{Socket: "/run/l.sock", Mode: 0o640},
		Default: &mesh.FilterChain{HTTP: &mesh.HTTP{
			StatPrefix: "p", RouteName: "api", HTTP2: true, Codec: mesh.Codec{MaxHeaderBytes: 96 << 10, IdleTimeout: time.Hour, HTTP2: mesh.HTTP2Options{MaxStreams: 1024}}, NormalizePath: true, MergeSlashes: true,
			EscapedSlashes: mesh.UnescapeAndForward, RejectUnderscores: true, Upgrades: []string{"websocket"},
			ClientCert: mesh.ForwardClientCert{Mode: mesh.ForwardAppend, Subject: true, Cert: true, Chain: true, DNS: true, URI: true},
			Tracing:    &mesh.Tracing{Client: 1_000_000, Overall: 1_000_000},
			Filters: []mesh.HTTPFilter{
				{Name: "stats", GRPCStats: &mesh.GRPCStats{}},
				{Name: "rbac", Intention: &mesh.Intention{Action: mesh.Deny}},
				{Name: "h2m", Metadata: &mesh.HeaderToMetadata{Request: []mesh.MetadataRule{{
					Header: "x-forwarded-client-cert", Remove: true,
					Present: &mesh.MetadataValue{
						Namespace: "consul", Key: "service", Rewrite: &mesh.RegexRewrite{Pattern: ".*svc/(.*)", Substitution: `\1`},
					},
					Missing: &mesh.MetadataValue{Namespace: "consul", Key: "service", Value: "none"},
				}}}},
				{Name: "wasm", Refusal: "http filter wasm: wasm is not supported, and it may not be skipped"},
				{Name: "wasm", Refusal: "http filter wasm: wasm is not supported, and it may not be skipped", Disabled: true},
			},
		}},
	}, got)
}

func TestHTTPDefaults(t *testing.T) {
	t.Parallel()
	got := listener(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[{"name":"envoy.http_connection_manager","typedConfig":{"@type":"`+network+`http_connection_manager.v3.HttpConnectionManager",
		"routeConfig":{"virtualHosts":[{"domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}]},"httpFilters":[`+router+`]}}]}]}`)
	h := got.Chains[0].HTTP
	if h == nil || h.StreamIdleTimeout != 5*time.Minute || h.Codec.MaxHeaderBytes != 0 || h.NormalizePath || h.HTTP2 {
		t.Fatalf("got %+v", h)
	}
	if rule := h.Route.VirtualHosts[0].Rules[0]; rule.Timeout != 15*time.Second || rule.Targets[0].Cluster != "c" {
		t.Errorf("got %+v", rule)
	}
}

func TestTCPProxy(t *testing.T) {
	t.Parallel()
	proxy := func(more string) *mesh.FilterChain {
		return listener(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[{"name":"tcp","typedConfig":{"@type":"`+network+`tcp_proxy.v3.TcpProxy","statPrefix":"s",`+
			more+`}}]}]}`).Chains[0]
	}
	equal(t, &mesh.TCPProxy{
		StatPrefix: "s", Targets: []mesh.Target{{Cluster: "a", Weight: 1}, {Cluster: "b", Weight: 3}},
		MaxDuration: time.Minute, ConnectAttempts: 2,
	}, proxy(`"weightedClusters":{"clusters":[{"name":"a","weight":1},{"name":"b","weight":3}]},"idleTimeout":"0s","maxConnectAttempts":2,"maxDownstreamConnectionDuration":"60s"`).TCP)
	if got := proxy(`"cluster":"a","maxConnectAttempts":1000`).TCP; got.ConnectAttempts != 16 {
		t.Errorf("%+v", got)
	}
	for more, want := range map[string]string{
		`"cluster":"a","maxConnectAttempts":0`:             "max_connect_attempts is 0",
		`"cluster":"a","tunnelingConfig":{"hostname":"x"}`: "tunneling_config is not supported",
		`"cluster":"a","metadataMatch":{}`:                 "metadata_match is not supported",
		`"weightedClusters":{"clusters":[]}`:               "no cluster",
		`"cluster":"a","onDemand":{}`:                      "on_demand is not supported",
		`"cluster":"a","proxyProtocolTlvs":[{"type":1}]`:   "proxy_protocol_tlvs is not supported",
	} {
		if got := proxy(more); got.TCP != nil || !strings.Contains(got.Refusal, want) {
			t.Errorf("%s: %+v", more, got)
		}
	}
}

func TestProxyProtocolFilter(t *testing.T) {
	t.Parallel()
	filter := func(more string) *mesh.Listener {
		return listener(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[`+tcp+`]}],"listenerFilters":[{"name":"p","typedConfig":{"@type":"`+googleapis+
			`extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"`+more+`}}]}`)
	}
	equal(t, &mesh.ProxyProtocol{}, filter("").ProxyProtocol)
	equal(t, &mesh.ProxyProtocol{Optional: true}, filter(`,"allowRequestsWithoutProxyProtocol":true`).ProxyProtocol)
	if got := filter(`,"disallowedVersions":["V1"]`); !strings.Contains(got.Refusal, "disallowed_versions is not supported") {
		t.Errorf("%+v", got)
	}
}

// TestRefusedListeners: what is not understood refuses no more than it must.
func TestRefusedListeners(t *testing.T) {
	t.Parallel()
	chain := func(match, filters, more string) string {
		return `{"name":"l",` + address + `,"filterChains":[{"filterChainMatch":{` + match + `},"filters":[` + filters + `]` + more + `}, {"filters":[` + tcp + `]}]}`
	}
	hcm := func(config string) string {
		return `{"name":"h","typedConfig":{"@type":"` + network + `http_connection_manager.v3.HttpConnectionManager",` + config + `}}`
	}
	inline := `"routeConfig":{},"httpFilters":[` + router + `]`
	tlsSocket := func(common string) string {
		return `,"transportSocket":{"name":"tls","typedConfig":{"@type":"` + googleapis + `extensions.transport_sockets.tls.v3.DownstreamTlsContext","requireClientCertificate":true,"commonTlsContext":{` + common + `}}}`
	}
	cert := `"tlsCertificates":[{"certificateChain":{"inlineString":"C"},"privateKey":{"inlineString":"K"}}]`
	tests := []struct{ text, listener, chain string }{
		{text: `{"name":"l","filterChains":[]}`, listener: "address: neither IP address nor unix socket"},
		{text: `{"name":"l","address":{"socketAddress":{"address":"localhost","portValue":1}}}`, listener: "is no IP address"},
		{text: `{"name":"l","address":{"socketAddress":{"address":"::1","portValue":1,"protocol":"UDP"}}}`, listener: "protocol UDP is not supported"},
		{text: `{"name":"l",` + address + `,"transparent":true}`, listener: "Listener.transparent is not supported"},
		{text: `{"name":"l",` + address + `,"listenerFilters":[{"name":"o","typedConfig":{"@type":"` + googleapis + `x.Original"}}]}`, listener: `listener filter o: type "envoy.x.Original" is not supported`},
		{text: chain(`"addressSuffix":"x"`, tcp, ""), listener: "FilterChainMatch.address_suffix is not supported"},
		{text: chain(`"sourcePorts":[0]`, tcp, ""), listener: "source port 0"},
		{text: chain(`"transportProtocol":"quic"`, tcp, ""), listener: `transport_protocol "quic" is not supported`},
		{text: chain(`"prefixRanges":[{"addressPrefix":"10.0.0.0","prefixLen":33}]`, tcp, ""), listener: "address range"},
		{text: chain("", "", ""), chain: "no tcp_proxy or http_connection_manager"},
		{text: chain("", tcp+","+tcp, ""), chain: "comes after the last one"},
		{text: chain("", `{"name":"w","typedConfig":{"@type":"`+network+`wasm.v3.Wasm"}}`, ""), chain: "network filter w: wasm is not supported, and it may not be skipped"},
		{text: chain("", `{"name":"w"}`, ""), chain: "network filter w: no typed_config"},
		{text: chain("", tcp, `,"useProxyProto":true`), chain: "FilterChain.use_proxy_proto is not supported"},
		{text: chain("", tcp, `,"transportSocket":{"name":"quic","typedConfig":{"@type":"`+googleapis+`x.Quic"}}`), chain: `transport socket quic of type "envoy.x.Quic" is not supported`},
		{text: chain("", tcp, tlsSocket(``)), chain: "tls: no certificate"},
		{text: chain("", tcp, tlsSocket(cert)), chain: "require_client_certificate without a trusted_ca"},
		{text: chain("", tcp, tlsSocket(cert+`,"validationContext":{"trustedCa":{"filename":"/x"}}`)), chain: "trusted_ca: from elsewhere than inline is not supported"},
		{text: chain("", tcp, tlsSocket(cert+`,"validationContext":{"trustedCa":{"inlineString":"C"},"allowExpiredCertificate":true}`)), chain: "CertificateValidationContext.allow_expired_certificate is not supported"},
		{text: chain("", tcp, tlsSocket(cert+`,"validationContext":{"crl":{"inlineString":"R"}}`)), chain: "crl without a trusted_ca"},
		{text: chain("", tcp, tlsSocket(cert+`,"validationContext":{"trustedCa":{"inlineString":"C"},"trustChainVerification":"ACCEPT_UNTRUSTED"}`)), chain: "trust_chain_verification ACCEPT_UNTRUSTED is not supported"},
		{text: chain("", tcp, tlsSocket(`"tlsCertificateSdsSecretConfigs":[{"name":"x"}]`)), chain: "tls: from elsewhere than inline is not supported"},
		{text: chain("", hcm(`"httpFilters":[`+router+`]`), ""), chain: "no route_config"},
		{text: chain("", hcm(`"routeConfig":{},"httpFilters":[]`), ""), chain: "no router at the end"},
		{text: chain("", hcm(inline+`,"pathNormalizationOptions":{}`), ""), chain: "HttpConnectionManager.path_normalization_options is not supported"},
		{text: chain("", hcm(inline+`,"codecType":"HTTP3"`), ""), chain: "HTTP/3"},
		{text: chain("", hcm(`"rds":{"routeConfigName":"x","configSource":{"path":"/x"}},"httpFilters":[`+router+`]`), ""), chain: "routes from elsewhere"},
		{text: chain("", hcm(`"routeConfig":{},"httpFilters":[`+router+`,`+router+`]`), ""), chain: "comes after the router"},
	}
	for _, tt := range tests {
		got := listener(t, tt.text)
		switch {
		case tt.listener != "":
			if !strings.Contains(got.Refusal, tt.listener) || len(got.Chains) != 0 {
				t.Errorf("%s:\n got refusal %q, want %q", tt.text, got.Refusal, tt.listener)
			}
		case got.Refusal != "" || len(got.Chains) != 2:
			t.Errorf("%s:\n got refusal %q", tt.text, got.Refusal)
		default:
			first, second := got.Chains[0], got.Chains[1]
			if !strings.Contains(first.Refusal, tt.chain) || first.TCP != nil || first.HTTP != nil {
				t.Errorf("%s:\n got %+v, want refusal %q", tt.text, first, tt.chain)
			}
			if second.Refusal != "" || second.TCP == nil {
				t.Errorf("%s: the other chain is %+v", tt.text, second)
			}
		}
	}
}

func TestGarbageIsAnError(t *testing.T) {
	t.Parallel()
	if _, _, err := resource.Listener([]byte{0xff}); err == nil {
		t.Error("listener: no error")
	}
	if _, _, err := resource.Cluster([]byte{0xff}); err == nil {
		t.Error("cluster: no error")
	}
	if _, _, err := resource.Route([]byte{0xff}); err == nil {
		t.Error("route: no error")
	}
	if _, _, err := resource.Endpoints([]byte{0xff}); err == nil {
		t.Error("endpoints: no error")
	}
}

func TestListenerFilters(t *testing.T) {
	t.Parallel()
	filter := func(kind, more string) string {
		return `{"name":"f","typedConfig":{"@type":"` + googleapis + `extensions.filters.listener.` + kind + `"` + more + `}}`
	}
	read := func(more, match string) *mesh.Listener {
		return listener(t, `{"name":"l",`+address+`,`+more+`,"filterChains":[{"filterChainMatch":{`+match+`},"filters":[`+tcp+`]}]}`)
	}
	tls, http, original := filter("tls_inspector.v3.TlsInspector", ""), filter("http_inspector.v3.HttpInspector", ""), filter("original_dst.v3.OriginalDst", "")
	for more, want := range map[string]mesh.Inspect{
		`"listenerFilters":[` + tls + `,` + http + `,` + original + `]`:                                     {TLS: true, HTTP: true, OriginalDst: true},
		`"listenerFiltersTimeout":"3s","continueOnListenerFiltersTimeout":true`:                             {Timeout: 3 * time.Second, Continue: true},
		`"listenerFiltersTimeout":"0s"`:                                                                     {Timeout: -1},
		`"useOriginalDst":true`:                                                                             {OriginalDst: true},
		`"listenerFilters":[` + filter("tls_inspector.v3.TlsInspector", `,"maxClientHelloSize":4096`) + `]`: {TLS: true, MaxHello: 4096},
	} {
		got := read(more, "")
		equal(t, want, got.Inspect)
		if got.Refusal != "" || got.HandOff != strings.Contains(more, "useOriginalDst") {
			t.Errorf("%s: %+v", more, got)
		}
	}
	// As Envoy does where it is forgotten.
	equal(t, mesh.Inspect{TLS: true}, read(`"statPrefix":"x"`, `"serverNames":["a.b"]`).Inspect)
	equal(t, mesh.Inspect{}, read(`"statPrefix":"x"`, `"transportProtocol":"raw_buffer"`).Inspect)
	if got := read(`"bindToPort":false,"enableReusePort":false`, ""); !got.Unbound || !got.Exclusive {
		t.Errorf("%+v", got)
	}
	equal(t, mesh.ChainMatch{
		Transport: mesh.TransportRaw, SourceType: mesh.LocalSource, SourcePorts: []uint16{7},
		DirectSourcePrefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
	}, read(`"statPrefix":"x"`, `"transportProtocol":"raw_buffer","sourceType":"SAME_IP_OR_LOOPBACK","sourcePorts":[7],"directSourcePrefixRanges":[{"addressPrefix":"10.0.0.0","prefixLen":8}]`).Chains[0].Match)
}

func TestServerNameCluster(t *testing.T) {
	t.Parallel()
	sni := `{"name":"s","typedConfig":{"@type":"` + network + `sni_cluster.v3.SniCluster"}}`
	proxy := `{"name":"t","typedConfig":{"@type":"` + network + `tcp_proxy.v3.TcpProxy","statPrefix":"s","cluster":"","hashPolicy":[{"sourceIp":{}}]}}`
	got := listener(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[`+sni+`,`+proxy+`]},{"filterChainMatch":{"serverNames":["*.a"]},"filters":[`+proxy+`]}]}`)
	equal(t, &mesh.TCPProxy{StatPrefix: "s", ServerName: true, HashSource: true, IdleTimeout: time.Hour}, got.Chains[0].TCP)
	equal(t, &mesh.TCPProxy{StatPrefix: "s", HashSource: true, IdleTimeout: time.Hour}, got.Chains[1].TCP)
}

// Trap 14: Consul puts the intentions in front of connection_limit.
func TestTrap14Order(t *testing.T) {
	t.Parallel()
	rbac := `{"name":"r","typedConfig":{"@type":"` + network + `rbac.v3.RBAC","statPrefix":"r","rules":{}}}`
	limit := `{"name":"c","typedConfig":{"@type":"` + network + `connection_limit.v3.ConnectionLimit","statPrefix":"c","maxConnections":2,"delay":"1s"}}`
	for filters, first := range map[string]bool{rbac + "," + limit: false, limit + "," + rbac: true} {
		got := listener(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[`+filters+`,`+tcp+`]}]}`)
		equal(t, &mesh.ConnectionLimit{Max: 2, Delay: time.Second, StatPrefix: "c", First: first}, got.Chains[0].Limit)
	}
}
