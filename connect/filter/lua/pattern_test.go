package lua_test

import (
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// Patterns are Lua's: what is wanted here was said by a Lua 5.1 manual, or follows
// from what it says.
func TestPatterns(t *testing.T) {
	t.Parallel()
	tests := []struct{ script, want string }{
		{`string.find("hello world", "wor")`, "7 9"},
		{`string.find("hello", "l+")`, "3 4"},
		{`string.find("hello", "xyz")`, "nil"},
		{`string.find("hello", "")`, "1 0"},
		{`string.find("hello", "", 10)`, "6 5"},
		{`string.find("a.b", ".", 1, true)`, "2 2"},
		{`string.find("hello", "(l)(l)()")`, "3 4 l l 5"},
		{`string.find("hello", "^l")`, "nil"},
		{`string.find("hello", "o$")`, "5 5"},
		{`string.find("a$b", "a$b")`, "1 3"},
		{`string.find("hello", "l", -2)`, "4 4"},
		{`string.match("key = value", "^(%w+)%s*=%s*(%w+)$")`, "key value"},
		{`string.match("2026-11-28", "(%d+)-(%d+)-(%d+)")`, "2026 11 28"},
		{`string.match("  trim  ", "^%s*(.-)%s*$")`, "trim"},
		{`string.match("f(a(b)c)d", "%b()")`, "(a(b)c)"},
		{`string.match("THE (quick) fox", "%f[%a]%a+%f[%A]", 2)`, "quick"},
		{`string.match("THE (quick) fox", "%f[%l]%a+")`, "quick"},
		{`string.match("say 'it' or \"it\"", "([\"'])(.-)%1")`, "' it"},
		{`string.match("a]b-c^", "[]]")`, "]"},
		{`string.match("a]b-c^", "[%^-]")`, "-"},
		{`string.match("abc", "[^a-b]")`, "c"},
		{`string.match("a-z", "[a%-z]+")`, "a-z"},
		{`string.match("x", "a?x")`, "x"},
		{`string.match("aax", "a?x")`, "ax"},
		{`string.match("abc", "()")`, "1"},
		{`string.match("\0a", "%z")`, "\x00"},
		{`string.gsub("hello world", "o", "0")`, "hell0 w0rld 2"},
		{`string.gsub("hello", "", "-")`, "-h-e-l-l-o- 6"},
		{`string.gsub("hello world", "(%w+) (%w+)", "%2 %1 %0 %%")`, "world hello hello world % 1"},
		{`string.gsub("abc", "%w", "%1%1", 2)`, "aabbc 2"},
		{`string.gsub("abc", "^a", "x")`, "xbc 1"},
		{`string.gsub("aaa", "^a", "x")`, "xaa 1"},
		{`string.gsub("$name is $age", "%$(%w+)", {name = "x", age = 3})`, "x is 3 2"},
		{`string.gsub("$name is $no", "%$(%w+)", {name = "x"})`, "x is $no 2"},
		{`string.gsub("abc", "%w", function(c) if c ~= "b" then return c:upper() end end)`, "AbC 3"},
		{`("a,b"):gsub(",", ";")`, "a;b 1"},
		{`(function() local all = "" for k, v in string.gmatch("a=1, b=2", "(%w+)=(%w+)") do all = all .. k .. v end return all end)()`, "a1b2"},
		{`(function() local n = 0 for _ in string.gmatch("abc", "") do n = n + 1 end return n end)()`, "4"},
		{`(function() local all = "" for w in ("one two"):gmatch("%a+") do all = all .. w .. "." end return all end)()`, "one.two."},
		{`string.format("%5d|%s|%q", 3, "x", "y")`, `    3|x|"y"`},
		{`table.concat({1, "b", 3}, ",")`, "1,b,3"},
		{`table.concat({1, 2, 3}, ",", 2, 3)`, "2,3"},
		{`table.concat({})`, ""},
	}
	for _, tt := range tests {
		r := newRig(t, `function envoy_on_request(h)
			local all = {`+tt.script+`}
			local n = select("#", `+tt.script+`)
			local text = ""
			for i = 1, n do text = text .. (i > 1 and " " or "") .. tostring(all[i]) end
			h:headers():add("out", (text:gsub("%z", "0")))
		end`)
		r.serve(t, request())
		if _, out, _ := strings.Cut(r.header, "out="); out != strings.ReplaceAll(strings.Trim(tt.want, " "), "\x00", "0") && out != strings.TrimLeft(tt.want, " ") {
			t.Errorf("%s: got %q, want %q; log %s", tt.script, out, tt.want, r.log.String())
		}
	}
}

// What is wrong with a pattern is an error of the script, and nothing else.
func TestBadPatterns(t *testing.T) { // not parallel: the heap is everybody's
	for script, why := range map[string]string{
		`("a"):find("[a")`:                          "missing ']'",
		`("a"):find("[")`:                           "missing ']'",
		`("a"):find("[%")`:                          "missing ']'",
		`("a"):find("%")`:                           "ends with",
		`("a"):find("%1")`:                          "invalid capture",
		`("a"):find("%0")`:                          "invalid capture",
		`("a"):find("(%1)")`:                        "invalid capture",
		`("a"):find("(a")`:                          "unfinished capture",
		`("a"):match("a)")`:                         "invalid pattern capture",
		`("a"):find("%f")`:                          "missing '['",
		`("a"):find("%b")`:                          "unbalanced pattern",
		`("a"):find("%bx")`:                         "unbalanced pattern",
		`("a"):find(("()"):rep(33))`:                "too many captures",
		`("a"):rep(1e6):find(("a?"):rep(1e6))`:      "too complex",
		`("a"):gsub("a", "%2")`:                     "invalid capture",
		`("a"):gsub("a", function() return {} end)`: "invalid replacement",
		`("a"):gsub("a", nil)`:                      "expected",
		`table.concat({{}})`:                        "invalid value",
		`("a"):rep(1e6):gsub("a", ("b"):rep(1e6))`:  "too l",
		`string.format("%9999999d%9999999d", 1, 2)`: "width or precision",
		`string.format(("%999999d"):rep(1e6), 1)`:   "width or precision",
		`local t = {} local x = ("x"):rep(1e6) for i = 1, 100 do t[i] = x end table.concat(t)`: "too l",
		// Time, in one match and in many.
		`("a"):rep(1e5):find(("a*"):rep(20) .. "b")`:                                  "too l",
		`("a"):rep(1e5):find(("a-"):rep(20) .. "b")`:                                  "too l",
		`("("):rep(1e6):find("%b()")`:                                                 "too l",
		`("a"):rep(1e6):find(".-b")`:                                                  "too l",
		`("a"):rep(1e6):gsub(".-b", "")`:                                              "too l",
		`for _ in ("a"):rep(1e6):gmatch(".-b") do end`:                                "too l",
		`("a"):rep(1e6):find("[" .. ("x"):rep(1e6) .. "]")`:                           "too l",
		`coroutine.wrap(function() ("a"):rep(1e5):find(("a*"):rep(20) .. "b") end)()`: "too l",
	} {
		rigFor := newRig
		if why == "too l" {
			rigFor = hurried
		}
		r := rigFor(t, `function envoy_on_request(h) h:headers():add("before", "1"); `+script+` end`)
		begun := time.Now()
		switch got := r.serve(t, request()); {
		case why == "too l": // a bound of ours, which nobody gets past
			if got.Status != 503 || r.passed {
				t.Errorf("%s: %+v, passed: %t", script, got, r.passed)
			}
		case got.Status != 200 || !strings.HasSuffix(r.header, "before=1"):
			t.Errorf("%s: %+v", script, got)
		}
		if r.count("errors") != 1 || !strings.Contains(r.log.String(), why) {
			t.Errorf("%s: %d errors, log: %.300s", script, r.count("errors"), r.log.String())
		}
		if took := time.Since(begun); took > 20*time.Second { // for hours, without a bound
			t.Errorf("%s: took %s", script, took)
		}
	}
}

// Replacing much in a large text takes as long as there is text: a client who sends it
// must not hold a processor with it.
func TestGsubIsLinear(t *testing.T) {
	t.Parallel()
	r := newRig(t, `function envoy_on_request(h)
		local b = h:body()
		local all, n = b:getBytes(0, b:length()):gsub("a", "b")
		h:headers():add("all", tostring(n == b:length()))
	end`)
	r.serve(t, request(strings.Repeat("a", 400), strings.Repeat("a", 100)))
	if !strings.HasSuffix(r.header, "all=true") {
		t.Error(r.header, r.log.String())
	}
	big := make([]string, 1000)
	for i := range big {
		big[i] = strings.Repeat("a", 1000)
	}
	r.header = ""
	r.serve(t, request(big...)) // for longer than the rig gives it, if not
	if !strings.HasSuffix(r.header, "all=true") {
		t.Error(r.header, r.log.String())
	}
}

// What a script keeps of a head is its own: the buffer is somebody else's next time.
func TestKeepsCopies(t *testing.T) {
	t.Parallel()
	r := newRig(t, `function envoy_on_request(h)
		local i = h:streamInfo()
		if kept then
			h:headers():add("kept", table.concat(kept, ","))
			h:headers():add("key", next(i and names))
			return
		end
		local all = h:headers()
		kept = {all:get("token"), all:getAtIndex("token", 0), all:get(":path"), i:dynamicMetadata():get("m").k}
		names = {}
		for name, value in pairs(all) do if name == "token" then kept[5] = name kept[6] = value end end
		for name in pairs(i:dynamicMetadata():get("m").t) do names[name] = true end
	end`)
	buffer := []byte("token" + "secret" + "/path" + "value" + "inner")
	view := func(from, to int) string { return grammar.View(buffer[from:to]) }
	req := &wire.Request{Method: "GET", Scheme: "http", Authority: "a", Path: view(11, 16), Proto: 1, Minor: 1}
	req.Header.Add(view(0, 5), view(5, 11))
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	x.Metadata.Set("m", "k", view(16, 21))
	x.Metadata.Set("m", "t", map[string]any{view(21, 26): true})
	next := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return &wire.Response{Status: 200}, nil
	})
	if _, err := r.filter.Layer(nil)(next).Serve(x, req); err != nil {
		t.Fatal(err)
	}
	x.Done(time.Now())
	for i := range buffer { // the next request of the connection
		buffer[i] = 'X'
	}
	r.serve(t, request())
	if _, kept, _ := strings.Cut(r.header, "kept="); kept != "secret,secret,/path,value,token,secret key=inner" {
		t.Errorf("%s; %s", r.header, r.log.String())
	}
}

// Once the exchange belongs to others, nothing of it is touched, and a script that
// will not end is left.
func TestChunksLeaveTheExchange(t *testing.T) {
	t.Parallel()
	r := newRig(t, `function envoy_on_request(h)
		local m = h:streamInfo():dynamicMetadata()
		for chunk in h:bodyChunks() do m:set("a", "b", 1) end
	end`)
	r.serve(t, request("one", "two"))
	if r.count("errors") != 1 || !strings.Contains(r.log.String(), "outside of proper scope") {
		t.Errorf("%d errors: %s", r.count("errors"), r.log.String())
	}
	r = newRig(t, `function envoy_on_request(h)
		local next = h:bodyChunks()
		next()
		xpcall(next, next)
	end`)
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.filter.Layer(nil)(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return &wire.Response{Status: 200}, nil
		})).Serve(x, request("one", "two")) //nolint:errcheck // nothing comes of it
		x.Done(time.Now())
	}()
	select {
	case <-ended:
	case <-time.After(time.Minute):
		t.Fatal("the exchange does not end")
	}
	if r.count("executions") != 1 {
		t.Error("no script ran")
	}
}
