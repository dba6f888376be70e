package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// logUpstreams are applications that misbehave, each in its own way.
func logUpstreams(p *progress) map[string]func(conn net.Conn) {
	head := func(conn net.Conn) {
		var all []byte
		b := make([]byte, 4096)
		for !strings.Contains(string(all), "\r\n\r\n") {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			all = append(all, b[:n]...)
		}
	}
	say := func(text string) func(net.Conn) {
		return func(conn net.Conn) {
			head(conn)
			_, _ = io.WriteString(conn, text)
		}
	}
	return map[string]func(net.Conn){
		"ok":     say("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-type: text/plain\r\nconnection: close\r\n\r\nhello"),
		"closer": head,
		"bad":    say("garbage\r\n\r\n"),
		"f503":   say("HTTP/1.1 503 X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"),
		"hang": func(conn net.Conn) {
			head(conn)
			announce(p.begun)
			_, _ = io.Copy(io.Discard, conn)
		},
	}
}

// clusterAt is a static cluster; without an address it has no endpoint.
func clusterAt(name, address string) json.RawMessage {
	endpoints := ""
	if host, port, err := net.SplitHostPort(address); err == nil {
		endpoints = fmt.Sprintf(`{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":%q,"port_value":%s}}}}]}`, host, port)
	}
	return fmt.Appendf(nil, `{"name":%q,"type":"STATIC","connect_timeout":"0.5s","load_assignment":{"cluster_name":%q,"endpoints":[%s]}}`, name, name, endpoints)
}

const (
	fileLogAny = "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog"
	tcpAny     = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
	routerAny  = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
)

// asJSON is v as JSON, for a test's own maps.
func asJSON(v any) json.RawMessage {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return text
}

// fileLog is an access log of a text, with what goes before its typed config.
func fileLog(path, before, format string) json.RawMessage {
	return fmt.Appendf(nil, `{"name":"f",%s"typed_config":{"@type":%q,"path":%q,"log_format":%s}}`, before, fileLogAny, path, format)
}

func textFormat(text string) string {
	return fmt.Sprintf(`{"text_format_source":{"inline_string":%q}}`, text)
}

func boundListener(name string, port int, logs, filters []json.RawMessage, match string) json.RawMessage {
	return asJSON(map[string]any{
		"name": name, "address": map[string]any{"socket_address": map[string]any{"address": "127.0.0.1", "port_value": port}},
		"access_log":    logs,
		"filter_chains": []any{map[string]any{"name": "fc", "filters": filters, "filter_chain_match": json.RawMessage(match)}},
	})
}

func tcpFilter(cluster string, logs ...json.RawMessage) json.RawMessage {
	return asJSON(map[string]any{"name": "tcp", "typed_config": map[string]any{"@type": tcpAny, "stat_prefix": "t", "cluster": cluster, "access_log": logs}})
}

