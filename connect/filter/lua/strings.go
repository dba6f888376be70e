package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// bounded puts functions in the place of those of gopher-lua that may run for ever,
// or take all memory, between two instructions of a script, where nobody can end them.
// What they make is counted.
func bounded(l *lua.LState) {
	if table, ok := l.GetGlobal(lua.StringLibName).(*lua.LTable); ok {
		table.RawSetString("dump", lua.LNil)
		table.RawSetString("gfind", lua.LNil)
		for name, f := range map[string]lua.LGFunction{
			"find": strFind, "match": strMatch, "gmatch": strGmatch,
			"rep": counts(rep), "gsub": counts(strGsub), "format": counts(strFormat(table.RawGetString("format"))),
			"upper": counts(caseOf('a', 'z')), "lower": counts(caseOf('A', 'Z')), "sub": sub(table.RawGetString("sub")),
		} {
			table.RawSetString(name, l.NewFunction(f))
		}
		for _, name := range []string{"reverse", "char"} {
			inner := table.RawGetString(name)
			table.RawSetString(name, l.NewFunction(counts(func(l *lua.LState) int { return pass(l, inner) })))
		}
	}
	if table, ok := l.GetGlobal(lua.OsLibName).(*lua.LTable); ok {
		table.RawSetString("date", l.NewFunction(date(table.RawGetString("date"))))
	}
	l.SetGlobal("loadstring", l.NewFunction(loadString))
	l.SetGlobal("load", l.NewFunction(load))
	l.SetGlobal("tonumber", l.NewFunction(toNumber))
	if table, ok := l.GetGlobal(lua.TabLibName).(*lua.LTable); ok {
		table.RawSetString("concat", l.NewFunction(counts(concat)))
	}
}

// rep is string.rep with a bound.
func rep(l *lua.LState) int {
	s, n := l.CheckString(1), l.CheckInt(2)
	if n <= 0 || s == "" {
		l.Push(lua.LString(""))
		return 1
	}
	if n > maxString/len(s) {
		tooLarge(l)
	}
	l.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

// caseOf is string.upper or string.lower, which change ASCII's letters from first to last
// and no other bytes, as in Lua's own locale: text need not be UTF-8.
func caseOf(first, last byte) lua.LGFunction {
	return func(l *lua.LState) int {
		text := []byte(l.CheckString(1))
		for i, c := range text {
			if first <= c && c <= last {
				text[i] = c ^ ' '
			}
		}
		l.Push(lua.LString(text))
		return 1
	}
}

// maxPiece is how long a part of a string may be to be a copy of its own, in bytes: who
// keeps it does not keep the whole then, as a rule all of a body.
const maxPiece = 16 << 10

// piece is a part of a string.
func piece(s string) lua.LString {
	if len(s) <= maxPiece {
		s = strings.Clone(s)
	}
	return lua.LString(s)
}

// sub is string.sub, whose pieces are pieces.
func sub(inner lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		n := pass(l, inner)
		if s, ok := l.Get(-1).(lua.LString); ok {
			l.Push(piece(string(s)))
			return 1
		}
		return n
	}
}

// first is where a search in s begins, which is argument n.
func first(l *lua.LState, s string, n int) int {
	from := l.OptInt(n, 1)
	if from < 0 {
		from += len(s) + 1
	}
	return min(max(from-1, 0), len(s))
}

// search looks for the first match from s on.
func (m *matcher) search(s int) (start, end int) {
	p := 0
	anchored := strings.HasPrefix(m.pat, "^")
	if anchored {
		p = 1
	}
	for ; s <= len(m.src); s++ {
		if end := m.begin(s, p); end >= 0 {
			return s, end
		}
		if anchored {
			break
		}
	}
	return -1, -1
}

func strFind(l *lua.LState) int {
	s, pattern := l.CheckString(1), l.CheckString(2)
	from := first(l, s, 3)
	if l.ToBool(4) || !strings.ContainsAny(pattern, "^$*+?.([%-") {
		i := strings.Index(s[from:], pattern)
		if i < 0 {
			l.Push(lua.LNil)
			return 1
		}
		l.Push(lua.LNumber(from + i + 1))
		l.Push(lua.LNumber(from + i + len(pattern)))
		return 2
	}
	m := newMatcher(l, s, pattern)
	start, end := m.search(from)
	if start < 0 {
		l.Push(lua.LNil)
		return 1
	}
	l.Push(lua.LNumber(start + 1))
	l.Push(lua.LNumber(end))
	return 2 + m.push(start, end, false)
}

func strMatch(l *lua.LState) int {
	s := l.CheckString(1)
	m := newMatcher(l, s, l.CheckString(2))
	start, end := m.search(first(l, s, 3))
	if start < 0 {
		l.Push(lua.LNil)
		return 1
	}
	return m.push(start, end, true)
}

// strGmatch knows no "^", as with Lua 5.1.
func strGmatch(l *lua.LState) int {
	s, pattern, from := l.CheckString(1), l.CheckString(2), 0
	l.Push(l.NewFunction(func(l *lua.LState) int {
		m := newMatcher(l, s, pattern)
		for ; from <= len(s); from++ {
			end := m.begin(from, 0)
			if end < 0 {
				continue
			}
			start := from
			if from = end; end == start {
				from++
			}
			return m.push(start, end, true)
		}
		l.Push(lua.LNil)
		return 1
	}))
	return 1
}

