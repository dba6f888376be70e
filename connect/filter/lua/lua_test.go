package lua_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/filter/lua"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// rig runs a script between a request and an upstream.
type rig struct {
	filter   *lua.Filter
	registry stats.Registry
	log      bytes.Buffer
	called   string // what httpCall has asked
	response *wire.Response
	err      error

	passed bool
	path   string
	header string
	body   string
	trail  string
}

func newRig(tb testing.TB, script string) *rig {
	tb.Helper()
	return newRigWithin(tb, script, time.Minute)
}

// hurried is a rig for a script that is to run out of time: of others, a busy machine
// would make such, too.
func hurried(tb testing.TB, script string) *rig {
	tb.Helper()
	return newRigWithin(tb, script, 500*time.Millisecond)
}

// newRigWithin is a rig whose script may run for so long.
func newRigWithin(tb testing.TB, script string, budget time.Duration) *rig {
	tb.Helper()
	r := &rig{}
	var err error
	r.filter, err = lua.New(&mesh.Lua{Code: script}, lua.Place{
		Find: func(name string) wire.Service {
			if name == "c" {
				return wire.ServiceFunc(r.call)
			}
			return nil
		},
		Stats: r.registry.Scope("lua."), Budget: budget,
		Log: slog.New(slog.NewTextHandler(&r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func (r *rig) call(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	body := ""
	if req.Body != nil {
		data, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		body = string(data)
	}
	r.called = req.Method + " " + req.Authority + req.Path + " " + text(&req.Header) + " " + body
	if req.Path == "/down" {
		return nil, errors.New("down")
	}
	resp := &wire.Response{Status: 201, ContentLength: 2, Body: wire.NewBytes([]byte("ok"))}
	resp.Header.Add("x", "1")
	resp.Header.Add("x", "2")
	return resp, nil
}

func text(h *wire.Header) string {
	var lines []string
	for name, value := range h.All() {
		lines = append(lines, name+"="+value)
	}
	return strings.Join(lines, " ")
}

// trailed is a body in pieces, with a trailer.
type trailed struct {
	pieces  []string
	trailer wire.Header
}

func (t *trailed) Read(p []byte) (int, error) {
	if len(t.pieces) == 0 {
		return 0, io.EOF
	}
	n := copy(p, t.pieces[0])
	t.pieces = t.pieces[1:]
	return n, nil
}
func (t *trailed) Trailer() *wire.Header { return &t.trailer }
func (t *trailed) Close() error          { return nil }

func request(body ...string) *wire.Request {
	req := &wire.Request{Method: "POST", Scheme: "http", Authority: "api.test", Path: "/a?b", Proto: 1, Minor: 1}
	req.Header.Add("a", "1")
	req.Header.Add("a", "2")
	req.Header.Add("b", "3")
	if len(body) > 0 {
		t := &trailed{pieces: body}
		t.trailer.Add("end", "yes")
		req.Body, req.ContentLength = t, wire.UnknownLength
	}
	return req
}

// outcome is what came back.
type outcome struct {
	Status int
	Header string
	Body   string
}

func (r *rig) serve(tb testing.TB, req *wire.Request) outcome {
	tb.Helper()
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:1000"), Local: netip.MustParseAddrPort("[::1]:80"), ServerName: "sni"}, time.Now())
	x.Metadata.Set("other", "key", map[string]any{"n": 1.0})
	next := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		r.passed, r.path, r.header = true, req.Method+" "+req.Authority+req.Path, text(&req.Header)
		if req.Body != nil {
			data, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			r.body, r.trail = string(data), ""
			if t := req.Body.Trailer(); t != nil {
				r.trail = text(t)
			}
		}
		if r.err != nil {
			return nil, r.err
		}
		if r.response != nil {
			return r.response, nil
		}
		resp := &wire.Response{Status: 200, ContentLength: 5, Body: wire.NewBytes([]byte("hello"))}
		resp.Header.Add("server", "s")
		return resp, nil
	})
	resp, err := r.filter.Layer(nil)(next).Serve(x, req)
	if err != nil {
		resp = wire.Reply(x, err)
	}
	out := outcome{Status: resp.Status, Header: text(&resp.Header)}
	if resp.Body != nil {
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			tb.Fatal(err)
		}
		out.Body = string(data)
	}
	x.Done(time.Now())
	return out
}

func (r *rig) count(name string) int64 {
	for s := range r.registry.All() {
		if s.Name == "lua."+name {
			return s.Value
		}
	}
	return 0
}

// The script tells what it sees in a header of the request, "out".
func TestAPI(t *testing.T) {
	t.Parallel()
	tests := []struct{ name, script, want string }{
		{"get", `out = h:headers():get("A") .. "|" .. tostring(h:headers():get("none"))`, "1,2|nil"},
		{"index", `out = h:headers():getAtIndex("a", 1) .. tostring(h:headers():getAtIndex("a", 2)) .. h:headers():getNumValues("a")`, "2nil2"},
		{"pseudo", `local g = h:headers() out = g:get(":method") .. g:get(":path") .. g:get(":authority") .. g:get("host") .. g:get(":scheme")`, "POST/a?bapi.testapi.testhttp"},
		{"pairs", `out = "" for k, v in pairs(h:headers()) do out = out .. k .. "=" .. v .. ";" end`, ":authority=api.test;:path=/a?b;:method=POST;:scheme=http;a=1;a=2;b=3;"},
		{"pairs of a table", `out = "" for k, v in pairs({x = 1}) do out = out .. k .. v end`, "x1"},
		{"body", `local b = h:body() out = b:length() .. b:getBytes(1, 3)`, "6oun"},
		{"trailers", `out = h:trailers():get("end")`, "yes"},
		{"metadata", `h:streamInfo():dynamicMetadata():set("ns", "k", {a = {1, true, "x"}}) local m = h:streamInfo():dynamicMetadata()
			out = m:get("ns").k.a[3] .. m:get("other").key.n .. tostring(m:get("none")) .. tostring(h:metadata():get("x"))`, "x1nilnil"},
		{"info", `local i = h:streamInfo() out = i:protocol() .. i:downstreamLocalAddress() .. i:downstreamDirectRemoteAddress() .. i:requestedServerName() .. tostring(i:downstreamSslConnection()) .. tostring(h:connection():ssl())`, "HTTP/1.1[::1]:8010.0.0.1:1000snini" + "lnil"},
		{"base64", `out = h:base64Escape("hi\0")`, "aGkA"},
		{"time", `out = tostring(h:timestamp() > 1e12) .. tostring(#h:timestampString() == 13) .. tostring(#h:timestampString(EnvoyTimestampResolution.MICROSECOND))`, "truetrue16"},
		{"call", `local hs, b = h:httpCall("c", {[":method"] = "PUT", [":path"] = "/p", [":authority"] = "x.test", y = {"1", "2"}}, "in", 1000) out = hs[":status"] .. hs["x"] .. b`, "2012ok"},
		{"call with options", `local hs, b = h:httpCall("c", {[":method"] = "GET", [":path"] = "/p", [":authority"] = "x"}, nil, {timeout_ms = 1, return_duplicate_headers = true}) out = hs["x"][1] .. hs["x"][2]`, "12"},
		{"failed call", `local hs, b = h:httpCall("c", {[":method"] = "GET", [":path"] = "/down", [":authority"] = "x"}, nil, 0) out = hs[":status"] .. b`, "503upstream failure"},
		{"no files", `out = tostring(io) .. tostring(os.execute) .. tostring(os.getenv) .. tostring(require) .. tostring(dofile) .. tostring(loadfile) .. tostring(debug) .. tostring(package) .. tostring(string.dump)`, strings.Repeat("nil", 9)},
		{"key", `local ok, err = h:verifySignature("md5", h:importPublicKey("x", 1):get(), "s", 1, "d", 1) out = tostring(ok) .. err`, "falsemd5 is not supported."},
		{"bad key", `local ok, err = h:verifySignature("sha256", h:importPublicKey("x", 1), "s", 1, "d", 1) out = tostring(ok)`, "false"},
		{"proper", `out = tostring(pcall(function() keep = h:headers() end))`, "true"},
		{"letters are bytes", `local s = "aZ\195\164\226\132\170\255" out = tostring(s:upper() == "AZ\195\164\226\132\170\255") .. tostring(s:lower() == "az\195\164\226\132\170\255")`, "truetrue"},
		{"numbers", `for _, s in ipairs({"010", " 1e3 ", "99999999999999999999", "0x10", "1_0", "", "x", "1 2", ".5", "-0x1"}) do out = out .. tostring(tonumber(s)) .. " " end`, "10 1000 1e+20 16 nil nil nil nil 0.5 -1"},
		{"numbers of a base", `out = tostring(tonumber("ff", 16)) .. tostring(tonumber("-0xFF", 16)) .. tostring(tonumber("12", 2)) .. tostring(tonumber("z", 36)) .. tostring(tonumber({})) .. tostring(pcall(tonumber, "1", 99))`, "255-255nil35nilfalse"},
		{"joins", `local function last(s, t) t = s .. t .. 1 return t end local function first(s) s = s .. "x" return s end
			local function all(...) return ... .. "|" end local function either(s) s = s and s .. "!" or "?" return s end
			local a, b = "p" .. "q", "r"
			out = last("a", "b") .. first("c") .. all("d", "e") .. either("f") .. a .. b .. #{"x" .. "y"} .. ("g" .. "h"):upper()
			out = out .. "1" .. "2" .. "3" .. "4" .. "5" .. "6" .. "7" .. "8" .. "9"`, "ab1cxd|f!pqr1GH123456789"},
		{"joins by metamethods", `local m = {} m.__concat = function(x, y) local function text(v) return getmetatable(v) == m and v.s or "<" .. v .. ">" end return setmetatable({s = text(x) .. text(y)}, m) end
			local t = setmetatable({s = "t"}, m) out = ("a" .. "b" .. t .. "c" .. "d").s .. (t .. t).s`, "<a><b>t<cd>tt"},
		{"joins what is none", `local ok, err = pcall(function() return "a" .. {} end) out = err`, "script:1: cannot perform concat operation between string and table"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, `function envoy_on_request(h) local out = "" `+tt.script+` h:headers():add("out", out) end`)
			req := request()
			if tt.name == "body" || tt.name == "trailers" {
				req = request("co", "unts")
			}
			if got := r.serve(t, req); got.Status != 200 {
				t.Fatalf("%+v", got)
			}
			if _, out, _ := strings.Cut(r.header, "out="); out != tt.want {
				t.Errorf("got %q, want %q; log %s", out, tt.want, r.log.String())
			}
			if r.count("errors") != 0 || r.count("executions") != 1 {
				t.Errorf("%d errors, %d executions", r.count("errors"), r.count("executions"))
			}
		})
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	r := newRig(t, `function envoy_on_request(h)
		h:headers():add("new", "1") h:headers():replace("a", "9") h:headers():remove("b")
		h:headers():replace(":path", "/x?y") h:headers():replace("host", "other.test") h:headers():remove(":method")
		h:body():setBytes("replaced")
	end`)
	req := request("one", "two")
	if got := r.serve(t, req); got.Status != 200 || got.Body != "hello" {
		t.Errorf("%+v", got)
	}
	if r.path != "POST other.test/x?y" || r.header != "a=9 new=1" || r.body != "replaced" || r.trail != "end=yes" || req.ContentLength != 8 {
		t.Errorf("%s %s %q %q %d; %s", r.path, r.header, r.body, r.trail, req.ContentLength, r.log.String())
	}
}

func TestRespond(t *testing.T) {
	t.Parallel()
	r := newRig(t, `function envoy_on_request(h) h:respond({[":status"] = "403", x = {"a", "b"}}, "no") h:headers():add("never", "1") end
		function envoy_on_response(h) h:headers():add("seen", "1") end`)
	if diff := cmp.Diff(outcome{403, "x=a x=b content-type=text/plain seen=1", "no"}, r.serve(t, request())); diff != "" || r.passed || r.count("errors") != 0 {
		t.Errorf("passed %t, -want +got:\n%s", r.passed, diff)
	}
}

func TestResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, `function envoy_on_response(h)
		h:headers():replace(":status", "202") h:headers():add("was", h:headers():get("server"))
		local b = h:body(true) b:setBytes(b:getBytes(0, b:length()) .. " there")
	end`)
	if diff := cmp.Diff(outcome{202, "server=s was=s", "hello there"}, r.serve(t, request())); diff != "" {
		t.Errorf("-want +got:\n%s\n%s", diff, r.log.String())
	}
	r = newRig(t, `function envoy_on_response(h) h:headers():add("seen", h:headers():get(":status")) end`)
	r.err = &wire.Fault{Status: 418, Text: "short"}
	if got := r.serve(t, request()); got.Status != 418 || !strings.Contains(got.Header, "seen=418") {
		t.Errorf("what others answer: %+v", got)
	}
}

