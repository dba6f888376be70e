package lua

import (
	"context"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	registryFirst, registryStep, registryMost = 1 << 10, 1 << 10, 1 << 16
	callStack                                 = 200
)

// vm is one state of the script.
type vm struct {
	state                 *lua.LState
	made                  meter
	onRequest, onResponse *lua.LFunction
	types                 map[string]*lua.LTable
	// runs counts those since its tables were swept, which is done after sweepAt.
	runs, sweepAt int
}

// newVM makes a state in which the script has run.
func (f *Filter) newVM() (*vm, error) {
	state := lua.NewState(lua.Options{
		SkipOpenLibs: true, CallStackSize: callStack, MinimizeStackMemory: true,
		RegistrySize: registryFirst, RegistryGrowStep: registryStep, RegistryMaxSize: registryMost,
	})
	v := &vm{state: state, made: meter{left: maxMade}, types: map[string]*lua.LTable{}, sweepAt: sweepEvery}
	state.G.Registry.RawSetString(meterKey, &lua.LUserData{Value: &v.made})
	f.sandbox(state)
	if err := boundCoroutines(state); err != nil {
		return nil, err
	}
	v.define()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	guard := newGuard(f.place.Budget, f.growth, cancel)
	defer guard.stop()
	state.SetContext(ctx)
	state.Push(state.NewFunctionFromProto(f.proto))
	if err := state.PCall(0, 0, nil); err != nil {
		return nil, guard.explain(err)
	}
	state.RemoveContext()
	v.onRequest, _ = state.GetGlobal("envoy_on_request").(*lua.LFunction)
	v.onResponse, _ = state.GetGlobal("envoy_on_response").(*lua.LFunction)
	return v, nil
}

// sandbox opens what a script may have of Lua's libraries: nothing that reaches
// out of it.
func (f *Filter) sandbox(l *lua.LState) {
	for _, open := range []struct {
		name string
		f    lua.LGFunction
	}{
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
		{lua.StringLibName, lua.OpenString},
		{lua.MathLibName, lua.OpenMath},
		{lua.CoroutineLibName, lua.OpenCoroutine},
		{lua.OsLibName, lua.OpenOs},
	} {
		l.Push(l.NewFunction(open.f))
		l.Push(lua.LString(open.name))
		l.Call(1, 0)
	}
	for _, name := range []string{"dofile", "loadfile", "module", "require", "_printregs", "newproxy"} {
		l.SetGlobal(name, lua.LNil)
	}
	l.SetGlobal("collectgarbage", l.NewFunction(func(l *lua.LState) int { l.Push(lua.LNumber(0)); return 1 }))
	l.SetGlobal("print", l.NewFunction(func(l *lua.LState) int {
		var words []string
		for i := 1; i <= l.GetTop(); i++ {
			word := l.ToStringMeta(l.Get(i)).String()
			take(l, len(word))
			words = append(words, word)
		}
		f.place.Log.Info("script log", "text", strings.Join(words, "\t"))
		return 0
	}))
	if os, ok := l.GetGlobal(lua.OsLibName).(*lua.LTable); ok {
		var gone []lua.LValue
		os.ForEach(func(key, _ lua.LValue) {
			switch key.String() {
			case "time", "clock", "date", "difftime":
			default:
				gone = append(gone, key)
			}
		})
		for _, key := range gone {
			os.RawSet(key, lua.LNil)
		}
	}
	bounded(l)
	pairs := l.GetGlobal("pairs")
	l.SetGlobal("pairs", l.NewFunction(func(l *lua.LState) int {
		if walk := l.GetMetaField(l.Get(1), "__pairs"); walk != lua.LNil {
			l.Push(walk)
			l.Push(l.Get(1))
			l.Call(1, 3)
			return 3
		}
		l.Push(pairs)
		l.Push(l.CheckTable(1))
		l.Call(1, 3)
		return 3
	}))
}

// method is a method of an object of Envoy's API.
type method func(l *lua.LState, self any) int

// kind makes the metatable of a kind of object.
func (v *vm) kind(name string, methods map[string]method, meta map[string]method) {
	l := v.state
	table := l.NewTable()
	index := l.NewTable()
	wrap := func(m method) *lua.LFunction {
		return l.NewFunction(func(l *lua.LState) int {
			return m(l, self(l, name))
		})
	}
	for key, m := range methods {
		index.RawSetString(key, wrap(m))
	}
	for key, m := range meta {
		table.RawSetString(key, wrap(m))
	}
	table.RawSetString("__index", index)
	table.RawSetString("__metatable", lua.LString(name))
	v.types[name] = table
}

// object is what a userdata holds.
type object struct {
	kind  string
	run   *run // nil for one that outlives runs
	value any
}

// self is the object that a method is called on.
func self(l *lua.LState, kind string) any {
	ud, ok := l.Get(1).(*lua.LUserData)
	if ok {
		if o, ok := ud.Value.(*object); ok && o.kind == kind {
			if o.run != nil && o.run.over {
				l.RaiseError("object used outside of proper scope")
			}
			if o.run != nil && o.run.streaming && ofExchange(kind) {
				l.RaiseError("object used outside of proper scope")
			}
			return o.value
		}
	}
	l.ArgError(1, kind+" expected")
	return nil
}

// ofExchange tells whether objects of a kind look at the exchange, which belongs to
// others once the script is called by whoever reads the body.
func ofExchange(kind string) bool {
	switch kind {
	case "streamInfo", "connection", "connectionStreamInfo", "dynamicMetadata", "ssl":
		return true
	}
	return false
}

// wrap makes a userdata; run is nil for one that outlives it.
func (v *vm) wrap(kind string, run *run, value any) *lua.LUserData {
	return &lua.LUserData{Value: &object{kind, run, value}, Env: v.state.Env, Metatable: v.types[kind]}
}
