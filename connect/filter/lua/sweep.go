package lua

import (
	"reflect"

	lua "github.com/yuin/gopher-lua"
)

const (
	// sweepEvery is after how many runs the tables of a state are looked at, and one more
	// for so many of their entries.
	sweepEvery, sweepEntries = 1000, 10
	// fewKeys are not worth a new table.
	fewKeys = 64
)

// sweep makes tables anew that remember many more keys than they have. gopher-lua's do
// not forget a key whose value became nil: a script that keeps a table by client, and
// takes those out that are gone, would grow for ever, and walk all that there ever were.
func (v *vm) sweep() {
	if v.runs++; v.runs < v.sweepAt {
		return
	}
	s := sweeper{seen: map[any]bool{}}
	s.visit(v.state.G.Global)
	for len(s.todo) > 0 {
		last := len(s.todo) - 1
		next := s.todo[last]
		s.todo = s.todo[:last]
		s.look(next)
	}
	v.runs, v.sweepAt = 0, sweepEvery+s.entries/sweepEntries
}

// sweeper goes through what globals lead to.
type sweeper struct {
	seen    map[any]bool
	todo    []lua.LValue
	entries int
}

// visit puts off a value that leads to others.
func (s *sweeper) visit(value lua.LValue) {
	switch v := value.(type) {
	case *lua.LTable:
		if v == nil { // of what has no environment
			return
		}
	case *lua.LFunction, *lua.LUserData:
	default:
		return
	}
	if !s.seen[value] {
		s.seen[value] = true
		s.todo = append(s.todo, value)
	}
}

func (s *sweeper) look(value lua.LValue) {
	switch v := value.(type) {
	case *lua.LTable:
		s.visit(v.Metatable)
		live := 0
		v.ForEach(func(key, value lua.LValue) {
			s.visit(key)
			s.visit(value)
			live++
		})
		s.entries += live
		if known := reflect.ValueOf(v).Elem().FieldByName("keys").Len(); known > fewKeys && known > 2*live {
			renew(v)
		}
	case *lua.LFunction:
		s.visit(v.Env)
		for _, up := range v.Upvalues {
			s.visit(up.Value())
		}
	case *lua.LUserData:
		s.visit(v.Env)
		s.visit(v.Metatable)
	}
}

// renew makes a table anew in its place.
func renew(table *lua.LTable) {
	fresh := &lua.LTable{Metatable: table.Metatable}
	for key, value := table.Next(lua.LNil); key != lua.LNil; key, value = table.Next(key) {
		fresh.RawSet(key, value)
	}
	*table = *fresh
}
