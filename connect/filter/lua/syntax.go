package lua

import (
	"fmt"
	"reflect"
	"strings"

	lua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

const (
	// maxNesting is how deep expressions, blocks and functions stand in one another.
	maxNesting = 1000
	// maxJoined is how many operands one ".." has: what it makes is seen when it is done.
	maxJoined = 4
	// watching stands for the one who looks at what ".." makes in a tree of syntax, where
	// there is no name that a script could not take for its own.
	watching = "\x00serai watches\x00"
)

// errNested: whoever compiles it would take the square of that in time and memory.
var errNested = fmt.Errorf("expressions, blocks or functions stand in one another more than %d deep", maxNesting)

// compile compiles a chunk whose ".." has a bound. That is an instruction and no function,
// so "a .. b" becomes "watcher * (a .. b)", where the watcher's metamethod looks how long
// the string is.
func compile(text, name string) (*lua.FunctionProto, error) {
	chunk, err := parse.Parse(strings.NewReader(text), name)
	if err != nil {
		return nil, err
	}
	if nested(reflect.ValueOf(chunk), 0) {
		return nil, errNested
	}
	watch(reflect.ValueOf(chunk))
	proto, err := lua.Compile(chunk, name)
	if err != nil {
		return nil, err
	}
	link(proto, watcher())
	return proto, nil
}

// nested tells whether a tree of syntax is too deep.
func nested(tree reflect.Value, depth int) bool {
	if depth > maxNesting {
		return true
	}
	switch tree.Kind() { //nolint:exhaustive // all others are leaves
	case reflect.Interface:
		return nested(tree.Elem(), depth)
	case reflect.Pointer:
		return nested(tree.Elem(), depth+1)
	case reflect.Slice:
		for i := range tree.Len() {
			if nested(tree.Index(i), depth) {
				return true
			}
		}
	case reflect.Struct:
		for _, field := range tree.Fields() {
			if nested(field, depth) {
				return true
			}
		}
	}
	return false
}

// watch has what ".." makes watched, in a tree that is not too deep.
func watch(tree reflect.Value) {
	switch tree.Kind() { //nolint:exhaustive // all others are leaves
	case reflect.Interface:
		if join, ok := reflect.TypeAssert[*ast.StringConcatOpExpr](tree); ok {
			operands := operandsOf(join)
			for i := range operands {
				watch(reflect.ValueOf(&operands[i]).Elem())
			}
			tree.Set(reflect.ValueOf(watched(operands, join)))
			return
		}
		watch(tree.Elem())
	case reflect.Pointer:
		watch(tree.Elem())
	case reflect.Slice:
		for i := range tree.Len() {
			watch(tree.Index(i))
		}
	case reflect.Struct:
		for _, field := range tree.Fields() {
			watch(field)
		}
	}
}

// operandsOf are those of "a .. b .. c".
func operandsOf(join *ast.StringConcatOpExpr) []ast.Expr {
	for all := []ast.Expr{join.Lhs}; ; {
		next, more := join.Rhs.(*ast.StringConcatOpExpr)
		if !more {
			return append(all, join.Rhs)
		}
		join, all = next, append(all, next.Lhs)
	}
}

// watched joins operands from right to left, as Lua does, a few at a time.
func watched(operands []ast.Expr, at ast.PositionHolder) ast.Expr {
	if len(operands) > maxJoined {
		first := maxJoined - 1
		operands = append(operands[:first:first], watched(operands[first:], at))
	}
	last := len(operands) - 1
	all := operands[last]
	for i := last - 1; i >= 0; i-- {
		all = placed(&ast.StringConcatOpExpr{Lhs: operands[i], Rhs: all}, at)
	}
	return placed(&ast.ArithmeticOpExpr{Operator: "*", Lhs: placed(&ast.StringExpr{Value: watching}, at), Rhs: all}, at)
}

// placed is an expression that stands where another has stood.
func placed(e ast.Expr, at ast.PositionHolder) ast.Expr {
	e.SetLine(at.Line())
	e.SetLastLine(at.LastLine())
	return e
}

// watcher is the one who looks at strings. States share it: it does not change.
func watcher() *lua.LUserData {
	meta := &lua.LTable{Metatable: lua.LNil}
	meta.RawSetString("__metatable", lua.LFalse) // a script that writes what stands for it must not change it
	meta.RawSetString("__mul", &lua.LFunction{IsG: true, Env: &lua.LTable{Metatable: lua.LNil}, GFunction: func(l *lua.LState) int {
		if s, ok := l.Get(2).(lua.LString); ok && len(s) > maxString {
			tooLarge(l)
		}
		return 1
	}})
	return &lua.LUserData{Metatable: meta}
}

// link puts the watcher in the place of what stands for it.
func link(proto *lua.FunctionProto, watcher *lua.LUserData) {
	for i, constant := range proto.Constants {
		if constant == lua.LString(watching) {
			proto.Constants[i] = watcher
		}
	}
	for _, inner := range proto.FunctionPrototypes {
		link(inner, watcher)
	}
}
