package lua_test

import (
	"runtime"
	"strings"
	"testing"
	"time"
)

// One instruction makes so much and no more, and all those of a call together do, too.
// What is meant by it, works.
func TestMemoryIsBounded(t *testing.T) {
	const most = 256 << 20
	for name, tt := range map[string]struct{ script, want string }{
		"an argument that is named again": {`string.format(string.rep("%[1]s", 1000), string.rep("x", 1000000))`, "invalid option"},
		"a width":                         {`string.format("%1000000d", 1)`, "too long"},
		"a precision":                     {`string.format("%.999d", 1)`, "too long"},
		"flags":                           {`string.format("%------d", 1)`, "repeated flags"},
		"no conversion":                   {`string.format("%")`, "invalid option"},
		"many large ones":                 {`local s = string.rep("x", 1000000); string.format(string.rep("%s", 30), unpack((function() local t = {} for i = 1, 30 do t[i] = s end return t end)()))`, "too large"},
		"formats":                         {`assert(string.format("%5.1f|%-3d|%s|%q|%%|%x", 1.25, 7, "a", "b", 255) == '  1.2|7  |a|"b"|%|ff')`, ""},
		"a gap in a table":                {`local t = {}; t[60000000] = 1; assert(t[60000000] == 1 and t[1] == nil)`, ""},
		"a gap by insert":                 {`local t = {}; table.insert(t, 60000000, 1); assert(t[60000000] == 1)`, ""},
		"a table as long as a body":       {`local t = {} for i = 1, 20000 do t[i] = i end; t[1048576] = 1; assert(#t == 1048576)`, ""},
		"a table that holds itself":       {`local t = {} for i = 1, 10 do t[i] = t end; h:streamInfo():dynamicMetadata():set("a", "b", t)`, "nested more than"},
		"fields that hold themselves":     {`local t = {} for i = 1, 10 do t["x" .. i] = t end; h:streamInfo():dynamicMetadata():set("a", "b", t)`, "nested more than"},
		"tables that share tables":        {`local t = {} for i = 1, 12 do local u = {} for j = 1, 10 do u[j] = t end t = u end; h:streamInfo():dynamicMetadata():set("a", "b", t)`, "more than 10000 values"},
		"a chunk":                         {`loadstring(string.rep("a=1 ", 100000))`, "a chunk of more than"},
		"a chunk in pieces":               {`load(function() return "a=1 " end)`, "a chunk of more than"},
		"a chunk of many operators":       {`loadstring("return a" .. string.rep("+a", 30000))`, "more than 1000 deep"},
		"small chunks":                    {`local n = 0; assert(loadstring("x = 1"))(); assert(load(function() n = n + 1; return n == 1 and "y = " or n == 2 and "2" or nil end))(); assert(x == 1 and y == 2)`, ""},
		"a date":                          {`os.date(string.rep("%c", 1000000))`, "a format of more than"},
		"a small date":                    {`assert(os.date("!%Y", 0) == "1970")`, ""},
		"much, by rep":                    {`for i = 1, 1000 do string.rep("x", 1000000) end`, "too much memory"},
		"much, by upper":                  {`local s = string.rep("x", 1000000) for i = 1, 1000 do s:upper() end`, "too much memory"},
		"much, by concat":                 {`local s = string.rep("x", 1000000) for i = 1, 1000 do table.concat({s, s}) end`, "too much memory"},
		"much, by format":                 {`local s = string.rep("x", 1000000) for i = 1, 1000 do string.format("%s", s) end`, "too much memory"},
		"much, by base64":                 {`local s = string.rep("x", 1000000) for i = 1, 1000 do h:base64Escape(s) end`, "too much memory"},
		"much, of the body":               {`local b = h:body(true); b:setBytes(string.rep("x", 1000000)) for i = 1, 1000 do b:getBytes(0, b:length()) end`, "too much memory"},
		"a join of large ones":            {`local s = string.rep("x", 10000000); s = s .. s`, "too large"},
		"a join of many":                  {`local s = string.rep("x", 10000000); s = ` + strings.Repeat("s .. ", 100) + `s`, "too large"},
		"who watches joins":               {`assert(getmetatable("\0serai watches\0") == false)`, ""},
		"a join in a chunk":               {`assert(loadstring('local s = string.rep("x", 10000000) return s .. s'))()`, "too large"},
		"much, by print":                  {`local t, s = {}, string.rep("x", 1000000) for i = 1, 100 do t[i] = s end print(unpack(t))`, "too much memory"},
		"much, by metadata":               {`local t, s = {}, string.rep("x", 1000000) for i = 1, 1000 do t[i] = s end h:streamInfo():dynamicMetadata():set("a", "b", t)`, "too much memory"},
		"much, by fields":                 {`local t, s = {}, string.rep("x", 1000000) for i = 1, 1000 do t[i] = s end h:respond({[":status"] = "200", x = t})`, "too much memory"},
		"a concat of large ones":          {`local s = string.rep("x", 10000000); table.concat({s, s})`, "too large"},
		"a call with a large body":        {`h:httpCall("c", {[":method"] = "POST", [":path"] = "/", [":authority"] = "a"}, string.rep("x", 2000000), 100)`, "larger than"},
		"coroutines in coroutines":        {`local function f() return coroutine.wrap(f)() end; f()`, "nested more than 50"},
		"those made before": {`local all = {} for i = 1, 200 do all[i] = coroutine.create(function() local ok, err = coroutine.resume(all[i + 1]) error(err, 0) end) end
			local ok, err = coroutine.resume(all[1]); error(err, 0)`, "nested more than 50"},
		"coroutines": {`local co = coroutine.create(function(a) local b = coroutine.yield(a + 1) return b * 2 end)
			local _, x = coroutine.resume(co, 1); local _, y = coroutine.resume(co, 21); assert(x == 2 and y == 42 and coroutine.status(co) == "dead")
			local n = 0; for v in coroutine.wrap(function() for i = 1, 3 do coroutine.yield(i) end end) do n = n + v end; assert(n == 6)`, ""},
	} {
		r := newRigWithin(t, `function envoy_on_request(h)
			local ok, err = pcall(function() `+tt.script+` end)
			h:headers():replace("said", ok and "ok" or tostring(err))
		end`, time.Minute)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r.serve(t, request("body"))
		runtime.ReadMemStats(&after)
		if made := after.TotalAlloc - before.TotalAlloc; made > most {
			t.Errorf("%s: %d MiB were allocated", name, made>>20)
		}
		_, said, _ := strings.Cut(r.header, "said=")
		if tt.want == "" && !strings.HasPrefix(said, "ok") || !strings.Contains(said, tt.want) {
			t.Errorf("%s: %q, want %q, log %s", name, said, tt.want, r.log.String())
		}
	}
}

// What one call has made is not held against the next.
func TestMemoryIsCountedAnew(t *testing.T) { // not parallel: the heap is everybody's
	r := newRigWithin(t, `function envoy_on_request(h) for i = 1, 30 do string.rep("x", 1000000) end; h:headers():replace("said", "ok") end`, time.Minute)
	for range 4 {
		if r.serve(t, request()); !strings.Contains(r.header, "said=ok") {
			t.Fatal(r.log.String())
		}
		r.header = ""
	}
}
