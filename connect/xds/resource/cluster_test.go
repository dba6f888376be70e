package resource_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

func cluster(t *testing.T, text string) *mesh.Cluster {
	t.Helper()
	c, _, err := resource.Cluster(bytesOf(t, text, &clusterv3.Cluster{}))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	eds      = `"name":"c","type":"EDS","edsClusterConfig":{"edsConfig":{"ads":{}}}`
	upstream = `{"name":"tls","typedConfig":{"@type":"` + googleapis + `extensions.transport_sockets.tls.v3.UpstreamTlsContext",`
	leaf     = `"tlsCertificates":[{"certificateChain":{"inlineString":"C"},"privateKey":{"inlineString":"K"}}]`
	ca       = `"trustedCa":{"inlineString":"CA"}`
)

func san(typ, exact string) string {
	return `{"sanType":"` + typ + `","matcher":{"exact":"` + exact + `"}}`
}

// outlier is detection with Envoy's defaults but for what change says.
func outlier(change func(o *mesh.Outlier)) *mesh.Outlier {
	o := mesh.DefaultOutlier()
	change(o)
	return o
}

func TestUpstreamCluster(t *testing.T) {
	t.Parallel()
	got := cluster(t, `{`+eds+`,"altStatName":"s","connectTimeout":"33s","commonLbConfig":{"healthyPanicThreshold":{}},"circuitBreakers":{"thresholds":[{"maxConnections":5,"maxRetries":0}]},
		"outlierDetection":{"consecutive5xx":3,"enforcingConsecutive5xx":0,"interval":"22s"},"lbPolicy":"RING_HASH","ringHashLbConfig":{"minimumRingSize":"20","maximumRingSize":"30"},
		"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"`+googleapis+`extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"http2ProtocolOptions":{}}}},
		"transportSocket":`+upstream+`"sni":"api.internal","commonTlsContext":{`+leaf+`,"validationContext":{`+ca+`,"matchTypedSubjectAltNames":[`+san("URI", "spiffe://td/a")+`,`+san("URI", "spiffe://td/b")+`]}}}}}`)
	equal(t, &mesh.Cluster{
		Name: "c", StatName: "s", Kind: mesh.ClusterEDS, ConnectTimeout: 33 * time.Second, Protocol: mesh.HTTP2, PanicPercent: 0,
		Balance: mesh.Balance{Policy: mesh.RingHash, MinRing: 20, MaxRing: 30},
		Limits:  mesh.Limits{MaxConnections: 5, HasConnections: true, HasRetries: true},
		Outlier: outlier(func(o *mesh.Outlier) { o.Consecutive5xx, o.EnforcingConsecutive5xx, o.Interval = 3, 0, 22*time.Second }),
		TLS: &mesh.UpstreamTLS{
			Leaf: mesh.Leaf{CertificatePEM: "C", KeyPEM: "K"}, Roots: mesh.Roots{PEM: "CA"}, ServerName: "api.internal",
			URIs: []string{"spiffe://td/a", "spiffe://td/b"},
		},
	}, got)
}

func TestClusterDefaults(t *testing.T) {
	t.Parallel()
	got := cluster(t, `{`+eds+`,"outlierDetection":{}}`)
	equal(t, &mesh.Cluster{
		Name: "c", Kind: mesh.ClusterEDS, ConnectTimeout: 5 * time.Second, PanicPercent: 50,
		Outlier: mesh.DefaultOutlier(),
	}, got)
}

