package format_test

import (
	"encoding/json"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/wire"
)

// input is the exchange that Envoy was given when the expectations of these tests
// were read from its log.
func input() *format.Input {
	start := time.Date(2026, 11, 28, 15, 21, 58, 826666000, time.UTC)
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{
		Addr: netip.MustParseAddrPort("127.0.0.1:44596"), Local: netip.MustParseAddrPort("127.0.0.1:19778"), Number: 7,
	}, start)
	req := &wire.Request{
		Method: "POST", Scheme: "http", Authority: "Ex.com:80", Path: "/p/q?a=1&b=%41b+c%20&a=2", Proto: 1, Minor: 1,
		ContentLength: 3, Body: wire.NewBytes([]byte("abc")),
	}
	req.Header.Add("user-agent", "me")
	req.Header.Add("x-a", "abcdef")
	req.Header.Add("x-a", "second")
	req.Header.Add("x-empty", "")
	req.Header.Add("x-odd", "\"\\ \xc3\xa9 \xff\tz")
	req.Header.Add("x-quote", "\"\\ é\tz")
	req.Header.Add("x-request-id", "mine")
	resp := &wire.Response{Status: 200, ContentLength: 5, Body: wire.NewBytes([]byte("hello"))}
	resp.Header.Add("content-type", "text/plain")
	x.Request, x.Response, x.Method, x.Status, x.Rule, x.Details = req, resp, "POST", 200, "therule", "via upstream"
	x.BytesIn, x.BytesOut, x.Cluster, x.Observed, x.Tries = 3, 5, "c", "seen", 1
	a := x.NewAttempt("c", start.Add(time.Millisecond))
	a.Endpoint, a.Connected, a.Head, a.Proto = "127.0.0.1:19779", start.Add(2*time.Millisecond), start.Add(9*time.Millisecond), 1
	a.Peer = &wire.Peer{Local: netip.MustParseAddrPort("127.0.0.1:44074")}
	x.HeadSent, x.Finish = start.Add(10*time.Millisecond), start.Add(12500*time.Microsecond)
	x.Metadata.Set("ns", "k", "v")
	x.Metadata.Set("ns", "n", 1.5)
	x.Metadata.Set("ns", "m", map[string]any{"b": true, "a": []any{1.0, "x", nil}})
	return &format.Input{Exchange: x, Chain: "fc"}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	const clock = "%Y/%m/%dT%H:%M:%S%z %Ez %E*z %Z %E3S %E*S %E3f %E4Y %ET %e|%k|%l|%j|%U|%W|%V|%G|%g|%C|%u|%w|%p|%P|%r|%R|%D|%x|%X|%c|%b|%B|%a|%A|%h|%y|%I|%T|%F"
	for source, want := range map[string]string{
		"":                            "",
		"plain":                       "plain",
		"100%% %PROTOCOL%%%":          "100% HTTP/1.1%",
		"%START_TIME%":                "2026-11-28T15:21:58.826Z",
		"%START_TIME(%s.%3f)%":        "1795879318.826",
		"%START_TIME(%s %3s %f %1f)%": "1795879318 1795879318 826666000 8",
		"%START_TIME(%q %E %Q %E2s %EY %Oy %5s)%": "%q %E %Q %E2s 2026 26 1795879318",
		"%START_TIME(" + clock + ")%": "2026/11/28T15:21:58+0000 +00:00 +00:00:00 UTC 58.826 58.826666 826 2026 T 28|15| 3|332|47|47|48|2026|26|20|6|6|PM|pm|" +
			"03:21:58 PM|15:21|11/28/26|11/28/26|15:21:58|Sat Nov 28 15:21:58 2026|Nov|November|Sat|Saturday|Nov|26|03|15:21:58|2026-11-28",
		"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%":                                              "POST /p/q?a=1&b=%41b+c%20&a=2",
		"%REQ(X-A):3%|%REQ(x-none?x-a)%|%REQ(X-NONE)%":                                                   "abc|abcdef|-",
		"%REQ(X-EMPTY)%|%REQ(HOST)%|%REQ(:SCHEME)%":                                                      "|Ex.com:80|http",
		"%REQ(content-length)% %RESP(content-length)%":                                                   "3 5",
		"%RESP(:STATUS)% %RESP(CONTENT-TYPE)% %TRAILER(A)%":                                              "200 text/plain -",
		"%PATH% %PATH(NQ)% %PATH(WQ:ORIG)% %PATH(NQ:PATH)%":                                              "/p/q?a=1&b=%41b+c%20&a=2 /p/q - /p/q",
		"%QUERY_PARAM(a)% %QUERY_PARAM(b):2% %QUERY_PARAM(c)%":                                           "1 Ab -",
		"%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_FLAGS_LONG%":                                         "200 - -",
		"%RESPONSE_CODE_DETAILS%|%RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)%":                             "via_upstream|via upstream",
		"%CONNECTION_TERMINATION_DETAILS% %CUSTOM_FLAGS%|%BYTES_RETRANSMITTED%":                          "- |0",
		"%BYTES_RECEIVED% %BYTES_SENT%":                                                                  "3 5",
		"%DURATION% %REQUEST_DURATION% %REQUEST_TX_DURATION% %RESPONSE_DURATION% %RESPONSE_TX_DURATION%": "12 0 2 9 3",
		"%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)% %COMMON_DURATION(DS_RX_BEG:NOPE:ns)%":                 "12500 -",
		"%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS%":             "127.0.0.1:19779 seen c 127.0.0.1:44074",
		"%UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT% %UPSTREAM_LOCAL_PORT%":            "127.0.0.1 19779 44074",
		"%UPSTREAM_PROTOCOL% %UPSTREAM_REQUEST_ATTEMPT_COUNT% %UPSTREAM_TRANSPORT_FAILURE_REASON%":       "HTTP/1.1 1 -",
		"%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%":                    "127.0.0.1:44596 127.0.0.1",
		"%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_PORT% %CONNECTION_ID%":                             "127.0.0.1:19778 19778 7",
		"%REQUESTED_SERVER_NAME% %ROUTE_NAME% %FILTER_CHAIN_NAME% %VIRTUAL_CLUSTER_NAME%":                "- therule fc -",
		"%DYNAMIC_METADATA(ns:k)% %DYNAMIC_METADATA(ns:n)% %DYNAMIC_METADATA(ns:m:a)%":                   `v 1.5 [1,"x",null]`,
		"%DYNAMIC_METADATA(ns)% %DYNAMIC_METADATA(no:k)% %DYNAMIC_METADATA(ns:m:a:c)%":                   `{"k":"v","m":{"a":[1,"x",null],"b":true},"n":1.5} - -`,
		"%METADATA(DYNAMIC:ns:k)% %CLUSTER_METADATA(a:b)% %FILTER_STATE(x:PLAIN)%":                       "v - -",
		"%STREAM_ID% %TRACE_ID% %ACCESS_LOG_TYPE% %LOCAL_REPLY_BODY%|":                                   "mine - NotSet |",
		"%GRPC_STATUS% %GRPC_STATUS_NUMBER% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_SUBJECT%":          "- - - -",
		"%ENVIRONMENT(SERAI_SURELY_NOT_SET)%":                                                            "-",
	} {
		text, err := format.Compile(source)
		if err != nil {
			t.Errorf("%s: %v", source, err)
			continue
		}
		if got := string(text.Append([]byte("x"), input())); got != "x"+want {
			t.Errorf("%s:\n got %q\nwant %q", source, got, "x"+want)
		}
	}
}

