package integration_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
)

// entrances are connection managers that make requests normal in all ways that Consul's mesh config entry can ask for
// (RequestNormalization), and some more.
func entrances() map[string]string {
	return map[string]string{
		"plain":     "",
		"normal":    `"normalize_path":true,`,
		"merged":    `"normalize_path":true,"merge_slashes":true,`,
		"reject":    `"normalize_path":true,"path_with_escaped_slashes_action":"REJECT_REQUEST",`,
		"redirect":  `"normalize_path":true,"path_with_escaped_slashes_action":"UNESCAPE_AND_REDIRECT",`,
		"unescape":  `"normalize_path":true,"merge_slashes":true,"path_with_escaped_slashes_action":"UNESCAPE_AND_FORWARD",`,
		"no_under":  `"common_http_protocol_options":{"headers_with_underscores_action":"REJECT_REQUEST"},`,
		"drop_und":  `"common_http_protocol_options":{"headers_with_underscores_action":"DROP_HEADER"},`,
		"short":     `"max_request_headers_kb":4,`,
		"websocket": `"upgrade_configs":[{"upgrade_type":"websocket"}],`,
	}
}

// TestEntranceAsEnvoy writes requests byte by byte to our proxy and to Envoy, through connection managers of all kinds,
// and compares what is answered and what the application gets. What differs on purpose stands in
// meantTo.
func TestEntranceAsEnvoy(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var under []string
		for name := range r.Header {
			if strings.Contains(name, "_") || strings.HasPrefix(name, "X-Is") {
				under = append(under, strings.ToLower(name)+"="+strings.Join(r.Header[name], ","))
			}
		}
		slices.Sort(under)
		_ = json.NewEncoder(w).Encode([]string{r.Method, r.Host, r.RequestURI, strings.Join(under, " "), string(body)})
	}))
	t.Cleanup(server.Close)
	clusters := []json.RawMessage{oneCluster("app", "", lbEndpoint(server.Listener.Addr().String(), ""))}
	chains := map[string]string{}
	routes := `{"match":{"path":"/redirect"},"redirect":{"path_redirect":"/new","response_code":"FOUND"}},
		{"match":{"prefix":"/https"},"redirect":{"https_redirect":true}},
		{"match":{"path":"/direct"},"direct_response":{"status":418,"body":{"inline_string":"teapot"}}},
		{"match":{"path_separated_prefix":"/sep"},"route":{"cluster":"app","prefix_rewrite":"/rewritten"}},
		{"match":{"prefix":"/CASE","case_sensitive":false},"route":{"cluster":"app","prefix_rewrite":"/c"}},
		{"match":{"prefix":"/host"},"route":{"cluster":"app","host_rewrite_literal":"other.example"}},
		{"match":{"safe_regex":{"regex":"/re/(a|b)"}},"route":{"cluster":"app","regex_rewrite":{"pattern":{"regex":"^/re/(.)$"},"substitution":"/got/\\1\\1"}}},
		{"match":{"prefix":"/strip"},"route":{"cluster":"app","regex_rewrite":{"pattern":{"regex":"^/strip(/?)(.*)"},"substitution":"/\\2"}}},
		{"match":{"prefix":"/"},"route":{"cluster":"app"}}`
	for name, more := range entrances() {
		chains[name] = httpChain(routes, "", more)
	}
	w := newTrapWorld(t, clusters, chains)
	for name := range chains {
		t.Run(name, func(t *testing.T) {
			for _, raw := range rawRequests() {
				ours, theirs := sayRaw(t, w.at("serai", name), raw), sayRaw(t, w.at("envoy", name), raw)
				if why := meantTo(raw, ours, theirs); why != "" {
					continue
				}
				if diff := gocmp.Diff(theirs, ours); diff != "" {
					t.Errorf("%.300q (-Envoy +ours):\n%s", raw, diff)
				}
			}
		})
	}
}

// meantTo says why the answers to a request differ on purpose.
func meantTo(raw string, ours, theirs rawAnswer) string {
	line, rest, _ := strings.Cut(raw, "\r\n")
	has := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains("\r\n"+rest, text) })
	}
	switch {
	case ours.Status == theirs.Status && ours.Status >= 400:
		return "both refuse it, each in its own words"
	case strings.HasPrefix(line, "BREW "), strings.HasPrefix(line, "get "):
		return "Envoy knows a list of methods, ours takes any token (RFC 9110 section 9.1)"
	case strings.Contains(line, "HTTP/1.0") && theirs.Status == http.StatusUpgradeRequired:
		return "HTTP/1.0 is served without being asked to"
	case theirs.Status == http.StatusUpgradeRequired && ours.Status >= 400:
		return "another version: 400 or 505 in place of 426"
	case has("websocket") && ours.Status == http.StatusOK && theirs.Status == http.StatusOK:
		return "an application that does not switch is heard to the end; Envoy cuts its body off"
	case ours.Status == http.StatusTemporaryRedirect && ours.Location == "http://h.example"+theirs.Location:
		return "with its host, since //name/ alone would lead elsewhere"
	case strings.HasPrefix(line, "GET /// "):
		return "Envoy makes two slashes of three where it merges them"
	case strings.HasSuffix(line, "http/1.1"):
		return "what does not speak HTTP at all is closed without a word"
	case ours.Status != http.StatusBadRequest:
	case strings.ContainsAny(line, "\"<>\\^`{|}#"), has("Host: h.example:x", "Host: user@h", "Host: [::1\r"):
		return "characters that no URI and no authority has (RFC 3986) are never forwarded"
	case has("\r\n folded"), has("Host: twice"), strings.HasPrefix(line, "GET  "), !strings.HasSuffix(raw, "\r\n\r\n") && !strings.Contains(raw, "hello"):
		return "ambiguous (RFC 9112 sections 2.2, 3, 3.2, 5.2): never forwarded"
	}
	return ""
}

