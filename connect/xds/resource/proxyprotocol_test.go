package resource_test

import (
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
)

func TestUpstreamProxyProtocol(t *testing.T) {
	t.Parallel()
	socket := func(more string) *mesh.Cluster {
		return cluster(t, `{`+eds+`,"transportSocket":{"name":"p","typedConfig":{"@type":"`+googleapis+
			`extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"`+more+`}}}`)
	}
	raw := `,"transportSocket":{"name":"raw","typedConfig":{"@type":"` + googleapis + `extensions.transport_sockets.raw_buffer.v3.RawBuffer"}}`
	if got := socket(raw); got.ProxyProtocol != 1 || got.TLS != nil || got.Refusal != "" {
		t.Errorf("%+v", got)
	}
	secured := socket(`,"config":{"version":"V2"},"transportSocket":` + upstream + `"sni":"x","commonTlsContext":{"validationContext":{` + ca + `}}}}`)
	if secured.ProxyProtocol != 2 || secured.TLS == nil || secured.TLS.ServerName != "x" {
		t.Errorf("%+v", secured)
	}
	nested := `,"transportSocket":{"name":"p","typedConfig":{"@type":"` + googleapis + `extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"}}`
	for more, want := range map[string]string{
		nested:                                 "twice",
		`,"config":{"addedTlvs":[{"type":1}]}`: "added_tlvs is not supported",
	} {
		if got := socket(more); !strings.Contains(got.Refusal, want) || got.ProxyProtocol != 0 {
			t.Errorf("%s: %+v", more, got)
		}
	}
}