func TestClusterKinds(t *testing.T) {
	t.Parallel()
	assignment := func(address string, port string) string {
		return `"loadAssignment":{"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"` + address + `","portValue":` + port + `}}}}]}]}`
	}
	aggregate := `"clusterType":{"name":"envoy.clusters.aggregate","typedConfig":{"@type":"` + googleapis + `extensions.clusters.aggregate.v3.ClusterConfig","clusters":["a","b"]}},"lbPolicy":"CLUSTER_PROVIDED"`
	one := []mesh.Endpoint{{Address: mesh.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:80")}, Weight: 1}}
	name := []mesh.DNSName{{Host: "a.example", Port: 443, Endpoint: mesh.Endpoint{Weight: 1}}}
	tests := []struct {
		text string
		want mesh.Cluster
	}{
		{`"type":"STATIC",` + assignment("127.0.0.1", "80"), mesh.Cluster{Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{Name: "c", Endpoints: one}}},
		{`"type":"STATIC",` + assignment("jwks.example", "443"), mesh.Cluster{Kind: mesh.ClusterStrictDNS, Names: []mesh.DNSName{{Host: "jwks.example", Port: 443, Endpoint: mesh.Endpoint{Weight: 1}}}, DNS: mesh.DNS{Refresh: 5 * time.Second}}},
		{`"type":"STRICT_DNS","dnsRefreshRate":"10s",` + assignment("a.example", "443"), mesh.Cluster{Kind: mesh.ClusterStrictDNS, Names: []mesh.DNSName{{Host: "a.example", Port: 443, Endpoint: mesh.Endpoint{Weight: 1}}}, DNS: mesh.DNS{Refresh: 10 * time.Second}}},
		{`"type":"LOGICAL_DNS",` + assignment("a.example", "443"), mesh.Cluster{Kind: mesh.ClusterLogicalDNS, Names: []mesh.DNSName{{Host: "a.example", Port: 443, Endpoint: mesh.Endpoint{Weight: 1}}}, DNS: mesh.DNS{Refresh: 5 * time.Second}}},
		{
			`"type":"STRICT_DNS","dnsLookupFamily":"V4_ONLY","dnsFailureRefreshRate":{"baseInterval":"2s","maxInterval":"9s"},"loadAssignment":{"endpoints":[{"lbEndpoints":[` +
				`{"loadBalancingWeight":3,"endpoint":{"hostname":"h","address":{"socketAddress":{"address":"a.example","portValue":443}}}}]},{"priority":1,"lbEndpoints":[` +
				`{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":80}}}}]}]}`,
			mesh.Cluster{
				Kind: mesh.ClusterStrictDNS,
				Names: []mesh.DNSName{
					{Host: "a.example", Port: 443, Endpoint: mesh.Endpoint{Weight: 3, Hostname: "h"}},
					{Host: "10.0.0.1", Port: 80, Endpoint: mesh.Endpoint{Weight: 1, Priority: 1}},
				},
				DNS: mesh.DNS{Family: mesh.DNSv4Only, Refresh: 5 * time.Second, Retry: 2 * time.Second, MaxRetry: 9 * time.Second},
			},
		},
		{
			`"type":"STRICT_DNS","respectDnsTtl":true,"dnsJitter":"1s","waitForWarmOnInit":false,"useTcpForDnsLookups":true,"dnsResolvers":[{"socketAddress":{"address":"10.0.0.53","portValue":53}}],` + assignment("a.example", "443"),
			mesh.Cluster{Kind: mesh.ClusterStrictDNS, Names: name, DNS: mesh.DNS{
				Refresh: 5 * time.Second, RespectTTL: true, Jitter: time.Second, NoWait: true, TCP: true, Servers: []netip.AddrPort{netip.MustParseAddrPort("10.0.0.53:53")},
			}},
		},
		{
			`"clusterType":{"name":"envoy.clusters.dns","typedConfig":{"@type":"` + googleapis + `extensions.clusters.dns.v3.DnsCluster","dnsLookupFamily":"ALL","respectDnsTtl":true,"allAddressesInSingleEndpoint":true,` +
				`"typedDnsResolverConfig":{"name":"x","typedConfig":{"@type":"` + googleapis + `extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"}}}},` + assignment("a.example", "443"),
			mesh.Cluster{Kind: mesh.ClusterLogicalDNS, Names: name, DNS: mesh.DNS{Family: mesh.DNSAll, Refresh: time.Minute}},
		},
		{`"type":"ORIGINAL_DST","lbPolicy":"CLUSTER_PROVIDED"`, mesh.Cluster{Kind: mesh.ClusterOriginalDst}},
		{aggregate, mesh.Cluster{Kind: mesh.ClusterAggregate, Members: []string{"a", "b"}}},
		{`"type":"EDS","edsClusterConfig":{"serviceName":"e","edsConfig":{"ads":{}}}`, mesh.Cluster{Kind: mesh.ClusterEDS, EndpointName: "e"}},
	}
	for _, tt := range tests {
		tt.want.Name, tt.want.ConnectTimeout, tt.want.PanicPercent = "c", 5*time.Second, 50
		equal(t, &tt.want, cluster(t, `{"name":"c",`+tt.text+`}`))
	}
}

func TestClusterTLS(t *testing.T) {
	t.Parallel()
	tests := []struct {
		common, refusal string
		want            *mesh.UpstreamTLS
	}{
		{common: leaf + `,"validationContext":{` + ca + `}`, want: &mesh.UpstreamTLS{Leaf: mesh.Leaf{CertificatePEM: "C", KeyPEM: "K"}, Roots: mesh.Roots{PEM: "CA"}}},
		{common: `"validationContext":{` + ca + `}`, want: &mesh.UpstreamTLS{Roots: mesh.Roots{PEM: "CA"}, AnyPeer: true}},
		{common: `"validationContext":{` + ca + `,"matchTypedSubjectAltNames":[` + san("DNS", "a.example") + `]}`, want: &mesh.UpstreamTLS{Roots: mesh.Roots{PEM: "CA"}, DNSNames: []string{"a.example"}}},
		{
			common: leaf + `,"validationContext":{` + ca + `,"matchTypedSubjectAltNames":[` + san("URI", "u") + `],"customValidatorConfig":{"name":"envoy.tls.cert_validator.spiffe","typedConfig":{"@type":"` +
				googleapis + `extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig","trustDomains":[{"name":"td","trustBundle":{"inlineString":"B"}}]}}}`,
			want: &mesh.UpstreamTLS{
				Leaf: mesh.Leaf{CertificatePEM: "C", KeyPEM: "K"}, Roots: mesh.Roots{PEM: "CA"}, URIs: []string{"u"},
				TrustDomains: map[string]mesh.Roots{"td": {PEM: "B"}},
			},
		},
		{common: leaf, refusal: "no trusted_ca, the peer could not be verified"},
		{
			common: `"validationContext":{` + ca + `,"matchTypedSubjectAltNames":[` + san("URI", "x") + `,` + san("DNS", "x") + `,` + san("EMAIL", "x") + `,` + san("IP_ADDRESS", "x") + `]}`,
			want: &mesh.UpstreamTLS{
				Roots: mesh.Roots{PEM: "CA"}, URIs: []string{"x"}, DNSNames: []string{"x"},
				Names: []mesh.PeerName{{Kind: mesh.NameEmail, Value: mesh.StringMatch{Exact: "x"}}, {Kind: mesh.NameIP, Value: mesh.StringMatch{Exact: "x"}}},
			},
		},
		{
			common: `"validationContext":{` + ca + `,"matchTypedSubjectAltNames":[{"sanType":"URI","matcher":{"prefix":"spiffe://"}}]}`,
			want: &mesh.UpstreamTLS{
				Roots: mesh.Roots{PEM: "CA"},
				Names: []mesh.PeerName{{Kind: mesh.NameURI, Value: mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "spiffe://"}}},
			},
		},
		{common: `"validationContext":{}`, want: &mesh.UpstreamTLS{SystemRoots: true, HostSNI: true, VerifySNI: true, AnyPeer: true}},
		{
			common: `"validationContext":{"caCertificateProviderInstance":{"instanceName":"default","certificateName":"ROOTCA"}}`,
			want:   &mesh.UpstreamTLS{SystemRoots: true, HostSNI: true, VerifySNI: true, AnyPeer: true},
		},
		{
			common: `"validationContext":{"verifyCertificateSpki":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="],"verifyCertificateHash":["` + strings.Repeat("AB:", 31) + `00"]}`,
			want: &mesh.UpstreamTLS{
				AnyPeer: true,
				Pins:    mesh.Pins{Certificates: []string{strings.Repeat("ab", 31) + "00"}, Keys: []string{"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}},
			},
		},
		{common: `"validationContext":{"verifyCertificateHash":["ab"]}`, refusal: "is no SHA-256"},
		{common: `"validationContext":{"matchTypedSubjectAltNames":[` + san("URI", "x") + `]}`, refusal: "names of a peer without a trusted_ca"},
		{common: `"validationContext":{` + ca + `,"matchTypedSubjectAltNames":[` + san("URI", "") + `]}`, refusal: "an empty one"},
		{common: `"validationContext":{` + ca + `,"matchTypedSubjectAltNames":[` + san("OTHER_NAME", "x") + `]}`, refusal: "OTHER_NAME is not supported"},
		{common: `"combinedValidationContext":{}`, refusal: "tls: a secret without a name"},
		{common: `"validationContext":{` + ca + `,"allowExpiredCertificate":true}`, refusal: "allow_expired_certificate is not supported"},
	}
	for _, tt := range tests {
		got := cluster(t, `{`+eds+`,"transportSocket":`+upstream+`"commonTlsContext":{`+tt.common+`}}}}`)
		if tt.refusal != "" {
			if !strings.Contains(got.Refusal, tt.refusal) || got.TLS != nil || got.Kind != mesh.ClusterStatic || got.Endpoints.Healthy() != 0 {
				t.Errorf("%s: got %+v, want refusal %q", tt.common, got, tt.refusal)
			}
			continue
		}
		equal(t, tt.want, got.TLS)
	}
}

func TestRefusedClusters(t *testing.T) {
	t.Parallel()
	for want, text := range map[string]string{
		"Cluster.filters is not supported":  eds + `,"filters":[{"name":"x"}]`,
		"lb_subset_config is not supported": eds + `,"lbSubsetConfig":{}`,
		"LOAD_BALANCING_POLICY_CONFIG":      eds + `,"lbPolicy":"LOAD_BALANCING_POLICY_CONFIG"`,
		"CLUSTER_PROVIDED on a cluster":     eds + `,"lbPolicy":"CLUSTER_PROVIDED"`,
		"endpoints from elsewhere":          `"type":"EDS"`,
		"DNS cluster without a name":        `"type":"STRICT_DNS"`,
		"LOGICAL_DNS cluster of several names": `"type":"LOGICAL_DNS","loadAssignment":{"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"a","portValue":1}}}},` +
			`{"endpoint":{"address":{"socketAddress":{"address":"b","portValue":1}}}}]}]}`,
		"dns_failure_refresh_rate from 2s to 1s":    `"type":"STRICT_DNS","dnsFailureRefreshRate":{"baseInterval":"2s","maxInterval":"1s"},"loadAssignment":{"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"a","portValue":1}}}}]}]}`,
		"cluster type x is not supported":           `"clusterType":{"name":"x"}`,
		"protocol options x are not supported":      eds + `,"typedExtensionProtocolOptions":{"x":{"@type":"type.googleapis.com/x.X"}}`,
		"neither HTTP/1.1 nor HTTP/2":               eds + `,"typedExtensionProtocolOptions":{"x":{"@type":"` + googleapis + `extensions.upstreams.http.v3.HttpProtocolOptions"}}`,
		"auto_config without TLS":                   eds + `,"typedExtensionProtocolOptions":{"x":{"@type":"` + googleapis + `extensions.upstreams.http.v3.HttpProtocolOptions","autoConfig":{}}}`,
		"transport_socket_matches is not supported": eds + `,"transportSocketMatches":[{"name":"x"}]`,
	} {
		if got := cluster(t, `{`+text+`}`); !strings.Contains(got.Refusal, want) && !strings.Contains(got.Refusal, "HttpProtocolOptions.auto_config") {
			t.Errorf("%s: got refusal %q, want %q", text, got.Refusal, want)
		}
	}
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	set, notes, err := resource.Endpoints(bytesOf(t, `{"clusterName":"c","policy":{"overprovisioningFactor":100000},"endpoints":[{"lbEndpoints":[
		{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":80}},
			"additionalAddresses":[{"address":{"socketAddress":{"address":"fd00::1","portValue":80}}}]},"healthStatus":"HEALTHY","loadBalancingWeight":7},
		{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.2","portValue":80}}},"healthStatus":"UNHEALTHY"},
		{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.3","portValue":80}}},"healthStatus":"DRAINING"},
		{"endpoint":{"address":{"socketAddress":{"address":"a.example","portValue":80}}}},
		{"endpoint":{"address":{"pipe":{"path":"/x"}}},"healthStatus":"DEGRADED"},
		{"endpointName":"x"}]},{"priority":1,"lbEndpoints":[{"endpoint":{"hostname":"h","address":{"socketAddress":{"address":"::1","portValue":80}}}}]}]}`,
		&endpointv3.ClusterLoadAssignment{}))
	if err != nil {
		t.Fatal(err)
	}
	at := func(s string) mesh.Address { return mesh.Address{AddrPort: netip.MustParseAddrPort(s)} }
	equal(t, &mesh.EndpointSet{Name: "c", Overprovisioning: 100000, Endpoints: []mesh.Endpoint{
		{Address: at("10.0.0.1:80"), Weight: 7, Others: []netip.AddrPort{netip.MustParseAddrPort("[fd00::1]:80")}},
		{Address: at("10.0.0.2:80"), Weight: 1, Health: mesh.Unhealthy},
		{Address: at("10.0.0.3:80"), Weight: 1, Health: mesh.Draining},
		{Address: mesh.Address{Socket: "/x"}, Weight: 1, Health: mesh.Degraded},
		{Address: at("[::1]:80"), Weight: 1, Hostname: "h", Priority: 1},
	}}, set)
	if len(notes) != 2 || set.Healthy() != 3 {
		t.Errorf("got %q", notes)
	}
}

// What is said of clusters and endpoints for who logs is taken as it is, but for what is too much.
func TestMetadata(t *testing.T) {
	t.Parallel()
	deep, long := strings.Repeat(`[`, 40)+strings.Repeat(`]`, 40), strings.Repeat("x", 64<<10)
	for _, row := range []struct {
		text, note string
		want       mesh.Metadata
	}{
		{`{}`, "", nil},
		{`{"a":{}}`, "", nil},
		{`{"a":{"s":"x","n":1.5,"l":[true,null],"m":{"k":"v"}}}`, "", mesh.Metadata{"a": {"s": "x", "n": 1.5, "l": []any{true, nil}, "m": map[string]any{"k": "v"}}}},
		{`{"a":{"deep":` + deep + `},"b":{"k":"v"}}`, "deeper than 32", mesh.Metadata{"b": {"k": "v"}}},
		{`{"a":{"long":"` + long + `"}}`, "too much", nil},
	} {
		said := `"metadata":{"filterMetadata":` + row.text + `}`
		c, notes, err := resource.Cluster(bytesOf(t, `{`+eds+`,`+said+`}`, &clusterv3.Cluster{}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, row.want, c.Metadata)
		set, told, err := resource.Endpoints(bytesOf(t, `{"clusterName":"c","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"10.0.0.1","portValue":80}}},`+
			said+`}]}]}`, &endpointv3.ClusterLoadAssignment{}))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, row.want, set.Endpoints[0].Metadata)
		for _, all := range [][]string{notes, told} {
			if text := strings.Join(all, "\n"); !strings.Contains(text, row.note) || row.note == "" && text != "" {
				t.Errorf("%.100s: told %q", row.text, text)
			}
		}
	}
}

// What goes by the host of a request leaves alone what is configured, which counts for
// all other connections. What is typed goes before the deprecated field.
func TestClusterAutoNames(t *testing.T) {
	t.Parallel()
	typed := func(text string) string {
		return `,"typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"` + googleapis + `extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"httpProtocolOptions":{}}` + text + `}}`
	}
	const san1, sni = `"upstreamHttpProtocolOptions":{"autoSanValidation":true}`, `,"upstreamHttpProtocolOptions":{"autoSni":true}`
	for _, tt := range []struct {
		options  string
		sni, san bool
	}{
		{typed("," + san1), false, true},
		{typed(","+san1) + sni, false, true},
		{typed("") + sni, true, false},
		{sni, true, false},
		{typed(""), false, false},
	} {
		for names, anybody := range map[string]bool{`,"matchTypedSubjectAltNames":[` + san("DNS", "a.example") + `]`: false, "": true} {
			want := &mesh.UpstreamTLS{Roots: mesh.Roots{PEM: "CA"}, AutoSNI: tt.sni, AutoSAN: tt.san, AnyPeer: anybody}
			if !anybody {
				want.DNSNames = []string{"a.example"}
			}
			equal(t, want, cluster(t, `{`+eds+tt.options+`,"transportSocket":`+upstream+`"commonTlsContext":{"validationContext":{`+ca+names+`}}}}}`).TLS)
		}
	}
}
