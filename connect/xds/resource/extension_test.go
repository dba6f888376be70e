package resource_test

import (
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

// filterOf decodes one HTTP filter, whose typed config is JSON, in a listener.
func filterOf(t *testing.T, config string) mesh.HTTPFilter {
	t.Helper()
	chain := chainOf(t, `{"name": "envoy.filters.network.http_connection_manager", "typed_config": {
		"@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
		"stat_prefix": "s", "route_config": {}, "http_filters": [
			{"name": "f", "typed_config": `+config+`}, {"name": "envoy.filters.http.router"}]}}`)
	if chain.Refusal != "" || chain.HTTP == nil || len(chain.HTTP.Filters) > 1 {
		t.Fatalf("%+v", chain)
	}
	if len(chain.HTTP.Filters) == 0 {
		return mesh.HTTPFilter{}
	}
	f := chain.HTTP.Filters[0]
	f.Name = ""
	return f
}

func chainOf(t *testing.T, networkFilters string) *mesh.FilterChain {
	t.Helper()
	msg := &listenerv3.Listener{}
	text := `{"name": "l", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 1}}, "filter_chains": [{"filters": [` + networkFilters + `]}]}`
	if err := protojson.Unmarshal([]byte(text), msg); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	l, _, err := resource.Listener(data)
	if err != nil || l.Refusal != "" || len(l.Chains) != 1 {
		t.Fatalf("%+v, %v", l, err)
	}
	return l.Chains[0]
}

const authzURL = `"@type": "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"`

func TestExtAuthz(t *testing.T) {
	t.Parallel()
	want := &mesh.ExtAuthz{
		StatPrefix: "p", FailOpen: true, FailOpenHeader: true, StatusOnError: 503, ClearRoute: true, Namespaces: []string{"consul"},
		PeerCertificate: true, TLSSession: true, DenyDisabled: true, Body: &mesh.AuthzBody{Max: 10, Partial: true, Raw: true},
		Enabled: &mesh.Fraction{Numerator: 5, Denominator: 10_000}, LabelsKey: "labels", IgnoreMetadata: true, MaxDenied: 9,
		Allowed: []mesh.StringMatch{{Exact: "A", IgnoreCase: true}}, Disallowed: []mesh.StringMatch{{Kind: mesh.MatchPrefix, Prefix: "x-"}},
		Service: mesh.AuthzService{
			Cluster: "c", Authority: "a", Timeout: 2 * time.Second,
			Metadata: []mesh.HeaderValue{{Name: "k", Value: "100%", Append: mesh.OverwriteOrAdd}},
		},
	}
	got := filterOf(t, `{`+authzURL+`, "stat_prefix": "p", "failure_mode_allow": true, "failure_mode_allow_header_add": true,
		"status_on_error": {"code": 503}, "clear_route_cache": true, "metadata_context_namespaces": ["consul"], "include_peer_certificate": true,
		"include_tls_session": true, "deny_at_disable": {"runtime_key": "k", "default_value": true}, "transport_api_version": "V3",
		"with_request_body": {"max_request_bytes": 10, "allow_partial_message": true, "pack_as_bytes": true},
		"filter_enabled": {"default_value": {"numerator": 5, "denominator": "TEN_THOUSAND"}}, "bootstrap_metadata_labels_key": "labels",
		"enable_dynamic_metadata_ingestion": false, "max_denied_response_body_bytes": 9,
		"allowed_headers": {"patterns": [{"exact": "A", "ignore_case": true}]}, "disallowed_headers": {"patterns": [{"prefix": "x-"}]},
		"grpc_service": {"envoy_grpc": {"cluster_name": "c", "authority": "a"}, "timeout": "2s", "initial_metadata": [{"key": "K", "value": "100%%"}]}}`)
	if diff := cmp.Diff(mesh.HTTPFilter{ExtAuthz: want}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for config, why := range map[string]string{
		``: "neither grpc_service",
		`, "grpc_service": {"google_grpc": {"target_uri": "x", "stat_prefix": "s"}}`:                                                        "google_grpc is not supported",
		`, "grpc_service": {"envoy_grpc": {"cluster_name": "c", "retry_policy": {}}}`:                                                       "retry_policy is not supported",
		`, "grpc_service": {"envoy_grpc": {"cluster_name": "c"}}, "shadow_mode": true`:                                                      "shadow_mode is not supported",
		`, "grpc_service": {"envoy_grpc": {"cluster_name": "c"}}, "transport_api_version": "V2"`:                                            "V2",
		`, "grpc_service": {"envoy_grpc": {"cluster_name": "c"}}, "with_request_body": {}`:                                                  "max_request_bytes 0",
		`, "grpc_service": {"envoy_grpc": {"cluster_name": "c"}, "initial_metadata": [{"key": "k", "value": "%REQ(x)%"}]}`:                  "commands",
		`, "http_service": {"server_uri": {"uri": "u"}}`:                                                                                    "without a cluster",
		`, "http_service": {"server_uri": {"uri": "u", "cluster": "c"}, "path_prefix": "x"}`:                                                "path_prefix",
		`, "http_service": {"server_uri": {"uri": "u", "cluster": "c"}}, "allowed_headers": {"patterns": [{"safe_regex": {"regex": "("}}]}`: "missing closing",
	} {
		if got := filterOf(t, `{`+authzURL+config+`}`); !strings.Contains(got.Refusal, why) {
			t.Errorf("%s: %+v", config, got)
		}
	}
}

func TestLua(t *testing.T) {
	t.Parallel()
	const url = `"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"`
	for config, want := range map[string]*mesh.Lua{
		`, "inline_code": "x = 1", "stat_prefix": "p", "clear_route_cache": false`: {Code: "x = 1", StatPrefix: "p", KeepRoute: true},
		`, "default_source_code": {"inline_string": "x = 2"}`:                      {Code: "x = 2"},
		`, "default_source_code": {"inline_bytes": "eA=="}`:                        {Code: "x"},
		`, "default_source_code": {"filename": "/f"}`:                              {File: "/f"},
	} {
		if diff := cmp.Diff(mesh.HTTPFilter{Lua: want}, filterOf(t, `{`+url+config+`}`)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", config, diff)
		}
	}
	for _, config := range []string{`, "inline_code": "x", "default_source_code": {"inline_string": "x"}`, `, "package_paths": ["/x"]`} {
		if got := filterOf(t, `{`+url+config+`}`); got.Refusal == "" {
			t.Errorf("%s: %+v", config, got)
		}
	}
}

// A wasm filter is skipped only where its configuration says that it may be.
func TestWasm(t *testing.T) {
	t.Parallel()
	const http = `"@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm"`
	const network = `"@type": "type.googleapis.com/envoy.extensions.filters.network.wasm.v3.Wasm"`
	for config, open := range map[string]bool{
		`{}`: false, `{"fail_open": true}`: true, `{"failure_policy": "FAIL_OPEN"}`: true,
		`{"failure_policy": "FAIL_CLOSED"}`: false, `{"failure_policy": "FAIL_RELOAD"}`: false,
	} {
		got := filterOf(t, `{`+http+`, "config": `+config+`}`)
		if (got.Skipped == "f") != open || (got.Refusal == "") != open {
			t.Errorf("%s: %+v", config, got)
		}
		chain := chainOf(t, `{"name": "w", "typed_config": {`+network+`, "config": `+config+`}}, {"name": "t", "typed_config": {
			"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "s", "cluster": "c"}}`)
		if (chain.Refusal == "") != open {
			t.Errorf("%s: %+v", config, chain)
		}
	}
}

func TestNetworkExtAuthz(t *testing.T) {
	t.Parallel()
	const url = `"@type": "type.googleapis.com/envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"`
	chain := func(config string) *mesh.FilterChain {
		return chainOf(t, `{"name": "a", "typed_config": {`+url+config+`}}, {"name": "t", "typed_config": {
			"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "s", "cluster": "c"}}`)
	}
	want := []*mesh.ExtAuthz{{
		StatPrefix: "p", FailOpen: true, PeerCertificate: true, Service: mesh.AuthzService{Cluster: "c", Timeout: 200 * time.Millisecond},
	}}
	got := chain(`, "stat_prefix": "p", "failure_mode_allow": true, "include_peer_certificate": true, "grpc_service": {"envoy_grpc": {"cluster_name": "c"}}`)
	if diff := cmp.Diff(want, got.Authz); diff != "" || got.Refusal != "" {
		t.Errorf("%s -want +got:\n%s", got.Refusal, diff)
	}
	if got := chain(`, "grpc_service": {"envoy_grpc": {"cluster_name": "c"}}, "shadow_mode": true`); got.Refusal == "" {
		t.Errorf("%+v", got)
	}
}

func TestLambda(t *testing.T) {
	t.Parallel()
	const url = `"@type": "type.googleapis.com/envoy.extensions.filters.http.aws_lambda.v3.Config"`
	const arn = "arn:aws:lambda:eu-west-1:123456789012:function:f"
	want := &mesh.Lambda{
		ARN: arn, Region: "eu-west-1", Passthrough: true, Async: true, HostRewrite: "h", AccessKey: "a", SecretKey: "s", Session: "t",
	}
	got := filterOf(t, `{`+url+`, "arn": "`+arn+`", "payload_passthrough": true, "invocation_mode": "ASYNCHRONOUS", "host_rewrite": "h",
		"credentials": {"access_key_id": "a", "secret_access_key": "s", "session_token": "t"}}`)
	if diff := cmp.Diff(mesh.HTTPFilter{Lambda: want}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, config := range []string{
		``, `, "arn": "x"`, `, "arn": "arn:aws:s3:eu-west-1:1:function:f"`, `, "arn": "arn:aws:lambda:eu-west-1:1:function:f/../g"`,
		`, "arn": "` + arn + `", "credentials": {"access_key_id": "a"}`, `, "arn": "` + arn + `", "credentials_profile": "p"`,
	} {
		if got := filterOf(t, `{`+url+config+`}`); got.Refusal == "" {
			t.Errorf("%s: %+v", config, got)
		}
	}
}

func TestHealthCheck(t *testing.T) {
	t.Parallel()
	const url = `"@type": "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck"`
	header := []mesh.HeaderMatch{{Name: ":path", Value: mesh.StringMatch{Exact: "/h"}}}
	for config, want := range map[string]*mesh.HealthCheck{
		`, "pass_through_mode": true, "cache_time": "2s", "headers": [{"name": ":path", "exact_match": "/h"}]`: {
			PassThrough: true, CacheTime: 2 * time.Second, Headers: header,
		},
		`, "pass_through_mode": false, "cluster_min_healthy_percentages": {"c": {"value": 25}}`: {Clusters: map[string]float64{"c": 25}},
	} {
		if diff := cmp.Diff(mesh.HTTPFilter{HealthCheck: want}, filterOf(t, `{`+url+config+`}`)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", config, diff)
		}
	}
	for _, config := range []string{
		``, `, "pass_through_mode": false, "cache_time": "1s"`, `, "pass_through_mode": true, "cluster_min_healthy_percentages": {"c": {"value": 25}}`,
	} {
		if got := filterOf(t, `{`+url+config+`}`); got.Refusal == "" {
			t.Errorf("%s: %+v", config, got)
		}
	}
}

// The cluster that Consul makes for AWS Lambda asks for a pattern, which no peer is
// called: it is the endpoint's name that the peer must have.
func TestLambdaCluster(t *testing.T) {
	t.Parallel()
	msg := &clusterv3.Cluster{}
	if err := protojson.Unmarshal([]byte(`{"name": "l", "type": "LOGICAL_DNS", "load_assignment": {"cluster_name": "l", "endpoints": [{"lb_endpoints": [
		{"endpoint": {"address": {"socket_address": {"address": "lambda.us-east-1.amazonaws.com", "port_value": 443}}}}]}]},
		"metadata": {"filter_metadata": {"com.amazonaws.lambda": {"egress_gateway": true}}},
		"transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", "sni": "*.amazonaws.com"}}}`), msg); err != nil {
		t.Fatal(err)
	}
	data, err := proto.Marshal(msg)
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := resource.Cluster(data)
	if err != nil || c.Refusal != "" || !c.Lambda || c.TLS == nil || !c.TLS.HostSNI || !c.TLS.VerifySNI || !c.TLS.SystemRoots {
		t.Errorf("%+v, TLS %+v, %v", c, c.TLS, err)
	}
}