// logOperators are operators whose values both must agree on, after times and ports have been masked.
func logOperators() map[string]any {
	all := map[string]any{}
	for op := range strings.FieldsSeq(`ACCESS_LOG_TYPE BYTES_RECEIVED BYTES_SENT CLUSTER_METADATA(a:b) CONNECTION_TERMINATION_DETAILS CUSTOM_FLAGS
		DOWNSTREAM_DIRECT_LOCAL_ADDRESS DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_DIRECT_REMOTE_ADDRESS DOWNSTREAM_LOCAL_ADDRESS
		DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT DOWNSTREAM_PEER_CERT_V_START DOWNSTREAM_PEER_FINGERPRINT_256 DOWNSTREAM_PEER_SUBJECT DOWNSTREAM_PEER_URI_SAN
		DOWNSTREAM_REMOTE_ADDRESS DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT DOWNSTREAM_REMOTE_PORT DOWNSTREAM_TLS_CIPHER DOWNSTREAM_TLS_VERSION
		DYNAMIC_METADATA(a:b) ENVIRONMENT(NOPE) FILTER_CHAIN_NAME FILTER_STATE(x) GRPC_STATUS GRPC_STATUS_NUMBER HOSTNAME LOCAL_REPLY_BODY PATH PATH(NQ) PATH(WQ:ORIG)
		PATH(NQ:PATH) PROTOCOL QUERY_PARAM(a) QUERY_PARAM(b):2 REQ(:AUTHORITY) REQ(:METHOD) REQ(:SCHEME) REQ(CONTENT-LENGTH) REQ(HOST) REQ(USER-AGENT) REQ(X-A):3
		REQ(X-EMPTY) REQ(X-ENVOY-EXPECTED-RQ-TIMEOUT-MS) REQ(X-ENVOY-ORIGINAL-PATH?:PATH) REQ(X-FORWARDED-FOR) REQ(X-FORWARDED-PROTO) REQ(X-NONE) REQ(X-ODD)
		REQ(X-REQUEST-ID) REQUESTED_SERVER_NAME RESP(:STATUS) RESP(CONTENT-TYPE) RESP(SERVER) RESP(X-ENVOY-UPSTREAM-SERVICE-TIME) RESPONSE_CODE RESPONSE_CODE_DETAILS
		RESPONSE_FLAGS RESPONSE_FLAGS_LONG RESPONSE_TRAILERS_BYTES ROUTE_NAME STREAM_ID TRACE_ID TRAILER(X) UPSTREAM_CLUSTER UPSTREAM_CLUSTER_RAW UPSTREAM_HOST
		UPSTREAM_LOCAL_ADDRESS UPSTREAM_PROTOCOL UPSTREAM_REMOTE_ADDRESS UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT UPSTREAM_REQUEST_ATTEMPT_COUNT
		UPSTREAM_TRANSPORT_FAILURE_REASON VIRTUAL_CLUSTER_NAME START_TIME START_TIME(%s) DURATION REQUEST_DURATION RESPONSE_DURATION RESPONSE_TX_DURATION
		START_TIME_LOCAL COMMON_DURATION(DS_RX_BEG:DS_TX_END:us) UNIQUE_ID`) {
		all[op] = "%" + op + "%"
	}
	all["mixed"] = "a %REQ(X-NONE)% %PROTOCOL% %RESPONSE_CODE% 100%%"
	all["nested"] = map[string]any{"b": 1.5, "a": []any{true, nil, "%RESPONSE_CODE%", map[string]any{"x": "%REQ(X-NONE)%"}}}
	all["odd \"key\"\n"] = "\t\"é"
	return all
}

// masked replaces what cannot be the same for both in a line: times, ports that the system chose, identifiers.
func masked(line string, ports []int) string {
	for i, port := range ports {
		line = strings.ReplaceAll(line, fmt.Sprintf(":%d", port), fmt.Sprintf(":LISTENER%d", i))
	}
	for _, mask := range [][2]string{
		{`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}`, "UUID"},
		{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+0000)`, "TIME$1"},
		{`"(START_TIME\(%s\)|RESP\(X-ENVOY-UPSTREAM-SERVICE-TIME\))":"\d+"`, `"$1":"N"`},
		{`"([A-Z_]*DURATION[^"]*)":\d+`, `"$1":N`},
		{`"((DOWNSTREAM_DIRECT_REMOTE|DOWNSTREAM_REMOTE|UPSTREAM_LOCAL)_ADDRESS)":"127.0.0.1:\d+"`, `"$1":"127.0.0.1:N"`},
		{`"DOWNSTREAM_REMOTE_PORT":[1-9]\d*`, `"DOWNSTREAM_REMOTE_PORT":N`},
	} {
		line = regexp.MustCompile(mask[0]).ReplaceAllString(line, mask[1])
	}
	if !strings.Contains(line, "via_upstream") {
		// What we say ourselves has texts of our own, and a charset; and Envoy tells of its timeout later than we do.
		line = regexp.MustCompile(`"(BYTES_SENT|RESP\(CONTENT-TYPE\)|REQ\(X-ENVOY-EXPECTED-RQ-TIMEOUT-MS\))":[^,]*`).ReplaceAllString(line, `"$1":OWN`)
	}
	return regexp.MustCompile(`-MS\)":"14\d{3}"`).ReplaceAllString(line, `-MS)":"15000"`) // what is left of it, in a retry
}

