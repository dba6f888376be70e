package lua_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/filter/lua"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// live is how much of the heap is in use, in bytes.
func live() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a script has forgotten, and what it has kept a piece of, is not kept for it.
func TestKeepsWhatItKeeps(t *testing.T) { // not parallel: the heap is everybody's
	const most = 40 << 20
	for name, tt := range map[string]struct {
		script string
		times  int
		body   bool
	}{
		"keys that are gone": {`local key = string.rep("k", 20000) .. n seen[key] = true seen[key] = nil if n % 100 == 0 then seen[n .. "kept"] = n end`, 3500, false},
		"a match of a body":  {`local b = h:body() seen[n] = b:getBytes(0, b:length()):match("^(x%d+)")`, 200, true},
		"a part of a body":   {`local b = h:body() seen[n] = b:getBytes(0, b:length()):sub(1, 20)`, 200, true},
	} {
		r := newRig(t, `n, seen = 0, {} function envoy_on_request(h) n = n + 1 `+tt.script+` end
			function envoy_on_response(h) if n < `+fmt.Sprint(tt.times)+` then return end local all = 0 for _ in pairs(seen) do all = all + 1 end h:headers():add("kept", all) end`)
		before := live()
		var got outcome
		for range tt.times {
			if tt.body {
				req := request()
				req.Body, req.ContentLength = wire.NewBytes([]byte("x12345"+strings.Repeat("y", 300_000))), 300_006
				got = r.serve(t, req)
				continue
			}
			got = r.serve(t, request())
		}
		if grown := live() - before; grown > most {
			t.Errorf("%s: %d MiB are kept", name, grown>>20)
		}
		// One state has served all: requests followed one another.
		want := fmt.Sprintf("kept=%d", tt.times)
		if !tt.body {
			want = fmt.Sprintf("kept=%d", tt.times/100)
		}
		if !strings.HasSuffix(got.Header, want) || r.count("errors") != 0 {
			t.Errorf("%s: %s, want %s; %s", name, got.Header, want, r.log.String())
		}
	}
}

// endless is a body of many chunks.
type endless struct{ chunks, size int }

func (e *endless) Read(p []byte) (int, error) {
	if e.chunks == 0 {
		return 0, io.EOF
	}
	e.chunks--
	return min(e.size, len(p)), nil
}
func (e *endless) Trailer() *wire.Header { return nil }
func (e *endless) Close() error          { return nil }

// stream has a script see a long body, and returns how much of it has passed. An error of
// the script is one.
func stream(t *testing.T, script string, budget time.Duration, body wire.Body) (int64, error) {
	t.Helper()
	var registry stats.Registry
	f, err := lua.New(&mesh.Lua{Code: script}, lua.Place{Stats: registry.Scope("lua."), Log: slog.New(slog.DiscardHandler), Budget: budget})
	if err != nil {
		t.Fatal(err)
	}
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	defer func() { x.Done(time.Now()) }()
	req := request()
	req.Body, req.ContentLength = body, wire.UnknownLength
	var passed int64
	_, err = f.Layer(nil)(wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		buf := make([]byte, 1<<20)
		for {
			n, err := req.Body.Read(buf)
			passed += int64(n)
			if errors.Is(err, io.EOF) {
				return &wire.Response{Status: 200}, nil
			}
			if err != nil {
				return nil, err
			}
		}
	})).Serve(x, req)
	for s := range registry.All() {
		if s.Name == "lua.errors" && s.Value > 0 && err == nil {
			err = errScript
		}
	}
	return passed, err
}

var errScript = errors.New("the script has failed")