// rawRequests are whole requests of HTTP/1.1.
func rawRequests() []string {
	var all []string
	for _, path := range []string{
		"/", "/a/b?c=d", "/a/./b", "/a/../b", "/../../a", "/a/..", "/a/.", "/a//b", "//a", "///", "/a/%2e%2e/b", "/a/%2E./b", "/%61%62", "/%7euser", "/a%2fb", "/a%2Fb%2F",
		"/a%5cb", "/a%5C..%5Cb", "/a%252fb", "/a/..%2fb", "/a%00b", "/a%zz", "/a%2", "/a b", "/a;x=1/b", "/a?b=/../c", "/a?b=%2f", "/a?", "/?", "/a#frag", "/a\\b", "/a\"b", "/a|b",
		"/a^b", "/a{b}", "/a'b", "/a!$&'()*+,;=:@b", "/%E2%82%AC", "*", "a", "", "http://abs.example/a/../b", "http://abs.example", "http://abs.example:8080/x?y", "https://abs.example/x",
		"/redirect", "/redirect?q=1", "/https/x?y", "/direct", "/sep", "/sep/", "/sep/a", "/sepa", "/case/x", "/CaSe", "/host/x", "/re/a", "/re/b?x=1", "/re/ab", "/re/c",
		"/strip", "/strip/", "/strip//", "/strip/a/b?c", "/stripped",
	} {
		all = append(all, "GET "+path+" HTTP/1.1\r\nHost: h.example\r\n\r\n")
	}
	for _, method := range []string{"HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "BREW"} {
		all = append(all, method+" /m HTTP/1.1\r\nHost: h.example\r\nContent-Length: 0\r\n\r\n")
	}
	for _, header := range []string{
		"X-Is: a\r\nX-Is: b", "x_under: 1", "X-Is:", "X-Is:   spaced   ", "X-Is : a", " X-Is: a", "X-Is: a\r\n folded", "X Is: a", "X-Is: \x01", "X-Is: é", "X-Is", ": a", "X-Is: " + strings.Repeat("a", 3000),
		"X-Is: " + strings.Repeat("a", 5000), "Host: twice", "Content-Length: 0\r\nContent-Length: 0", "Content-Length: 1\r\nContent-Length: 2", "Content-Length: -1", "Content-Length: +1", "Content-Length: 0x1",
		"Transfer-Encoding: chunked\r\nContent-Length: 5", "Transfer-Encoding: identity", "Transfer-Encoding: gzip, chunked", "Transfer-Encoding: chunked, chunked", "Transfer-Encoding: xchunked",
		"Connection: X-Is\r\nX-Is: hop", "Connection: close", "TE: trailers", "Expect: 200-maybe", "Upgrade: foo\r\nConnection: Upgrade", "Upgrade: websocket\r\nConnection: Upgrade",
	} {
		all = append(all, "GET /h HTTP/1.1\r\nHost: h.example\r\n"+header+"\r\n\r\n")
	}
	for _, host := range []string{"", "h.example:80", "H.Example", "h.example:", "h.example:x", "a b", "a/b", "user@h", "[::1]:80", "[::1", "h_x", "é"} {
		all = append(all, "GET /host-of HTTP/1.1\r\nHost: "+host+"\r\n\r\n")
	}
	return append(
		all,
		"GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.0\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n", "GET / HTTP/2.0\r\nHost: h\r\n\r\n", "GET / HTTP/1.2\r\nHost: h\r\n\r\n", "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /\r\nHost: h\r\n\r\n", "get / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / http/1.1\r\nHost: h\r\n\r\n", "\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.1\nHost: h\n\n", "GARBAGE\r\n\r\n",
		"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello", "POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5;ext=1\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n", "POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n",
		"POST /b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", "GET /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
	)
}

// rawAnswer is what comes back, as far as it must not differ.
type rawAnswer struct {
	Status         int // 0: closed without an answer
	Body, Location string
}

// sayRaw writes a request and reads the answer.
func sayRaw(t *testing.T, addr, raw string) rawAnswer {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer drop(conn)
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, raw)
	must(t, err)
	method, _, _ := strings.Cut(strings.TrimLeft(raw, "\r\n"), " ")
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		return rawAnswer{}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		body = append(body, fmt.Sprintf(" and then %v", err)...)
	}
	location := resp.Header.Get("Location")
	return rawAnswer{Status: resp.StatusCode, Body: strings.TrimSuffix(strings.ReplaceAll(string(body), addr, "ADDRESS"), "\n"), Location: location}
}