// exchangeRaw sends text and reads all that comes back, until the other side closes, however that is: the log tells.
func exchangeRaw(t *testing.T, port int, text string) {
	t.Helper()
	speakTo(t, local(port), text, func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
}

// waitLines waits until a log has so many lines.
func waitLines(t *testing.T, path string, n int) []string {
	t.Helper()
	return waitLinesThat(t, path, n, func(lines []string) []string { return lines })
}

// waitLinesThat waits until a log has so many whole lines of those that count.
func waitLinesThat(t *testing.T, path string, n int, count func([]string) []string) []string {
	t.Helper()
	var lines []string
	eventually(t, "lines of "+path, func(context.Context) error {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		whole := string(text[:bytes.LastIndexByte(text, '\n')+1])
		if lines = count(strings.FieldsFunc(whole, func(r rune) bool { return r == '\n' })); len(lines) < n {
			return fmt.Errorf("%d of %d lines:\n%s", len(lines), n, text)
		}
		return nil
	})
	return lines
}

// TestAccessLogsAsEnvoy gives both the same configuration and requests, and compares their logs line by line.
func TestAccessLogsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	clusters := []json.RawMessage{clusterAt("none", ""), clusterAt("refused", "127.0.0.1:1")}
	progress := newProgress()
	for name, serve := range logUpstreams(progress) {
		cluster := clusterAt(name, accepting(t, serve).String())
		if name == "ok" {
			cluster = json.RawMessage(strings.Replace(string(cluster), `"type"`, `"alt_stat_name":"ok_called_so","type"`, 1))
		}
		clusters = append(clusters, cluster)
	}
	const words = "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG% %RESPONSE_CODE_DETAILS% %UPSTREAM_TRANSPORT_FAILURE_REASON% " +
		"%CONNECTION_TERMINATION_DETAILS% %UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %PROTOCOL% %ROUTE_NAME%\n"
	route := func(prefix, cluster, more string) json.RawMessage {
		return fmt.Appendf(nil, `{"name":"r-%s","match":{"prefix":%q},"route":{"cluster":%q%s}}`, prefix[1:], prefix, cluster, more)
	}
	routes := []json.RawMessage{
		route("/ok", "ok", ""), route("/closer", "closer", ""), route("/bad", "bad", ""), route("/none", "none", ""), route("/refused", "refused", ""),
		route("/unknown", "nowhere", ""), route("/hang", "hang", `,"timeout":"0.3s"`), route("/slow", "hang", ""), route("/f503", "f503", `,"retry_policy":{"retry_on":"5xx","num_retries":2}`),
		route("/again", "refused", `,"retry_policy":{"retry_on":"5xx","num_retries":1}`), route("/rewritten/", "ok", `,"prefix_rewrite":"/"`),
		json.RawMessage(`{"match":{"prefix":"/redirect"},"redirect":{"path_redirect":"/x"}}`),
		json.RawMessage(`{"match":{"prefix":"/direct"},"direct_response":{"status":418}}`),
	}
	deny := json.RawMessage(`{"name":"rbac","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC","rules":{"action":"DENY",
		"policies":{"consul-intentions layer7":{"permissions":[{"url_path":{"path":{"prefix":"/denied"}}}],"principals":[{"any":true}]}}}}}`)
	var paths []string // of the logs, by kind
	twins := staticTwins(t, env, 7, func(ports []int) (_, listeners []json.RawMessage) {
		path := filepath.Join(env.Dir(), fmt.Sprintf("log%d.", len(paths)))
		paths = append(paths, path)
		status := `"filter":{"and_filter":{"filters":[{"status_code_filter":{"comparison":{"op":"GE","value":{"default_value":500,"runtime_key":"x"}}}},
			{"header_filter":{"header":{"name":":path","string_match":{"prefix":"/f"}}}}]}},`
		flags := `"filter":{"or_filter":{"filters":[{"response_flag_filter":{"flags":["NR","UH"]}},{"status_code_filter":{"comparison":{"op":"EQ","value":{"default_value":418,"runtime_key":"x"}}}}]}},`
		hcm := asJSON(map[string]any{"name": "hcm", "typed_config": map[string]any{
			"@type": hcmType, "stat_prefix": "h",
			"access_log": []json.RawMessage{
				fileLog(path+"json", "", string(asJSON(map[string]any{"json_format": logOperators()}))), fileLog(path+"text", "", textFormat(words)),
				fileLog(path+"status", status, textFormat(words)), fileLog(path+"flags", flags, textFormat(words)),
				fileLog(path+"omitted", "", string(asJSON(map[string]any{"json_format": map[string]any{"a": "%REQ(X-NONE)%", "b": "x%REQ(X-NONE)%y"}, "omit_empty_values": true}))),
			},
			"http_filters": []json.RawMessage{deny, asJSON(map[string]any{"name": "router", "typed_config": map[string]any{"@type": routerAny}})},
			"route_config": map[string]any{"name": "rc", "validate_clusters": false, "virtual_hosts": []any{map[string]any{"name": "v", "domains": []string{"*"}, "routes": routes}}},
		}})
		tcp := fileLog(path+"tcp", "", textFormat("%UPSTREAM_CLUSTER% "+words))
		nr := fileLog(path+"nr", `"filter":{"response_flag_filter":{"flags":["NR"]}},`, textFormat(words))
		return clusters, []json.RawMessage{
			boundListener("http", ports[0], nil, []json.RawMessage{hcm}, "{}"),
			boundListener("ok", ports[1], []json.RawMessage{nr}, []json.RawMessage{tcpFilter("ok", tcp)}, "{}"),
			boundListener("refused", ports[2], []json.RawMessage{nr}, []json.RawMessage{tcpFilter("refused", tcp)}, "{}"),
			boundListener("none", ports[3], []json.RawMessage{nr}, []json.RawMessage{tcpFilter("none", tcp)}, "{}"),
			boundListener("unknown", ports[4], []json.RawMessage{nr}, []json.RawMessage{tcpFilter("nowhere", tcp)}, "{}"),
			boundListener("nobody", ports[5], []json.RawMessage{nr}, []json.RawMessage{tcpFilter("ok", tcp)}, `{"source_prefix_ranges":[{"address_prefix":"10.0.0.0","prefix_len":8}]}`),
			boundListener("spare", ports[6], nil, []json.RawMessage{tcpFilter("ok")}, "{}"),
		}
	})
	requests := []string{
		"POST /ok/q?a=1&b=%41b+c%20&a=2 HTTP/1.1\r\nhost: Ex.com:80\r\nuser-agent: me\r\nx-a: abcdef\r\nx-empty:\r\nx-forwarded-for: 1.2.3.4, 5.6.7.8\r\nx-request-id: mine\r\n" +
			"x-odd: \"\\ \xc3\xa9 \tz\r\ncontent-length: 3\r\nconnection: close\r\n\r\nabc",
	}
	for _, path := range []string{
		"/ok", "/closer", "/bad", "/none", "/refused", "/unknown", "/hang", "/f503", "/again", "/rewritten/x?y", "/redirect", "/direct", "/denied", "/nomatch", "/slow",
	} {
		requests = append(requests, "GET "+path+" HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
	}
	read := map[string]map[string]string{}
	for i, kind := range kinds() {
		twin := twins[kind]
		for _, request := range requests {
			if strings.Contains(request, "/slow") { // who asks leaves
				forget(progress.begun)
				speakTo(t, local(twin.ports[0]), request, func(net.Conn, *bufio.Reader) { progress.waitBegun(t.Context(), t) })
				continue
			}
			exchangeRaw(t, twin.ports[0], request)
		}
		for _, port := range twin.ports[1:6] {
			exchangeRaw(t, port, "GET / HTTP/1.1\r\n\r\n")
		}
		read[kind] = map[string]string{}
		for suffix, n := range map[string]int{"json": len(requests), "text": len(requests), "status": 1, "flags": 3, "omitted": len(requests), "tcp": 4, "nr": 1} {
			lines := waitLinesThat(t, paths[i]+suffix, n, func(lines []string) []string {
				if suffix == "tcp" || suffix == "nr" {
					// staticTwins itself has looked whether listeners are there, and told nobody else.
					lines = slices.DeleteFunc(lines, func(line string) bool { return strings.HasPrefix(line, "ok") && strings.Contains(line, " DC ") })
					slices.Sort(lines)
					lines = slices.Compact(lines)
				}
				return lines
			})
			for j := range lines {
				lines[j] = masked(lines[j], twin.ports)
			}
			read[kind][suffix] = strings.ReplaceAll(strings.Join(lines, "\n"), `,"`, ",\n\"")
		}
	}
	for suffix, text := range read["envoy"] {
		if diff := cmp.Diff(strings.Split(text, "\n"), strings.Split(read["serai"][suffix], "\n")); diff != "" {
			t.Errorf("%s: -envoy +serai:\n%s", suffix, diff)
		}
	}
	for suffix, text := range read["envoy"] {
		if suffix != "json" {
			t.Logf("%s:\n%s", suffix, text)
		}
	}
}
