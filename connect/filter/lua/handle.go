package lua

import (
	"context"
	"encoding/base64"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/wire"
)

// handle is the object that a script's functions are called with.
func (r *run) handle() lua.LValue {
	if r.self == nil {
		r.self = r.vm.wrap("handle", r, r)
	}
	return r.self
}

// define makes all kinds of objects.
func (v *vm) define() {
	on := func(m func(r *run, l *lua.LState) int) method {
		return func(l *lua.LState, self any) int {
			r, _ := self.(*run)
			return m(r, l)
		}
	}
	// still is on for what needs the exchange, which belongs to others once the script is
	// called by whoever reads the body.
	still := func(m func(r *run, l *lua.LState) int) method {
		return on(func(r *run, l *lua.LState) int {
			if r.streaming {
				l.RaiseError("object used outside of proper scope")
			}
			return m(r, l)
		})
	}
	methods := map[string]method{
		"headers":              still((*run).luaHeaders),
		"body":                 still((*run).luaBody),
		"bodyChunks":           still((*run).luaChunks),
		"trailers":             on((*run).luaTrailers),
		"metadata":             on(func(r *run, l *lua.LState) int { l.Push(v.wrap("metadata", r, r)); return 1 }),
		"filterContext":        on(func(_ *run, l *lua.LState) int { l.Push(l.NewTable()); return 1 }),
		"clearRouteCache":      still(func(r *run, _ *lua.LState) int { r.x.Pinned = nil; return 0 }),
		"respond":              still((*run).luaRespond),
		"httpCall":             still((*run).luaCall),
		"streamInfo":           still(func(r *run, l *lua.LState) int { l.Push(v.wrap("streamInfo", r, r)); return 1 }),
		"connection":           still(func(r *run, l *lua.LState) int { l.Push(v.wrap("connection", r, r)); return 1 }),
		"connectionStreamInfo": still(func(r *run, l *lua.LState) int { l.Push(v.wrap("connectionStreamInfo", r, r)); return 1 }),
		"base64Escape": on(func(r *run, l *lua.LState) int {
			text := l.CheckString(2)
			if len(text) > maxString {
				tooLarge(l)
			}
			take(l, base64.StdEncoding.EncodedLen(len(text)))
			l.Push(lua.LString(base64.StdEncoding.EncodeToString([]byte(text))))
			return 1
		}),
		"timestamp":       on(luaTimestamp),
		"timestampString": on(luaTimestampString),
		"importPublicKey": on((*run).luaImportKey),
		"verifySignature": on(luaVerify),
	}
	for name, level := range map[string]slog.Level{
		"logTrace": slog.LevelDebug, "logDebug": slog.LevelDebug, "logInfo": slog.LevelInfo,
		"logWarn": slog.LevelWarn, "logErr": slog.LevelError, "logCritical": slog.LevelError,
	} {
		methods[name] = on(func(r *run, l *lua.LState) int {
			r.f.place.Log.Log(context.Background(), level, "script log", "text", l.CheckString(2))
			l.Push(lua.LNil)
			return 1
		})
	}
	v.kind("handle", methods, nil)
	defineHeaders(v)
	defineBuffer(v)
	v.defineInfo()
	v.kind("publicKey", map[string]method{"get": func(l *lua.LState, _ any) int { l.Push(l.Get(1)); return 1 }}, nil)
	resolution := v.state.NewTable()
	resolution.RawSetString("MILLISECOND", lua.LNumber(0))
	resolution.RawSetString("MICROSECOND", lua.LNumber(1))
	v.state.SetGlobal("EnvoyTimestampResolution", resolution)
}

func (r *run) luaHeaders(l *lua.LState) int {
	if r.headers == nil {
		r.headers = &fields{run: r, header: r.head()}
	}
	l.Push(r.vm.wrap("headers", r, r.headers))
	return 1
}

// luaBody is body(always_wrap): nil if there is none, unless always_wrap.
func (r *run) luaBody(l *lua.LState) int {
	r.readBody(l)
	if r.body == nil {
		if !l.ToBool(2) || r.raw() || r.resp != nil && (r.req.Method == http.MethodHead || bodiless(r.resp.Status)) {
			l.Push(lua.LNil)
			return 1
		}
		r.body = &whole{trailer: &wire.Header{}}
	}
	l.Push(r.vm.wrap("buffer", r, &buffer{body: r.body, run: r}))
	return 1
}

func bodiless(status int) bool {
	return status == http.StatusNoContent || status == http.StatusNotModified || status == http.StatusSwitchingProtocols
}

