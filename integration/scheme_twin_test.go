package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/integration/harness"
)

// TestSchemeAsEnvoy compares what is told of the scheme of a request, wherever that can be seen: in :scheme of an upstream
// that speaks HTTP/2, in header values, by matches of routes and intentions, and in redirects.
func TestSchemeAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := accepting(t, tellScheme).String()
	kinds := []string{
		"", `"use_remote_address":true,`, `"use_remote_address":true,"xff_num_trusted_hops":1,`,
		`"scheme_header_transformation":{"scheme_to_overwrite":"https"},`, `"scheme_header_transformation":{"match_upstream":true},`,
	}
	match := func(scheme string) string {
		return fmt.Sprintf(`"match":{"prefix":"/match","headers":[{"name":":scheme","string_match":{"exact":%q}}]},"direct_response":{"status":200,"body":{"inline_string":%q}}`, scheme, scheme)
	}
	shown := settings([3]string{"x-scheme", "%REQ(:SCHEME)% %REQ(X-FORWARDED-PROTO)%", "APPEND_IF_EXISTS_OR_ADD"})
	routes := fmt.Sprintf(`{"name":"t","response_headers_to_add":%s,"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{%s},{%s},
		{"match":{"prefix":"/away"},"redirect":{"host_redirect":"other"}},{"match":{"prefix":"/secure"},"redirect":{"https_redirect":true}},{"match":{"prefix":"/"},"route":{"cluster":"app"}}]}]}`, shown, match("http"), match("https"))
	deny := httpFilter(rbacAny, `"rules":{"action":"DENY","policies":{"p":{"permissions":[{"and_rules":{"rules":[{"url_path":{"path":{"prefix":"/secret"}}},{"header":{"name":":scheme","string_match":{"exact":"https"}}}]}}],"principals":[{"any":true}]}}}`)
	twins := staticTwins(t, env, len(kinds), func(ports []int) (clusters, listeners []json.RawMessage) {
		for n, kind := range kinds {
			listeners = append(listeners, fmt.Appendf(nil, `{"name":"l%d","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"hcm",
				"typed_config":{"@type":%q,"stat_prefix":"h",%s"http_filters":[%s,{"name":"router","typed_config":{"@type":%q}}],"route_config":%s}}]}]}`, n, ports[n], hcmType, kind, deny, routerAny, routes))
		}
		host, port, err := net.SplitHostPort(app)
		must(t, err)
		return []json.RawMessage{fmt.Appendf(nil, `{"name":"app","connect_timeout":"1s","typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}},
			"load_assignment":{"cluster_name":"app","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":%q,"port_value":%s}}}}]}]}}`, host, port)}, listeners
	})
	var lines []string
	for _, line := range []string{"GET /app", "GET /match", "GET /secret", "GET /away", "GET /secure", "GET http://a/app", "GET https://a/app", "GET HTTPS://a/match", "GET https://a/secret"} {
		for _, proto := range []string{"", "http", "https", "HTTPS", "wss", "https,http"} {
			var fields []string
			if proto != "" {
				fields = []string{"X-Forwarded-Proto: " + proto, "X-Forwarded-For: 192.0.2.1, 192.0.2.2"}
			}
			lines = append(lines, request(line, fields...))
		}
	}
	for n, kind := range kinds {
		for _, line := range lines {
			ours, theirs := answerOf(t, local(twins["serai"].ports[n]), line), answerOf(t, local(twins["envoy"].ports[n]), line)
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Errorf("%s %q: -envoy +serai:\n%s", kind, line, diff)
			}
		}
		for _, scheme := range []string{"http", "https"} {
			for _, proto := range []string{"", "http", "https"} {
				for _, path := range []string{"/app", "/match", "/secret", "/away"} {
					ours, theirs := askOver2(t, local(twins["serai"].ports[n]), scheme, proto, path), askOver2(t, local(twins["envoy"].ports[n]), scheme, proto, path)
					if diff := cmp.Diff(theirs, ours); diff != "" {
						t.Errorf("%s %s over HTTP/2, by %s behind %q: -envoy +serai:\n%s", kind, path, scheme, proto, diff)
					}
				}
			}
		}
	}
}

// tellScheme is an application of HTTP/2 that answers with the :scheme of each request.
func tellScheme(conn net.Conn) {
	if _, err := io.ReadFull(conn, make([]byte, len(http2.ClientPreface))); err != nil {
		return
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if framer.WriteSettings() != nil {
		return
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return
		}
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				_ = framer.WriteSettingsAck()
			}
		case *http2.PingFrame:
			_ = framer.WritePing(true, f.Data)
		case *http2.MetaHeadersFrame:
			_ = framer.WriteHeaders(http2.HeadersFrameParam{StreamID: f.StreamID, BlockFragment: block(":status", "200"), EndHeaders: true})
			_ = framer.WriteData(f.StreamID, true, []byte(f.PseudoValue("scheme")))
		}
	}
}

// block is an HPACK block of fields, by name and value.
func block(fields ...string) []byte {
	var b strings.Builder
	enc := hpack.NewEncoder(&b)
	for i := 0; i < len(fields); i += 2 {
		_ = enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return []byte(b.String())
}

// askOver2 makes a request with that :scheme, and returns the answer.
func askOver2(t *testing.T, addr, scheme, proto, path string) []string {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(t, framer.WriteSettings())
	fields := []string{":method", "GET", ":scheme", scheme, ":path", path, ":authority", "app.example"}
	if proto != "" {
		fields = append(fields, "x-forwarded-proto", proto, "x-forwarded-for", "192.0.2.1, 192.0.2.2")
	}
	must(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block(fields...), EndHeaders: true, EndStream: true}))
	var head http.Header
	var body []byte
	status := 0
	for {
		frame, err := framer.ReadFrame()
		must(t, err)
		ended := false
		switch f := frame.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				must(t, framer.WriteSettingsAck())
			}
		case *http2.MetaHeadersFrame:
			head = http.Header{}
			for _, field := range f.RegularFields() {
				head.Add(field.Name, field.Value)
			}
			_, err := fmt.Sscan(f.PseudoValue("status"), &status)
			must(t, err)
			ended = f.StreamEnded()
		case *http2.DataFrame:
			body = append(body, f.Data()...)
			ended = f.StreamEnded()
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return []string{frame.Header().Type.String()}
		}
		if ended {
			head.Del("Content-Length")
			return compared(head, status, string(body))
		}
	}
}
