package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// upgrader answers a head with 200, or with 101 if it asks for another protocol, and then all bytes with themselves.
func upgrader(conn net.Conn) {
	b := make([]byte, 4096)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return
		}
		answer := string(b[:n])
		switch {
		case strings.Contains(answer, "upgrade: websocket"):
			answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
		case strings.HasPrefix(answer, "GET "):
			answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
		}
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
	}
}

// metadataFilters are filters of access logs by dynamic metadata, by what they stand for.
func metadataFilters() map[string]string {
	at := func(key, value, more string) string {
		return fmt.Sprintf(`{"matcher":{"filter":"own","path":[{"key":%q}],"value":%s%s`, key, value, more)
	}
	return map[string]string{
		"string": at("s", `{"string_match":{"exact":"v"}}`, `}}`), "other": at("s", `{"string_match":{"exact":"w"}}`, `}}`),
		"prefix": at("s", `{"string_match":{"prefix":"v"}}`, `}}`), "inverted": at("s", `{"string_match":{"exact":"w"}}`, `,"invert":true}}`),
		"inverted too": at("s", `{"string_match":{"exact":"v"}}`, `,"invert":true}}`), "present": at("s", `{"present_match":true}`, `}}`),
		"not present": at("s", `{"present_match":false}`, `}}`), "missing": at("x", `{"present_match":true}`, `}}`),
		"missing matters": at("x", `{"present_match":true}`, `},"match_if_key_not_found":false}`), "number": at("n", `{"double_match":{"exact":7}}`, `}}`),
		"range": at("n", `{"double_match":{"range":{"start":7,"end":8}}}`, `}}`), "below": at("n", `{"double_match":{"range":{"start":1,"end":7}}}`, `}}`),
		"or": at("s", `{"or_match":{"value_matchers":[{"bool_match":true},{"string_match":{"exact":"v"}}]}}`, `}}`), "bool": at("s", `{"bool_match":true}`, `}}`),
		"null": at("s", `{"null_match":{}}`, `}}`),
	}
}