// A script sees chunks as they pass, and what it holds back of them is nothing.
func TestChunks(t *testing.T) {
	t.Parallel()
	r := newRig(t, `
		function count(h)
			local n, all = 0, ""
			for chunk in h:bodyChunks() do n = n + 1 all = all .. chunk:getBytes(0, chunk:length()) last = chunk end
			h:logInfo(n .. ":" .. all)
			if h:trailers() then h:trailers():add("seen", "1") end
		end
		function envoy_on_request(h) h:headers():add("first", "1") count(h) end
		function envoy_on_response(h) count(h) end`)
	req := request("one", "two", "three")
	if got := r.serve(t, req); got.Status != 200 || got.Body != "hello" {
		t.Errorf("%+v", got)
	}
	if r.body != "onetwothree" || r.header != "a=1 a=2 b=3 first=1" || r.trail != "end=yes seen=1" {
		t.Errorf("%q %s %s", r.body, r.header, r.trail)
	}
	for _, want := range []string{"3:onetwothree", "1:hello"} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("no %s in the log: %s", want, r.log.String())
		}
	}
	if r.count("errors") != 0 {
		t.Error(r.log.String())
	}
}

// An error lets the request pass as it is then, and is told. One that only a bound of ours
// has made does not: clients must not get past a script by it.
func TestErrors(t *testing.T) { // not parallel: the heap is everybody's
	refused := map[string]bool{"for ever": true, "for ever, caught": true, "memory": true, "tables": true, "rep": true, "recursion": true}
	tests := []struct{ name, script, log string }{
		{"error", `h:headers():add("before", "1") error("oh no")`, "oh no"},
		{"nil", `h:headers():add("before", "1") local x = nil x.y = 1`, "attempt to index"},
		{"no method", `h:headers():add("before", "1") h:nothing()`, "attempt to call"},
		{"splitting", `h:headers():add("before", "1") h:headers():add("x", "a\r\nb: c")`, "not valid"},
		{"bad name", `h:headers():add("before", "1") h:headers():add("a b", "c")`, "not valid"},
		{"bad path", `h:headers():add("before", "1") h:headers():replace(":path", "no slash")`, "may not be"},
		{"walking", `h:headers():add("before", "1") for k in pairs(h:headers()) do h:headers():add("x", "1") end`, "while iterating"},
		{"for ever", `h:headers():add("before", "1") while true do end`, "too long"},
		{"for ever, caught", `h:headers():add("before", "1") while true do pcall(function() while true do end end) end`, "too long"},
		{"memory", `h:headers():add("before", "1") local s = string.rep("x", 1e6) while true do s = s .. s end`, "too large"},
		{"tables", `h:headers():add("before", "1") local t = {} while true do t = {t, {}, {}, {}} end`, "too much memory"},
		{"rep", `h:headers():add("before", "1") string.rep("x", 1e9)`, "too large"},
		{"recursion", `h:headers():add("before", "1") local function f() return 1 + f() end f()`, "stack overflow"},
		{"yield", `h:headers():add("before", "1") coroutine.yield()`, "yield"},
		{"bad cluster", `h:headers():add("before", "1") h:httpCall("none", {}, "", 1)`, "cluster invalid"},
		{"bad call", `h:headers():add("before", "1") h:httpCall("c", {}, "", 1)`, "must include"},
		{"bad status", `h:headers():add("before", "1") h:respond({[":status"] = "100"})`, "between 200-599"},
		{"cycle", `h:headers():add("before", "1") local t = {} t.t = t h:streamInfo():dynamicMetadata():set("a", "b", t)`, "nested"},
		{"bytes", `h:headers():add("before", "1") h:body(true):getBytes(0, 1)`, "buffer size"},
		{"self", `h:headers():add("before", "1") h.headers(1)`, "handle expected"},
		{"walk", `h:headers():add("before", "1") kept = kept or pairs(h:headers()) if again then kept() end again = true`, ""},
		{"outside", `h:headers():add("before", "1") kept = kept or h:headers() if again then kept:get("a") end again = true`, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			rigFor := newRig
			if tt.log == "too long" {
				rigFor = hurried
			}
			if tt.name == "tables" { // how much there may be is found out when a script is compiled
				defer debug.SetMemoryLimit(debug.SetMemoryLimit(64 << 20))
			}
			r := rigFor(t, `function envoy_on_request(h) `+tt.script+` end`)
			switch got := r.serve(t, request()); {
			case refused[tt.name]:
				if got.Status != 503 || r.passed {
					t.Errorf("%+v, passed: %t", got, r.passed)
				}
			case got.Status != 200 || !strings.HasSuffix(r.header, "before=1"):
				t.Errorf("%+v, passed with %s", got, r.header)
			}
			if tt.log == "" {
				r.serve(t, request())
				tt.log = "outside of proper scope"
			}
			if r.count("errors") != 1 || !strings.Contains(r.log.String(), tt.log) {
				t.Errorf("%d errors, log: %.300s", r.count("errors"), r.log.String())
			}
		})
	}
}

