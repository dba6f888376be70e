package lua

import (
	"context"
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// luaCall is httpCall(cluster, headers, body, timeout_ms, async or options).
func (r *run) luaCall(l *lua.LState) int {
	cluster := l.CheckString(2)
	async, twice := false, false
	timeout := time.Duration(0)
	body := ""
	if l.Get(4) != lua.LNil {
		body = l.CheckString(4)
	}
	if options, ok := l.Get(5).(*lua.LTable); ok {
		async = lua.LVAsBool(options.RawGetString("asynchronous"))
		twice = lua.LVAsBool(options.RawGetString("return_duplicate_headers"))
		timeout = time.Duration(lua.LVAsNumber(options.RawGetString("timeout_ms"))) * time.Millisecond
	} else {
		timeout = time.Duration(l.CheckInt64(5)) * time.Millisecond
		async = l.ToBool(6)
	}
	if timeout < 0 {
		l.RaiseError("http call timeout must be >= 0")
	}
	to := r.f.place.Find(cluster)
	if to == nil {
		l.RaiseError("http call cluster invalid. Must be configured")
	}
	if len(body) > maxBody {
		l.RaiseError("%s", wire.ErrTooLarge.Error())
	}
	req := call.Request{Body: []byte(body), Timeout: timeout, MaxBody: maxBody}
	for _, f := range tableFields(l, l.CheckTable(3)) {
		switch f.Name {
		case ":path":
			req.Path = strings.Clone(f.Value)
		case ":method":
			req.Method = strings.Clone(f.Value)
		case ":authority", "host":
			req.Authority = strings.Clone(f.Value)
		case ":scheme":
			req.Scheme = strings.Clone(f.Value)
		default:
			if err := wire.CheckField(f.Name, f.Value); err != nil {
				l.RaiseError("%s", err.Error())
			}
			req.Header.Add(strings.Clone(f.Name), strings.Clone(f.Value))
		}
	}
	if req.Path == "" || req.Method == "" || req.Authority == "" {
		l.RaiseError("http call headers must include ':path', ':method', and ':authority'")
	}
	if !strings.HasPrefix(req.Path, "/") || !grammar.IsTarget(req.Path) || !grammar.IsToken(req.Method) || !grammar.IsAuthority(req.Authority) {
		l.RaiseError("http call with a malformed ':path', ':method' or ':authority'")
	}
	if async {
		r.f.callAsync(l, to, req)
		return 0
	}
	var resp *call.Response
	var err error
	r.wait(func() { resp, err = call.Do(r.x.Context(), to, req) })
	if err != nil {
		resp = &call.Response{Status: 503, Body: []byte("upstream failure")}
	}
	return pushResponse(l, resp, twice)
}

// asyncLimit is how long a call may take that no script waits for, if it does not
// say.
const asyncLimit = time.Minute

func (f *Filter) callAsync(l *lua.LState, to wire.Service, req call.Request) {
	select {
	case f.async <- struct{}{}:
	default:
		l.RaiseError("too many asynchronous http calls")
	}
	if req.Timeout == 0 {
		req.Timeout = asyncLimit
	}
	req.MaxBody = -1
	go func() {
		defer func() { <-f.async }()
		if _, err := call.Do(context.Background(), to, req); err != nil {
			f.place.Log.Debug("asynchronous http call of a script", "err", err)
		}
	}()
}

// pushResponse gives the script the headers and the body of a response.
func pushResponse(l *lua.LState, resp *call.Response, twice bool) int {
	header := l.NewTable()
	header.RawSetString(":status", lua.LString(itoa(resp.Status)))
	for name, value := range resp.Header.All() {
		switch before := header.RawGetString(name).(type) {
		case *lua.LTable:
			before.Append(lua.LString(value))
		case lua.LString:
			if twice {
				list := l.NewTable()
				list.Append(before)
				list.Append(lua.LString(value))
				header.RawSetString(name, list)
				continue
			}
			header.RawSetString(name, lua.LString(value))
		default:
			header.RawSetString(name, lua.LString(value))
		}
	}
	l.Push(header)
	if len(resp.Body) == 0 {
		l.Push(lua.LNil)
	} else {
		l.Push(lua.LString(resp.Body))
	}
	return 2
}
