package integration_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestLocalReplyConfigAsEnvoy compares what answers of the proxy's own look like where the connection manager says how.
func TestLocalReplyConfigAsEnvoy(t *testing.T) {
	t.Parallel()
	status := func(op string, code int) string {
		return fmt.Sprintf(`"filter":{"status_code_filter":{"comparison":{"op":%q,"value":{"default_value":%d,"runtime_key":"x"}}}}`, op, code)
	}
	text := func(s string) string { return fmt.Sprintf(`{"text_format_source":{"inline_string":%q}}`, s) }
	add := func(value string) string {
		return `"headers_to_add":[{"header":{"key":"x-added","value":"` + value + `"}}]`
	}
	const json = `{"json_format":{"code":"%RESPONSE_CODE%","path":"%REQ(:PATH)%","body":"%LOCAL_REPLY_BODY%","n":7}}`
	header := `"filter":{"header_filter":{"header":{"name":"x-json","present_match":true}}}`
	mappers := `"mappers":[
		{` + header + `,"body_format_override":` + json + `},
		{` + status("EQ", 404) + `,"status_code":410,"body":{"inline_string":"it is gone"},` + add("%RESPONSE_CODE% %REQ(:PATH)%") + `},
		{` + status("EQ", 503) + `,"body":{"inline_string":"not now"},"body_format_override":{"text_format":"<%LOCAL_REPLY_BODY%>","content_type":"text/html; charset=x"}},
		{` + status("EQ", 302) + `,"body":{"inline_string":"elsewhere"}},
		{` + status("EQ", 418) + `,"body":{"inline_string":""},"body_format_override":` + text("%LOCAL_REPLY_BODY%") + `},
		{` + status("EQ", 202) + `,"headers_to_add":[{"header":{"key":"content-type","value":"a/b"},"append_action":"OVERWRITE_IF_EXISTS_OR_ADD"}],"body":{"inline_string":"own"}},
		{` + status("EQ", 403) + `,"status_code":401}]`
	table := `{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[
		{"match":{"prefix":"/direct"},"response_headers_to_add":[{"header":{"key":"x-added","value":"route"}}],"direct_response":{"status":200,"body":{"inline_string":"hi"}}},{"match":{"prefix":"/teapot"},"direct_response":{"status":418,"body":{"inline_string":"short"}}},
		{"match":{"prefix":"/202"},"direct_response":{"status":202,"body":{"inline_string":"taken"}}},{"match":{"prefix":"/redirect"},"redirect":{"path_redirect":"/x","response_code":"FOUND"}},
		{"match":{"prefix":"/nowhere"},"route":{"cluster":"nowhere"}},{"match":{"prefix":"/app"},"route":{"cluster":"a"}}]}]}`
	deny := httpFilter(rbacAny, `"rules":{"action":"DENY","policies":{"p":{"permissions":[{"url_path":{"path":{"prefix":"/app/denied"}}}],"principals":[{"any":true}]}}}`)
	w := newChainTwins(t,
		managerChain{`"local_reply_config":{` + mappers + `,"body_format":` + text("%RESPONSE_CODE%: %LOCAL_REPLY_BODY%\n") + `}`, deny, table},
		managerChain{`"local_reply_config":{` + mappers + `}`, deny, table},
		managerChain{`"local_reply_config":{"body_format":` + json + `}`, deny, table},
	)
	w.bodies = true
	var asks []routeAsk
	for i := range 3 {
		for _, path := range []string{"/direct", "/teapot", "/202", "/redirect?x", "/app", "/app/missing", "/app/denied"} {
			asks = append(asks, routeAsk{i, "GET", "h", path, nil, ""}, routeAsk{i, "GET", "h", path, []string{"X-Json: 1"}, ""})
			if path != "/app" && path != "/app/missing" {
				asks = append(asks, routeAsk{i, "POST", "h", path, []string{"Content-Type: application/grpc"}, ""})
			}
		}
	}
	for _, path := range []string{"/nothing", "/nowhere"} { // whose own bodies are not the same
		asks = append(asks, routeAsk{0, "GET", "h", path, nil, ""}, routeAsk{1, "GET", "h", path, nil, ""}, routeAsk{1, "POST", "h", path, []string{"Content-Type: application/grpc"}, ""})
	}
	w.same(t, asks)
}