func TestUUID(t *testing.T) {
	t.Parallel()
	text, err := format.Compile("%UNIQUE_ID%")
	if err != nil {
		t.Fatal(err)
	}
	one, other := string(text.Append(nil, input())), string(text.Append(nil, input()))
	pattern := regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	if one == other || !pattern.MatchString(one) {
		t.Errorf("%s, %s", one, other)
	}
}

func TestHostname(t *testing.T) {
	t.Parallel()
	text, err := format.Compile("%HOSTNAME%")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.Hostname()
	if got := string(text.Append(nil, input())); err != nil || got != want {
		t.Errorf("%q, want %q (%v)", got, want, err)
	}
}

// What Envoy 1.36 refuses, and only that.
func TestCompileErrors(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		"%NOPE%": "no such", "%": "position 0", "a %": "position 2", "%req(a)%": "position 0", "%PROTOCOL": "position 0",
		"%REQ(a%": "position 0", "%REQ%": "needs an argument", "%REQ()%": "needs an argument", "%REQ(A?B?C)%": "more than one",
		"%PROTOCOL(X)%": "no argument", "%PROTOCOL:3%": "no length", "%START_TIME:3%": "no length", "%START_TIME(%n)%": "line break",
		"%COMMON_DURATION(DS_RX_BEG:DS_TX_END:s)%": "none of ms", "%COMMON_DURATION(A)%": "not of the form",
		"%GRPC_STATUS(X)%": "none of CAMEL_STRING", "%FILTER_STATE(x:NOPE)%": "not of the form", "%METADATA(NOPE:a)%": "unknown",
		"%PATH(X)%": "neither WQ nor NQ", "%PATH(WQ:X)%": "none of ORIG", "%REQ(A):99999999999999999999%": "position 0",
		"%DOWNSTREAM_LOCAL_ADDRESS_PORT%": "no such", "%REQ_WITHOUT_QUERY(:PATH)%": "no such", "%UPSTREAM_LOCAL_SUBJECT%": "no such",
		"%REQ(a\nb)%": "position 0",
	} {
		if _, err := format.Compile(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want an error with %q", source, err, want)
		}
	}
	if _, err := format.Compile(strings.Repeat("x", 1<<20)); err == nil {
		t.Error("a megabyte is taken")
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var fields map[string]any
	err := json.Unmarshal([]byte(`{"zz":"a %REQ(X-NONE)% %RESPONSE_CODE%","code":"%RESPONSE_CODE%","none":"%REQ(X-NONE)%","flags":"%RESPONSE_FLAGS%",
		"nested":{"b":1.5,"a":[true,null,"%BYTES_SENT%",{"x":"%REQ(X-NONE)%"}],"plain":"100%%"},"odd \"key\"\n":"\t\"é",
		"odd":"%REQ(X-ODD)%","quote":"%REQ(X-QUOTE)%","meta":"%DYNAMIC_METADATA(ns:m)%","n":"%DYNAMIC_METADATA(ns:n)%"}`), &fields)
	if err != nil {
		t.Fatal(err)
	}
	j, err := format.CompileJSON(fields)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"code":200,"flags":"-","meta":{"a":[1,"x",null],"b":true},"n":1.5,` +
		`"nested":{"a":[true,null,5,{"x":null}],"b":1.5,"plain":"100%"},"none":null,` +
		`"odd":"\u0022\u005c \u00c3\u00a9 \u00ff\u0009z","odd \"key\"\n":"\t\"é","quote":"\"\\ é\tz","zz":"a - 200"}`
	if diff := cmp.Diff(want, string(j.Append(nil, input()))); diff != "" {
		t.Error(diff)
	}
	if got := string(j.AppendKnown(nil, input())); got != strings.Replace(want, "a - 200", "a  200", 1) {
		t.Error(got)
	}
	if _, err := format.CompileJSON(map[string]any{"a": []any{"%NOPE%"}}); err == nil || !strings.HasPrefix(err.Error(), "a: ") {
		t.Errorf("got %v", err)
	}
	deep := any("x")
	for range 100 {
		deep = []any{deep}
	}
	if _, err := format.CompileJSON(map[string]any{"a": deep}); err == nil {
		t.Error("any depth is taken")
	}
}

func TestGRPCStatus(t *testing.T) {
	t.Parallel()
	text, err := format.Compile("%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS_NUMBER%")
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		"0": "OK OK 0", "13": "Internal INTERNAL 13", "1": "Canceled CANCELLED 1", "99": "99 99 99", "x": "-1 -1 -1",
		"none": "Unavailable UNAVAILABLE 14",
	} {
		in := input()
		in.Exchange.Request.Header.Add("content-type", "application/grpc")
		in.Exchange.Status = 503
		if in.Trailer = (&wire.Header{}); value != "none" {
			in.Trailer.Add("grpc-status", value)
		}
		if got := string(text.Append(nil, in)); got != want {
			t.Errorf("%s: %q, want %q", value, got, want)
		}
	}
}

// A connection has no heads, and may have no addresses.
func TestConnection(t *testing.T) {
	t.Parallel()
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Time{})
	text, err := format.Compile("%REQ(A)% %RESP(:STATUS)% %PROTOCOL% %RESPONSE_CODE% %DURATION% %UPSTREAM_HOST% %DOWNSTREAM_REMOTE_ADDRESS% %PATH% %START_TIME% " +
		"%UPSTREAM_WIRE_BYTES_SENT% %DOWNSTREAM_PEER_CERT_V_END% %UPSTREAM_REMOTE_PORT% %QUERY_PARAM(a)% %REQUEST_HEADERS_BYTES% %STREAM_ID%")
	if err != nil {
		t.Fatal(err)
	}
	const want = "- - - 0 - - - - - 0 - - - 0 -"
	if got := string(text.Append(nil, &format.Input{Exchange: x})); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := string(text.AppendKnown(nil, &format.Input{Exchange: x})), strings.ReplaceAll(want, "-", ""); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{"": "", "a": "a", "100%%": "100%"} {
		text, err := format.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := text.Plain(); !ok || got != want {
			t.Errorf("%q: %q, %t", source, got, ok)
		}
	}
	text, err := format.Compile("a%PROTOCOL%")
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := text.Plain(); ok {
		t.Error("an operator is plain")
	}
}

// usual is what Consul's access logs and routes ask for.
const usual = "%START_TIME% %REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL% %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% " +
	"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% %REQ(X-FORWARDED-FOR)% %REQ(:AUTHORITY)% %UPSTREAM_HOST% " +
	"%UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME% " +
	"%STREAM_ID% %UNIQUE_ID% %DYNAMIC_METADATA(ns:k)% %QUERY_PARAM(a)% %START_TIME(%s.%3f)%"

func TestAppendAllocatesNothing(t *testing.T) {
	text, err := format.Compile(usual)
	if err != nil {
		t.Fatal(err)
	}
	j, err := format.CompileJSON(map[string]any{"all": usual, "code": "%RESPONSE_CODE%", "agent": "%REQ(user-agent)%", "odd": "%REQ(x-odd)%"})
	if err != nil {
		t.Fatal(err)
	}
	in, buf := input(), make([]byte, 0, 8192)
	if n := testing.AllocsPerRun(100, func() { buf = text.Append(buf[:0], in) }); n != 0 {
		t.Errorf("a text allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = text.AppendLine(buf[:0], in, true) }); n != 0 {
		t.Errorf("a line allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { buf = j.Append(buf[:0], in) }); n != 0 {
		t.Errorf("JSON allocates %v times", n)
	}
}

func BenchmarkAppend(b *testing.B) {
	text, err := format.Compile(usual)
	if err != nil {
		b.Fatal(err)
	}
	in, buf := input(), make([]byte, 0, 8192)
	b.ReportAllocs()
	for b.Loop() {
		buf = text.Append(buf[:0], in)
	}
}

// No value ends a line of a log, or the field of a head, and none reaches the terminal.
func TestAppendClean(t *testing.T) {
	t.Parallel()
	in := input()
	in.Exchange.Request.Path = "/?q=%0d%0aforged:%201%1b[2J&tab=a%09b&space=%20x%0a"
	in.Exchange.Metadata.Set("ns", "claim", "a\nb\x7f")
	in.Exchange.Metadata.Set("ns", "c1", "a plain beginning \u009b1m \x9b1m \u0080\u009f\u00a0 \xc3 é ☃ \ufffd")
	in.Exchange.Peer.ServerName = "a\nb_c.test-1"
	for source, want := range map[string][2]string{
		"[%QUERY_PARAM(q)%]\n":                   {"[  forged: 1 [2J]\n", "[  forged: 1 [2J]"},
		"%QUERY_PARAM(tab)%":                     {"a\tb", "a\tb"},
		"%QUERY_PARAM(space)%":                   {" x ", "x"},
		"%DYNAMIC_METADATA(ns:claim)%|%REQ(no)%": {"a b |-", "a b |"},
		"%DYNAMIC_METADATA(ns:c1)%": {
			"a plain beginning   1m  1m     \u00a0 \xc3 é ☃ \ufffd", "a plain beginning \u009b1m \x9b1m \u0080\u009f\u00a0 \xc3 é ☃ \ufffd",
		},
		"%REQUESTED_SERVER_NAME%": {"invalid:a_b_c.test-1", "invalid:a_b_c.test-1"},
	} {
		text, err := format.Compile(source)
		if err != nil {
			t.Fatal(err)
		}
		if got := string(text.AppendLine([]byte(">"), in, false)); got != ">"+want[0] {
			t.Errorf("line %q: %q", source, got)
		}
		if got := string(text.AppendField([]byte(">"), in)); got != ">"+want[1] {
			t.Errorf("field %q: %q", source, got)
		}
	}
}
