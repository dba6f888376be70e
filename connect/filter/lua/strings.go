package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// bounded puts functions in the place of those of gopher-lua that may run for ever,
// or take all memory, between two instructions of a script, where nobody can end them.
func bounded(l *lua.LState) {
	if table, ok := l.GetGlobal(lua.StringLibName).(*lua.LTable); ok {
		table.RawSetString("dump", lua.LNil)
		table.RawSetString("gfind", lua.LNil)
		for name, f := range map[string]lua.LGFunction{
			"rep": rep, "find": strFind, "match": strMatch, "gmatch": strGmatch, "gsub": strGsub, "format": strFormat(table.RawGetString("format")),
		} {
			table.RawSetString(name, l.NewFunction(f))
		}
	}
	if table, ok := l.GetGlobal(lua.TabLibName).(*lua.LTable); ok {
		table.RawSetString("concat", l.NewFunction(concat))
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
		l.RaiseError("resulting string too large")
	}
	l.Push(lua.LString(strings.Repeat(s, n)))
	return 1
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
			l.RaiseError("resulting string too large")
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
			m.l.RaiseError("resulting string too large")
		}
	}
}

// strFormat bounds the widths that a format asks for, and leaves the rest to what is
// there.
func strFormat(inner lua.LValue) lua.LGFunction {
	return func(l *lua.LState) int {
		format, total := l.CheckString(1), 0
		for i, width := 0, 0; i <= len(format); i++ {
			if i < len(format) && digit(format[i]) {
				width = min(10*width+int(format[i]-'0'), maxString+1)
				continue
			}
			if total, width = total+width, 0; total > maxString {
				l.RaiseError("resulting string too large")
			}
		}
		for i := 2; i <= l.GetTop(); i++ {
			total += len(lua.LVAsString(l.Get(i)))
		}
		if total > maxString {
			l.RaiseError("resulting string too large")
		}
		args := l.GetTop()
		l.Insert(inner, 1)
		l.Call(args, 1)
		return 1
	}
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
		out.WriteString(lua.LVAsString(value))
		if i < to {
			out.WriteString(separator)
		}
		if out.Len() > maxString {
			l.RaiseError("resulting string too large")
		}
	}
	l.Push(lua.LString(out.String()))
	return 1
}
