package lua

import (
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// fields is a header as a script sees it: with pseudo-header fields, and the
// length of the body, which is no field of ours.
type fields struct {
	run     *run
	header  *wire.Header
	trailer bool
	// walking counts walks that have begun and not ended: the header must not change.
	walking int
}

// all are the fields in order. Their strings die with the exchange: what a script
// gets, it may keep, and so has to be a copy.
func (f *fields) all() []wire.Field {
	var out []wire.Field
	r := f.run
	switch {
	case f.trailer:
	case r.resp != nil:
		out = append(out, wire.Field{Name: ":status", Value: strconv.Itoa(r.resp.Status)})
		if r.resp.ContentLength > 0 {
			out = append(out, wire.Field{Name: "content-length", Value: strconv.FormatInt(r.resp.ContentLength, 10)})
		}
	default:
		out = append(
			out, wire.Field{Name: ":authority", Value: r.req.Authority}, wire.Field{Name: ":path", Value: r.req.Path},
			wire.Field{Name: ":method", Value: r.req.Method}, wire.Field{Name: ":scheme", Value: r.req.Scheme},
		)
		if r.req.ContentLength > 0 {
			out = append(out, wire.Field{Name: "content-length", Value: strconv.FormatInt(r.req.ContentLength, 10)})
		}
	}
	for name, value := range f.header.All() {
		out = append(out, wire.Field{Name: name, Value: value})
	}
	return out
}

// owned is a string for a script, which may keep it for longer than there is the
// buffer that s points into.
func owned(s string) lua.LString { return lua.LString(strings.Clone(s)) }

func (f *fields) values(name string) []string {
	if name == "host" {
		name = ":authority"
	}
	var out []string
	for _, field := range f.all() {
		if field.Name == name {
			out = append(out, field.Value)
		}
	}
	return out
}

// change is what a script does to a field.
type change uint8

const (
	add change = iota
	replace
	remove
)

// do changes a field. What would not be a field is an error of the script.
func (f *fields) do(l *lua.LState, c change) int {
	if f.walking > 0 {
		l.RaiseError("header map cannot be modified while iterating")
	}
	if f.run.streaming && !f.trailer {
		l.RaiseError("header map can no longer be modified")
	}
	if f.run.resp == nil && !f.trailer && !f.run.keep {
		f.run.x.Pinned = nil // the route is chosen anew
	}
	name := strings.Clone(strings.ToLower(l.CheckString(2)))
	if c == remove {
		if !strings.HasPrefix(name, ":") && name != "host" {
			f.header.Del(name)
		}
		return 0
	}
	value := strings.Clone(strings.Trim(l.CheckString(3), " \t"))
	if err := f.set(name, value, c == add); err != nil {
		l.RaiseError("%s", err.Error())
	}
	return 0
}

func (f *fields) set(name, value string, more bool) error {
	pseudo := strings.HasPrefix(name, ":") || name == "host"
	switch {
	case f.trailer && pseudo:
		return wire.CheckField(name, value) // never one
	case pseudo && f.run.resp == nil:
		return f.run.req.Put(name, value)
	case name == ":status":
		status, err := strconv.Atoi(value)
		if err != nil || status < 200 || status > 599 {
			return wire.CheckField(name, value)
		}
		f.run.resp.Status = status
		return nil
	}
	if err := wire.CheckField(name, value); err != nil || grammar.Own(name) {
		return err
	}
	if more {
		f.header.Add(name, value)
	} else {
		f.header.Set(name, value)
	}
	return nil
}

// walk is pairs(headers).
func (f *fields) walk(l *lua.LState) int {
	all, next := f.all(), 0
	f.walking++
	ended := false
	l.Push(l.NewFunction(func(l *lua.LState) int {
		if f.run.over || f.run.streaming && !f.trailer { // the fields belong to others
			l.RaiseError("object used outside of proper scope")
		}
		if next == len(all) {
			if !ended {
				ended = true
				f.walking--
			}
			l.Push(lua.LNil)
			return 1
		}
		l.Push(owned(all[next].Name))
		l.Push(owned(all[next].Value))
		next++
		return 2
	}))
	l.Push(lua.LNil)
	l.Push(lua.LNil)
	return 3
}

func defineHeaders(v *vm) {
	on := func(m func(l *lua.LState, f *fields) int) method {
		return func(l *lua.LState, self any) int {
			f, _ := self.(*fields)
			return m(l, f)
		}
	}
	v.kind("headers", map[string]method{
		"add":     on(func(l *lua.LState, f *fields) int { return f.do(l, add) }),
		"append":  on(func(l *lua.LState, f *fields) int { return f.do(l, add) }),
		"replace": on(func(l *lua.LState, f *fields) int { return f.do(l, replace) }),
		"remove":  on(func(l *lua.LState, f *fields) int { return f.do(l, remove) }),
		"get": on(func(l *lua.LState, f *fields) int {
			values := f.values(strings.ToLower(l.CheckString(2)))
			if len(values) == 0 {
				l.Push(lua.LNil)
				return 1
			}
			l.Push(owned(strings.Join(values, ",")))
			return 1
		}),
		"getAtIndex": on(func(l *lua.LState, f *fields) int {
			values := f.values(strings.ToLower(l.CheckString(2)))
			i := l.CheckInt(3)
			if i < 0 || i >= len(values) {
				l.Push(lua.LNil)
				return 1
			}
			l.Push(owned(values[i]))
			return 1
		}),
		"getNumValues": on(func(l *lua.LState, f *fields) int {
			l.Push(lua.LNumber(len(f.values(strings.ToLower(l.CheckString(2))))))
			return 1
		}),
		"setHttp1ReasonPhrase": on(func(*lua.LState, *fields) int { return 0 }), // RFC 9112: nobody reads it
	}, map[string]method{"__pairs": on(func(l *lua.LState, f *fields) int { return f.walk(l) })})
}

// buffer is a body, or a chunk of one, in the hands of a script.
type buffer struct {
	data []byte
	// body, if not nil, is what is changed with it.
	body *whole
	run  *run
	// fixed says that it must not be changed.
	fixed bool
}

func (b *buffer) bytes() []byte {
	if b.body != nil {
		return b.body.data
	}
	return b.data
}

func defineBuffer(v *vm) {
	on := func(m func(l *lua.LState, b *buffer) int) method {
		return func(l *lua.LState, self any) int {
			b, _ := self.(*buffer)
			return m(l, b)
		}
	}
	v.kind("buffer", map[string]method{
		"length": on(func(l *lua.LState, b *buffer) int { l.Push(lua.LNumber(len(b.bytes()))); return 1 }),
		"getBytes": on(func(l *lua.LState, b *buffer) int {
			from, n := l.CheckInt(2), l.CheckInt(3)
			if data := b.bytes(); from < 0 || n < 0 || from > len(data) || n > len(data)-from {
				l.RaiseError("index/length must be >= 0 and (index + length) must be <= buffer size")
			} else {
				take(l, n)
				l.Push(lua.LString(data[from : from+n]))
			}
			return 1
		}),
		"setBytes": on(func(l *lua.LState, b *buffer) int {
			data := []byte(l.CheckString(2))
			switch {
			case b.fixed || b.body == nil || b.run.streaming:
				l.RaiseError("a chunk that has been sent cannot be changed")
			case len(data) > maxBody:
				l.RaiseError("%s", wire.ErrTooLarge.Error())
			}
			b.body.data = slices.Clone(data)
			b.run.setBody(b.body, int64(len(data)))
			l.Push(lua.LNumber(len(data)))
			return 1
		}),
	}, nil)
}
