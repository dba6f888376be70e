package lua

import (
	"errors"
	"net/http"
	"runtime/debug"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxMade is how much a script makes of strings by functions of ours in one call, or for
	// a chunk, in bytes.
	maxMade = 64 << 20
	// chunkCost is what a chunk counts as, however small: so much a script has of one that
	// it keeps.
	chunkCost = 256
	// maxArray is the first key that is not of a table's array: with a gap before it, all
	// below is made at once. A body has no more bytes.
	maxArray = maxBody + 1
	// maxLoad is the largest source that a script compiles, in bytes: what comes of it in
	// memory is many times as much, and nobody can end it meanwhile.
	maxLoad = 64 << 10
	// maxDate is the longest format of a date.
	maxDate = 1 << 10
	// maxResumed is how many coroutines may wait for one another, the script included.
	maxResumed = 50
	// maxValues is how many values a table of metadata has, with those of its tables.
	maxValues = 10_000
	// maxString is the largest string that a function or ".." makes, in bytes.
	maxString = 16 << 20
)

// gopher-lua has this for the process, and we are its only user.
func init() { lua.MaxArrayIndex = maxArray } //nolint:gochecknoinits // it is read by every state, so it is set before there is one

// meter counts what a script makes in one call. It belongs to a state.
type meter struct {
	left int
	// hit says that a bound of ours has ended something in this call.
	hit bool
}

// meterKey is where a state has its meter, in the registry, which scripts do not see.
const meterKey = "serai.meter"

func meterOf(l *lua.LState) *meter {
	if ud, ok := l.G.Registry.RawGetString(meterKey).(*lua.LUserData); ok {
		if m, ok := ud.Value.(*meter); ok {
			return m
		}
	}
	return &meter{}
}

// take ends the script if it has made too much.
func take(l *lua.LState, n int) {
	m := meterOf(l)
	if m.left -= n; m.left < 0 {
		m.hit = true
		l.RaiseError("%s", errTooLong.Error())
	}
}

// tooLarge ends the script since it makes a string that is.
func tooLarge(l *lua.LState) {
	meterOf(l).hit = true
	l.RaiseError("resulting string too large")
}

// counts counts the strings that f returns.
func counts(f lua.LGFunction) lua.LGFunction {
	return func(l *lua.LState) int {
		n := f(l)
		for i := 1; i <= n; i++ {
			if s, ok := l.Get(-i).(lua.LString); ok {
				take(l, len(s))
			}
		}
		return n
	}
}

// errTooLong is why a script has ended by a bound of ours.
var errTooLong = errors.New("the script has run for too long, or taken too much memory")

// ours tells whether a script has failed with err because of a bound that it would not
// have met with Envoy: clients that make it do so must not get past it.
func (r *run) ours(err error) bool {
	if errors.Is(err, errTooLong) || r.vm.made.hit {
		return true
	}
	e, ok := errors.AsType[*lua.ApiError](err)
	return ok && (strings.HasSuffix(e.Object.String(), "stack overflow") || strings.HasSuffix(e.Object.String(), "registry overflow"))
}

// refusal is what becomes of an exchange whose script has been ended by err.
func refusal(err error) error {
	return &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamOverflow, Text: "overloaded", Err: err}
}

// growth is how much the heap may grow while a script runs on: no more than a quarter of
// what the process may have.
func growth() uint64 {
	return max(leastGrowth, min(maxGrowth, uint64(debug.SetMemoryLimit(-1))/4)) //nolint:gosec // it is never negative
}

// loadString is loadstring with a bound.
func loadString(l *lua.LState) int {
	text, name := l.CheckString(1), l.OptString(2, "<string>")
	if len(text) > maxLoad {
		l.RaiseError("a chunk of more than %d bytes", maxLoad)
	}
	proto, err := compile(text, name)
	switch {
	case errors.Is(err, errNested):
		l.RaiseError("%s", err.Error())
	case err != nil:
		l.Push(lua.LNil)
		l.Push(lua.LString(err.Error()))
		return 2
	}
	l.Push(l.NewFunctionFromProto(proto))
	return 1
}

// load is load with a bound: its pieces are put together and given to loadstring.
func load(l *lua.LState) int {
	next, name := l.CheckFunction(1), l.OptString(2, "=(load)")
	var text strings.Builder
	for {
		l.Push(next)
		l.Call(0, 1)
		piece := l.Get(-1)
		l.Pop(1)
		if piece == lua.LNil || piece == lua.LString("") {
			break
		}
		if !lua.LVCanConvToString(piece) {
			l.RaiseError("reader function must return a string")
		}
		text.WriteString(lua.LVAsString(piece))
		if text.Len() > maxLoad {
			l.RaiseError("a chunk of more than %d bytes", maxLoad)
		}
	}
	l.SetTop(0)
	l.Push(lua.LString(text.String()))
	l.Push(lua.LString(name))
	return loadString(l)
}

// shallow holds those to a depth who resume one another: each one that fails tells all
// above it, whose errors get longer and longer, so that they end long after their time.
// It is in Lua, since only there a coroutine can be resumed by who is in another's place.
const shallow = `local check, create, resume, wrap = ...
coroutine.create = function(f) check() return create(f) end
coroutine.resume = function(co, ...) check() return resume(co, ...) end
coroutine.wrap = function(f)
	check()
	local inner = wrap(f)
	return function(...) check() return inner(...) end
end`

// boundCoroutines puts shallow in force.
func boundCoroutines(l *lua.LState) error {
	table, ok := l.GetGlobal(lua.CoroutineLibName).(*lua.LTable)
	if !ok {
		return nil
	}
	f, err := l.LoadString(shallow)
	if err != nil {
		return err
	}
	check := l.NewFunction(func(l *lua.LState) int {
		depth := 0
		for at := l; at != nil; at = at.Parent {
			if depth++; depth > maxResumed {
				l.RaiseError("coroutines are nested more than %d deep", maxResumed)
			}
		}
		return 0
	})
	return l.CallByParam(lua.P{Fn: f, Protect: true}, check, table.RawGetString("create"), table.RawGetString("resume"), table.RawGetString("wrap"))
}

// date is os.date with a bound.
func date(inner lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		if len(l.OptString(1, "")) > maxDate {
			l.RaiseError("a format of more than %d bytes", maxDate)
		}
		return pass(l, inner)
	}
}

// pass calls inner with the arguments, and returns what it does.
func pass(l *lua.LState, inner lua.LValue) int {
	args := l.GetTop()
	l.Insert(inner, 1)
	l.Call(args, lua.MultRet)
	return l.GetTop()
}