// TestManagerFieldsAsEnvoy compares what a connection manager does to hosts, schemes and the client's address.
func TestManagerFieldsAsEnvoy(t *testing.T) {
	t.Parallel()
	const detection = "type.googleapis.com/envoy.extensions.http.original_ip_detection."
	xff := func(config string) string {
		return `"original_ip_detection_extensions":[{"name":"x","typed_config":{"@type":"` + detection + `xff.v3.XffConfig"` + comma(config) + `}}]`
	}
	custom := func(config string) string {
		return `{"name":"c","typed_config":{"@type":"` + detection + `custom_header.v3.CustomHeaderConfig","header_name":"X-Real"` + comma(config) + `}}`
	}
	told := `{"request_headers_to_add":[{"header":{"key":"x-add","value":"%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"}}],"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"a"}}]}]}`
	cidrs := `"xff_trusted_cidrs":{"cidrs":[{"address_prefix":"127.0.0.0","prefix_len":8},{"address_prefix":"10.0.0.0","prefix_len":8}]}`
	w := newChainTwins(t,
		managerChain{manager: `"strip_trailing_host_dot":true`, table: `{"virtual_hosts":[{"name":"v","domains":["x.example","x.example:80"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"a"}}]}]}`},
		managerChain{manager: `"scheme_header_transformation":{"scheme_to_overwrite":"https"}`, table: `{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"redirect":{"path_redirect":"/x"}}]}]}`},
		managerChain{manager: xff(""), table: told}, managerChain{manager: xff(`"xff_num_trusted_hops":1,"skip_xff_append":false`), table: told}, managerChain{manager: xff(cidrs), table: told},
		managerChain{manager: xff(`"xff_trusted_cidrs":{"cidrs":[{"address_prefix":"10.0.0.0","prefix_len":8}]}`), table: told},
		managerChain{manager: `"original_ip_detection_extensions":[` + custom("") + `]`, table: told}, managerChain{manager: `"original_ip_detection_extensions":[` + custom(`"reject_with_status":{"code":"TooManyRequests"}`) + `]`, table: told},
		managerChain{manager: `"original_ip_detection_extensions":[` + custom("") + `,{"name":"x","typed_config":{"@type":"` + detection + `xff.v3.XffConfig","skip_xff_append":false}}]`, table: told},
		managerChain{manager: `"common_http_protocol_options":{"max_requests_per_connection":2}`, table: told},
		managerChain{manager: `"add_user_agent":true`, table: told},
	)
	var asks []routeAsk
	for _, host := range []string{"x.example.", "x.example.:80", "x.example", "y.", "x.example..", "."} {
		asks = append(asks, routeAsk{0, "GET", host, "/", nil, ""})
	}
	asks = append(asks, routeAsk{1, "GET", "h:80", "/", nil, ""}, routeAsk{1, "GET", "h", "/", []string{"X-Forwarded-Proto: http"}, ""})
	for i := 2; i < 9; i++ {
		for _, fields := range [][]string{
			nil,
			{"X-Forwarded-For: 1.2.3.4"},
			{"X-Forwarded-For: 1.2.3.4, 10.1.1.1 ,127.0.0.1"},
			{"X-Forwarded-For: 10.1.1.1,10.2.2.2"},
			{"X-Forwarded-For: 1.2.3.4", "X-Forwarded-For: 5.6.7.8"},
			{"X-Forwarded-For: junk"},
			{"X-Forwarded-For: 1.2.3.4,junk,10.1.1.1"},
			{"X-Forwarded-For: ::1"},
			{"X-Real: 9.8.7.6"},
			{"X-Real: 9.8.7.6", "X-Real: 1.1.1.1"},
			{"X-Real: junk", "X-Forwarded-For: 1.2.3.4"},
			{"X-Real: 2001:db8::1"},
		} {
			asks = append(asks, routeAsk{i, "GET", "h", "/", fields, ""})
		}
	}
	asks = append(asks, routeAsk{10, "GET", "h", "/", nil, ""}, routeAsk{10, "GET", "h", "/", []string{"User-Agent: ", "X-Envoy-Downstream-Service-Node: x"}, ""})
	w.same(t, asks)
	for _, kind := range kinds() {
		if n := requestsPerConnection(t, local(w.all[kind].ports[9])); n != 2 {
			t.Errorf("%s: %d requests on a connection", kind, n)
		}
	}
}

// requestsPerConnection are those that a connection takes of five, until it says that it closes.
func requestsPerConnection(t *testing.T, addr string) int {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	answers := bufio.NewReader(conn)
	for n := range 5 {
		if _, err := io.WriteString(conn, request("GET /")); err != nil {
			return n
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			return n
		}
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.Close {
			return n + 1
		}
	}
	return 5
}