func TestBadScripts(t *testing.T) {
	t.Parallel()
	for _, script := range []string{"function", "error('x')", "while true do end", "x = io.open('/etc/passwd')", "x = 1" + strings.Repeat("+1", 100_000)} {
		if _, err := lua.New(&mesh.Lua{Code: script}, lua.Place{Log: slog.New(slog.DiscardHandler), Budget: 50 * time.Millisecond}); err == nil {
			t.Errorf("%s: is taken", script)
		}
	}
	if _, err := lua.New(&mesh.Lua{File: t.TempDir() + "/none"}, lua.Place{Log: slog.New(slog.DiscardHandler)}); err == nil {
		t.Error("a file that is not there is taken")
	}
}

// Globals are kept between requests that follow one another.
func TestGlobals(t *testing.T) {
	t.Parallel()
	r := newRig(t, `n = 0 function envoy_on_request(h) n = n + 1 h:headers():add("n", tostring(n)) end`)
	r.serve(t, request())
	r.serve(t, request())
	if !strings.HasSuffix(r.header, "n=2") {
		t.Error(r.header)
	}
}

// FuzzFields: whatever a script is given, what is passed on is valid.
func FuzzFields(f *testing.F) {
	f.Add("a", "b", ":path", "/x")
	f.Add("host", "x y", ":status", "999")
	f.Add("A\x00", "\r\n", "content-length", "-1")
	f.Fuzz(func(t *testing.T, n1, v1, n2, v2 string) {
		quote := func(s string) string {
			var b strings.Builder
			for i := range len(s) {
				b.WriteString("\\" + string([]byte{'0' + s[i]/100, '0' + s[i]/10%10, '0' + s[i]%10}))
			}
			return `"` + b.String() + `"`
		}
		r := newRig(t, `function envoy_on_request(h)
			pcall(function() h:headers():add(`+quote(n1)+`, `+quote(v1)+`) end)
			pcall(function() h:headers():replace(`+quote(n2)+`, `+quote(v2)+`) end)
			pcall(function() h:headers():add(`+quote(n2)+`, `+quote(v1)+`) end)
			pcall(function() h:headers():getAtIndex(`+quote(n1)+`, 0) h:headers():remove(`+quote(n1)+`) end)
		end
		function envoy_on_response(h)
			pcall(function() h:headers():replace(`+quote(n1)+`, `+quote(v1)+`) end)
			pcall(function() h:headers():add(`+quote(n2)+`, `+quote(v2)+`) end)
		end`)
		req := request()
		got := r.serve(t, req)
		if got.Status < 200 || got.Status > 599 {
			t.Errorf("status %d", got.Status)
		}
		if r.count("errors") > 0 {
			t.Error(r.log.String())
		}
		for _, f := range []wire.Field{{Name: ":path", Value: req.Path}, {Name: ":authority", Value: req.Authority}, {Name: ":method", Value: req.Method}} {
			if err := req.Put(f.Name, f.Value); err != nil {
				t.Error(err)
			}
		}
		for name, value := range req.Header.All() {
			if err := wire.CheckField(name, value); err != nil {
				t.Error(err)
			}
		}
	})
}