// TestLogMomentsAsEnvoy has both write of requests and connections before their end, and choose by metadata and header fields.
func TestLogMomentsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	clusters := []json.RawMessage{clusterAt("echo", accepting(t, upgrader).String()), clusterAt("refused", "127.0.0.1:1")}
	const line = "%ACCESS_LOG_TYPE% %REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %UPSTREAM_CLUSTER% %UPSTREAM_HOST% %ROUTE_NAME%\n"
	var paths []string
	twins := staticTwins(t, env, 5, func(ports []int) (_, listeners []json.RawMessage) {
		path := filepath.Join(env.Dir(), fmt.Sprintf("moments%d.", len(paths)))
		paths = append(paths, path)
		logs := []json.RawMessage{fileLog(path+"http", "", textFormat(line))}
		for name, filter := range metadataFilters() {
			logs = append(logs, fileLog(path+name, fmt.Sprintf(`"filter":{"metadata_filter":%s},`, filter), textFormat(line)))
		}
		logs = append(logs, fileLog(path+"header", `"filter":{"header_filter":{"header":{"name":"x-s","string_match":{"exact":"v"}}}},`, textFormat(line)),
			fileLog(path+"type", `"filter":{"log_type_filter":{"types":["DownstreamStart"]}},`, textFormat(line)))
		rule := func(header, key, typ string) string {
			return fmt.Sprintf(`{"header":%q,"on_header_present":{"metadata_namespace":"own","key":%q,"type":%q}}`, header, key, typ)
		}
		hcm := func(more string) json.RawMessage {
			return fmt.Appendf(nil, `{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"h",%s,"access_log":%s,"upgrade_configs":[{"upgrade_type":"websocket"}],"http_filters":[{"name":"h2m","typed_config":
				{"@type":%q,"request_rules":[%s,%s]}},{"name":"router","typed_config":{"@type":%q}}],"route_config":{"name":"rc","virtual_hosts":[{"name":"v","domains":["*"],
				"routes":[{"name":"all","match":{"prefix":"/"},"route":{"cluster":"echo"}}]}]}}}`, hcmType, more, asJSON(logs), h2mAny, rule("x-s", "s", "STRING"), rule("x-n", "n", "NUMBER"), routerAny)
		}
		tcp := func(name, cluster, more string) json.RawMessage {
			return fmt.Appendf(nil, `{"name":"tcp","typed_config":{"@type":%q,"stat_prefix":"t","cluster":%q,%s,"access_log":[%s]}}`, tcpAny, cluster, more, fileLog(path+name, "", textFormat(line)))
		}
		return clusters, []json.RawMessage{
			boundListener("http", ports[0], nil, []json.RawMessage{hcm(`"access_log_options":{"flush_access_log_on_new_request":true,"flush_log_on_tunnel_successfully_established":true}`)}, "{}"),
			boundListener("old", ports[1], nil, []json.RawMessage{hcm(`"flush_access_log_on_new_request":true`)}, "{}"),
			boundListener("tcp", ports[2], nil, []json.RawMessage{tcp("tcp", "echo", `"access_log_options":{"flush_access_log_on_connected":true,"access_log_flush_interval":"0.1s"}`)}, "{}"),
			boundListener("tcpold", ports[3], nil, []json.RawMessage{tcp("tcpold", "echo", `"flush_access_log_on_connected":true,"access_log_flush_interval":"0.1s"`)}, "{}"),
			boundListener("tcprefused", ports[4], nil, []json.RawMessage{tcp("tcprefused", "refused", `"access_log_options":{"flush_access_log_on_connected":true}`)}, "{}"),
		}
	})
	for i, kind := range kinds() {
		twin, path := twins[kind], paths[i]
		exchangeRaw(t, twin.ports[0], "GET /plain HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-s: v\r\nx-n: 7\r\n\r\n")
		upgrade := "GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
		sayAndHear(t, twin.ports[0], upgrade, "hello", func() {})
		sayAndHear(t, twin.ports[1], upgrade, "hello", func() {})
		for j, name := range []string{"tcp", "tcpold"} {
			sayAndHear(t, twin.ports[2+j], "", "hello", func() {
				eventually(t, "lines of what lasts", func(context.Context) error {
					if text, err := os.ReadFile(path + name); err != nil || strings.Count(string(text), "TcpPeriodic - 0 - 5 5") < 2 {
						return fmt.Errorf("%s (%w)", text, err)
					}
					return nil
				})
			})
		}
		exchangeRaw(t, twin.ports[4], "x")
		for name, n := range map[string]int{"http": 7, "type": 3, "header": 2, "tcprefused": 1} {
			waitLines(t, path+name, n)
		}
		for _, name := range []string{"tcp", "tcpold"} {
			eventually(t, "the last line", func(context.Context) error {
				if text, err := os.ReadFile(path + name); err != nil || !strings.Contains(string(text), "TcpConnectionEnd - 0 - 5 5") {
					return fmt.Errorf("%s (%w)", text, err)
				}
				return nil
			})
		}
	}
	read := map[string]map[string]string{}
	eventually(t, "the same lines", func(context.Context) error { // each file is written in its own time
		for i, kind := range kinds() {
			read[kind] = linesOfMoments(t, paths[i])
		}
		if diff := cmp.Diff(read["envoy"], read["serai"]); diff != "" {
			return fmt.Errorf("-envoy +serai:\n%s", diff)
		}
		return nil
	})
	for name, text := range read["envoy"] {
		t.Logf("%s:\n%s", name, text)
	}
}

// linesOfMoments are the lines of all logs by their names, in order.
func linesOfMoments(t *testing.T, path string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range append([]string{"http", "header", "type", "tcp", "tcpold", "tcprefused"}, slices.Collect(maps.Keys(metadataFilters()))...) {
		text, err := os.ReadFile(path + name)
		if !errors.Is(err, os.ErrNotExist) {
			must(t, err)
		}
		var lines []string
		for line := range strings.Lines(string(text)) {
			// staticTwins itself has looked whether listeners are there; and when a line is due is chance.
			// A tunnel that its client ends has a flag in Envoy, as if it were cut off.
			line = strings.Replace(line, "/ws 101 DC", "/ws 101 -", 1)
			if !strings.HasPrefix(line, "Tcp") || strings.Contains(line, " 5 5 ") || name == "tcprefused" || strings.HasPrefix(line, "TcpUpstreamConnected") {
				lines = append(lines, line)
			}
		}
		if slices.Sort(lines); strings.HasPrefix(name, "tcp") {
			lines = slices.Compact(lines)
		}
		all[name] = strings.Join(lines, "")
	}
	return all
}

// sayAndHear sends a head, if there is one, and words that come back, and closes when meanwhile has returned.
func sayAndHear(t *testing.T, port int, head, words string, meanwhile func()) {
	t.Helper()
	conn, err := net.Dial("tcp", local(port))
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	for _, text := range []string{head, words} {
		_, err = io.WriteString(conn, text)
		must(t, err)
		heard := ""
		b := make([]byte, 4096)
		for text != "" && !strings.Contains(heard, "\r\n\r\n") && heard != text {
			n, err := conn.Read(b)
			must(t, err)
			heard += string(b[:n])
		}
	}
	meanwhile()
}