// A body may have any length, and be on its way for any time: what bounds a script is for
// each chunk.
func TestChunksWithoutEnd(t *testing.T) { // not parallel: the heap is everybody's
	const mega = 1 << 20
	passed, err := stream(t, `function envoy_on_request(h) local n = 0
		for chunk in h:bodyChunks() do n = n + #chunk:getBytes(0, chunk:length()) end
		assert(n == 200 * 2^20) end`, time.Minute, &endless{200, mega})
	if err != nil || passed != 200*mega {
		t.Errorf("%d MiB have passed: %v", passed/mega, err)
	}
	passed, err = stream(t, `function envoy_on_request(h)
		for chunk in h:bodyChunks() do local begun = os.clock() while os.clock() < begun + 0.02 do end end end`, time.Second, &endless{60, 1})
	if err != nil || passed != 60 {
		t.Errorf("%d bytes have passed: %v", passed, err)
	}
	passed, err = stream(t, `function envoy_on_request(h) local n = 0
		for chunk in h:bodyChunks() do n = n + chunk:length() end
		assert(n == 600000) end`, time.Minute, &endless{600_000, 1})
	if err != nil || passed != 600_000 {
		t.Errorf("%d bytes have passed: %v", passed, err)
	}
}

// A script that does not get on with a chunk, or keeps them all, ends the body: the rest
// does not pass without it.
func TestChunksAreBounded(t *testing.T) { // not parallel: the heap is everybody's
	before := debug.SetMemoryLimit(64 << 20) // so that the heap may grow by 32 MiB
	defer debug.SetMemoryLimit(before)
	passed, err := stream(t, `function envoy_on_request(h) local all = {}
		for chunk in h:bodyChunks() do all[#all + 1] = chunk:getBytes(0, chunk:length()) end end`, time.Minute, &endless{1000, 1 << 20})
	if err == nil || wire.AsFault(err).Status != 503 || passed > 300<<20 {
		t.Errorf("%d MiB have passed: %v", passed>>20, err)
	}
	passed, err = stream(t, `function envoy_on_request(h) local all = {}
		for chunk in h:bodyChunks() do all[#all + 1] = chunk end end`, time.Minute, &endless{3_000_000, 1})
	if err == nil || wire.AsFault(err).Status != 503 {
		t.Errorf("%d bytes have passed, all of which are kept: %v", passed, err)
	}
	debug.SetMemoryLimit(before)
	passed, err = stream(t, `function envoy_on_request(h) for chunk in h:bodyChunks() do while true do n = chunk end end end`, 50*time.Millisecond, &endless{10, 1})
	if err == nil || wire.AsFault(err).Status != 503 || passed != 0 {
		t.Errorf("%d bytes have passed: %v", passed, err)
	}
	// The end is for the script, too.
	for _, after := range []string{`while true do n = 1 end`, `for i = 1, 1000 do string.rep("x", 1000000) end`} {
		_, err = stream(t, `function envoy_on_request(h) for chunk in h:bodyChunks() do end `+after+` end`, time.Second, &endless{10, 1})
		if err == nil || wire.AsFault(err).Status != 503 {
			t.Errorf("%s: %v", after, err)
		}
	}
}

// Trailers are waited for, by a script that does not look at all chunks as well, and by one
// behind another.
func TestTrailersAfterChunks(t *testing.T) {
	t.Parallel()
	const script = `function envoy_on_request(h)
		for chunk in h:bodyChunks() do break end
		h:trailers():add("seen", "1")
	end`
	r := newRig(t, script)
	r.serve(t, request("one", "two", "three"))
	if r.trail != "end=yes seen=1" || r.body != "onetwothree" || r.count("errors") != 0 {
		t.Errorf("%q %q %s", r.body, r.trail, r.log.String())
	}
	front := newRig(t, script)
	behind := newRig(t, `function envoy_on_request(h) h:trailers():add("behind", "1") end`)
	var trail string
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	last := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if _, err := io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		trail = text(req.Body.Trailer())
		return &wire.Response{Status: 200}, nil
	})
	if _, err := front.filter.Layer(nil)(behind.filter.Layer(nil)(last)).Serve(x, request("one", "two")); err != nil {
		t.Fatal(err)
	}
	x.Done(time.Now())
	if trail != "end=yes seen=1 behind=1" || behind.count("errors") != 0 {
		t.Errorf("%q %s", trail, behind.log.String())
	}
}