func strGsub(l *lua.LState) int {
	s, pattern := l.CheckString(1), l.CheckString(2)
	replace := l.CheckAny(3)
	switch replace.(type) {
	case lua.LString, lua.LNumber, *lua.LTable, *lua.LFunction:
	default:
		l.ArgError(3, "string/function/table expected")
	}
	most := l.OptInt(4, len(s)+1)
	p := 0
	if strings.HasPrefix(pattern, "^") {
		p = 1
	}
	m := newMatcher(l, s, pattern)
	var out strings.Builder
	from, n := 0, 0
	for n < most {
		end := m.begin(from, p)
		if end >= 0 {
			n++
			m.replace(&out, replace, from, end)
		}
		switch {
		case end > from:
			from = end
		case from < len(s):
			out.WriteByte(s[from])
			from++
		default:
			from++
		}
		if out.Len() > maxString {
			tooLarge(l)
		}
		if from > len(s) || p == 1 {
			break
		}
	}
	if from < len(s) {
		out.WriteString(s[from:])
	}
	l.Push(lua.LString(out.String()))
	l.Push(lua.LNumber(n))
	return 2
}

// replace writes what stands for the match from start to end.
func (m *matcher) replace(out *strings.Builder, by lua.LValue, start, end int) {
	var value lua.LValue
	switch by := by.(type) {
	case *lua.LTable:
		value = m.l.GetTable(by, m.value(0, start, end))
	case *lua.LFunction:
		m.l.Push(by)
		m.l.Call(m.push(start, end, true), 1)
		value = m.l.Get(-1)
		m.l.Pop(1)
	default:
		m.expand(out, lua.LVAsString(by), start, end)
		return
	}
	switch {
	case lua.LVIsFalse(value):
		out.WriteString(m.src[start:end])
	case lua.LVCanConvToString(value):
		out.WriteString(lua.LVAsString(value))
	default:
		m.l.RaiseError("invalid replacement value (a %s)", value.Type().String())
	}
}

// expand writes text with captures in the place of "%1" and so on.
func (m *matcher) expand(out *strings.Builder, text string, start, end int) {
	for i := 0; i < len(text); i++ {
		m.step()
		if text[i] != '%' || i+1 == len(text) {
			out.WriteByte(text[i])
			continue
		}
		i++
		switch c := text[i]; {
		case c == '0':
			out.WriteString(m.src[start:end])
		case digit(c):
			out.WriteString(lua.LVAsString(m.value(int(c)-'1', start, end)))
		default:
			out.WriteByte(c)
		}
		if out.Len() > maxString {
			tooLarge(m.l)
		}
	}
}

// strFormat holds a format to what Lua knows (Lua 5.1 Reference Manual, section 5.4,
// string.format), since what is there knows more, such as to name one argument a
// thousand times, and leaves the rest to it.
func strFormat(inner lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		format, arg := l.CheckString(1), 2
		total := len(format)
		for rest := format; ; {
			_, after, found := strings.Cut(rest, "%")
			if !found {
				break
			}
			if rest = after; strings.HasPrefix(rest, "%") {
				rest = rest[1:]
				continue
			}
			var room int
			room, rest = conversion(l, rest)
			// A byte may be written as four.
			if total += room + 4*len(lua.LVAsString(l.Get(arg))); total > maxString {
				tooLarge(l)
			}
			arg++
		}
		return pass(l, inner)
	}
}

// conversion reads what stands behind a "%", and tells how long a number may be by it.
func conversion(l *lua.LState, text string) (room int, rest string) {
	const flags, numbers, longest = "-+ #0", "0123456789", 2
	rest = strings.TrimLeft(text, flags)
	if len(text)-len(rest) > len(flags) {
		l.RaiseError("invalid format (repeated flags)")
	}
	for dot := false; ; dot = true {
		after := strings.TrimLeft(rest, numbers)
		if len(rest)-len(after) > longest {
			l.RaiseError("invalid format (width or precision too long)")
		}
		if rest = after; dot || !strings.HasPrefix(rest, ".") {
			break
		}
		rest = rest[1:]
	}
	if rest == "" || !strings.Contains("cdiouxXeEfgGqs", rest[:1]) {
		l.RaiseError("invalid option in format")
	}
	const widest = 99 + 99 + 310 // both of them, and what a float64 has before its point
	return widest, rest[1:]
}

// concat is table.concat with a bound.
func concat(l *lua.LState) int {
	table, separator := l.CheckTable(1), l.OptString(2, "")
	from, to := l.OptInt(3, 1), l.OptInt(4, table.Len())
	var out strings.Builder
	for i := from; i <= to; i++ {
		value := table.RawGetInt(i)
		if !lua.LVCanConvToString(value) {
			l.RaiseError("invalid value (%s) at index %d in table for concat", value.Type().String(), i)
		}
		text := lua.LVAsString(value)
		if out.Len()+len(text)+len(separator) > maxString {
			tooLarge(l)
		}
		out.WriteString(text)
		if i < to {
			out.WriteString(separator)
		}
	}
	l.Push(lua.LString(out.String()))
	return 1
}