// luaChunks is bodyChunks(): an iterator at whose calls the script waits.
func (r *run) luaChunks(l *lua.LState) int {
	source := r.source()
	if r.body != nil {
		l.RaiseError("cannot call bodyChunks after body processing has begun")
	}
	if !r.f.streams || source == nil || r.raw() {
		return r.chunkAtOnce(l)
	}
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if r.over {
			l.Push(lua.LNil)
			return 1
		}
		if !r.streaming {
			c := &chunks{run: r, source: source}
			length := r.req.ContentLength
			if r.resp != nil {
				length = r.resp.ContentLength
			}
			r.setBody(c, length)
			r.x.OnEnd(c)
			r.streaming = true
		}
		b := r.next(l)
		if b == nil {
			l.Push(lua.LNil)
		} else {
			l.Push(r.vm.wrap("buffer", r, b))
		}
		return 1
	}))
	return 1
}

// chunkAtOnce is bodyChunks where the script does not look as if it had them: all
// of the body is one.
func (r *run) chunkAtOnce(l *lua.LState) int {
	r.readBody(l)
	given := r.body == nil || len(r.body.data) == 0
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if given {
			l.Push(lua.LNil)
			return 1
		}
		given = true
		l.Push(r.vm.wrap("buffer", r, &buffer{body: r.body, run: r}))
		return 1
	}))
	return 1
}

// luaTrailers waits for the end of the body.
func (r *run) luaTrailers(l *lua.LState) int {
	var trailer *wire.Header
	switch c, ok := r.source().(*chunks); {
	case ok && c.run == r:
		for r.next(l) != nil { // as one that is not looked at
		}
		trailer = c.source.Trailer()
	default:
		r.readBody(l)
		if r.body != nil {
			trailer = r.body.Trailer()
		}
	}
	if trailer == nil {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(r.vm.wrap("headers", r, &fields{run: r, header: trailer, trailer: true}))
	return 1
}

// luaRespond is respond(headers, body): the script ends, and the request with it.
func (r *run) luaRespond(l *lua.LState) int {
	if r.resp != nil {
		l.RaiseError("respond not currently supported in the response path")
	}
	body, status := l.OptString(3, ""), 0
	var fields wire.Header
	for _, f := range tableFields(l, l.CheckTable(2)) {
		switch f.Name {
		case ":status":
			if n, err := strconv.Atoi(f.Value); err == nil && n >= http.StatusOK && n < 600 {
				status = n
			}
		case "content-length":
		default:
			if err := wire.CheckField(f.Name, f.Value); err != nil {
				l.RaiseError("%s", err.Error())
			}
			fields.Add(f.Name, f.Value)
		}
	}
	if status == 0 {
		l.RaiseError(":status must be between 200-599")
	}
	if bodiless(status) {
		body = ""
	}
	r.x.Details = "lua_response"
	r.answer = wire.Answer(r.x, status, body, func(h *wire.Header) {
		for name, value := range fields.All() {
			h.Add(name, value)
		}
	})
	l.RaiseError("%s", errAnswered.Error())
	l.Push(lua.LNil)
	return 1
}

// tableFields are the fields of a table whose values are strings or lists of them. They
// are counted as what the script makes.
func tableFields(l *lua.LState, table *lua.LTable) []wire.Field {
	var out []wire.Field
	add := func(name string, value lua.LValue) {
		text := strings.Trim(lua.LVAsString(value), " \t")
		take(l, len(text))
		out = append(out, wire.Field{Name: name, Value: text})
	}
	table.ForEach(func(key, value lua.LValue) {
		name := strings.ToLower(lua.LVAsString(key))
		if list, ok := value.(*lua.LTable); ok {
			list.ForEach(func(_, v lua.LValue) { add(name, v) })
			return
		}
		add(name, value)
	})
	return out
}

func luaTimestamp(_ *run, l *lua.LState) int {
	now := time.Now()
	if l.OptInt(2, 0) == 1 {
		l.Push(lua.LNumber(now.UnixMicro()))
	} else {
		l.Push(lua.LNumber(now.UnixMilli()))
	}
	return 1
}

func luaTimestampString(_ *run, l *lua.LState) int {
	now := time.Now()
	if l.OptInt(2, 0) == 1 {
		l.Push(lua.LString(strconv.FormatInt(now.UnixMicro(), 10)))
	} else {
		l.Push(lua.LString(strconv.FormatInt(now.UnixMilli(), 10)))
	}
	return 1
}
