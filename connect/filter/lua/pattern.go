package lua

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	// maxCaptures and maxNested are Lua's own bounds of a pattern.
	maxCaptures = 32
	maxNested   = 200
	// lookEvery is after how many steps a matcher asks whether its time is over.
	lookEvery = 4096
)

// Lengths that a capture has while it is none yet, and for "()".
const (
	unfinished = -1
	position   = -2
)

// capture is a part of the subject.
type capture struct{ from, length int }

// matcher matches Lua's patterns (Lua 5.1 Reference Manual, section 5.4.1), as
// gopher-lua's own does not: it ends with the script's time, needs a stack as deep
// as the pattern is long and no deeper, and knows "%f".
//
// Positions are offsets; -1 is no match. What is wrong with a pattern is an error of
// the script.
type matcher struct {
	l        *lua.LState
	over     <-chan struct{}
	src, pat string
	captures [maxCaptures]capture
	level    int
	nested   int
	steps    int
}

func newMatcher(l *lua.LState, src, pat string) *matcher {
	m := &matcher{l: l, src: src, pat: pat}
	if ctx := l.Context(); ctx != nil {
		m.over = ctx.Done()
	}
	return m
}

// step counts, and ends the script if its time is over.
func (m *matcher) step() {
	if m.steps++; m.steps%lookEvery != 0 {
		return
	}
	select {
	case <-m.over:
		m.l.RaiseError("%s", errTooLong.Error())
	default:
	}
}

// begin matches from s on, with no captures yet.
func (m *matcher) begin(s, p int) int {
	m.level = 0
	return m.match(s, p)
}

// match is the end of the match of the pattern from p on, with the subject from s on.
func (m *matcher) match(s, p int) int {
	if m.nested++; m.nested > maxNested {
		m.l.RaiseError("pattern too complex")
	}
	end := m.items(s, p)
	m.nested--
	return end
}

func (m *matcher) items(s, p int) int {
	for p < len(m.pat) {
		m.step()
		switch c := m.pat[p]; {
		case c == '(':
			return m.open(s, p+1)
		case c == ')':
			return m.close(s, p+1)
		case c == '$' && p+1 == len(m.pat):
			if s == len(m.src) {
				return s
			}
			return -1
		case c == '%' && p+1 < len(m.pat) && (m.pat[p+1] == 'b' || m.pat[p+1] == 'f' || digit(m.pat[p+1])):
			if s, p = m.special(s, p+1); s < 0 {
				return -1
			}
			continue
		}
		var done bool
		if s, p, done = m.item(s, p); done {
			return s
		}
	}
	return s
}

func digit(c byte) bool { return '0' <= c && c <= '9' }

// special matches what stands after "%" at p: b, f or the number of a capture.
func (m *matcher) special(s, p int) (after, rest int) {
	switch m.pat[p] {
	case 'b':
		return m.balanced(s, p+1), p + 3
	case 'f':
		if p++; p >= len(m.pat) || m.pat[p] != '[' {
			m.l.RaiseError("missing '[' after '%%f' in pattern")
		}
		end := m.classEnd(p)
		before, here := byte(0), byte(0)
		if s > 0 {
			before = m.src[s-1]
		}
		if s < len(m.src) {
			here = m.src[s]
		}
		if m.inSet(before, p, end-1) || !m.inSet(here, p, end-1) {
			return -1, end
		}
		return s, end
	}
	n := int(m.pat[p]) - '1'
	if n < 0 || n >= m.level || m.captures[n].length == unfinished {
		m.l.RaiseError("invalid capture index")
	}
	c := m.captures[n]
	if c.length >= 0 && strings.HasPrefix(m.src[s:], m.src[c.from:c.from+c.length]) {
		return s + c.length, p + 1
	}
	return -1, p + 1
}

// item matches one character class with what stands behind it. done says that s is
// the end of the whole match.
func (m *matcher) item(s, p int) (after, rest int, done bool) {
	end := m.classEnd(p)
	suffix := byte(0)
	if end < len(m.pat) {
		suffix = m.pat[end]
	}
	switch suffix {
	case '?':
		if m.single(s, p, end) {
			if found := m.match(s+1, end+1); found >= 0 {
				return found, 0, true
			}
		}
		return s, end + 1, false
	case '*':
		return m.most(s, p, end), 0, true
	case '+':
		if !m.single(s, p, end) {
			return -1, 0, true
		}
		return m.most(s+1, p, end), 0, true
	case '-':
		return m.least(s, p, end), 0, true
	}
	if !m.single(s, p, end) {
		return -1, 0, true
	}
	return s + 1, end, false
}

// most takes as many as there are, then fewer.
func (m *matcher) most(s, p, end int) int {
	n := 0
	for m.single(s+n, p, end) {
		n++
	}
	for ; n >= 0; n-- {
		m.step()
		if found := m.match(s+n, end+1); found >= 0 {
			return found
		}
	}
	return -1
}

// least takes as few as there may be, then more.
func (m *matcher) least(s, p, end int) int {
	for {
		if found := m.match(s, end+1); found >= 0 {
			return found
		}
		if !m.single(s, p, end) {
			return -1
		}
		s++
	}
}

func (m *matcher) open(s, p int) int {
	if m.level >= maxCaptures {
		m.l.RaiseError("too many captures")
	}
	length := unfinished
	if p < len(m.pat) && m.pat[p] == ')' {
		length = position
		p++
	}
	m.captures[m.level] = capture{s, length}
	m.level++
	found := m.match(s, p)
	if found < 0 {
		m.level--
	}
	return found
}

func (m *matcher) close(s, p int) int {
	for i := m.level - 1; i >= 0; i-- {
		if m.captures[i].length != unfinished {
			continue
		}
		m.captures[i].length = s - m.captures[i].from
		found := m.match(s, p)
		if found < 0 {
			m.captures[i].length = unfinished
		}
		return found
	}
	m.l.RaiseError("invalid pattern capture")
	return -1
}

// balanced matches from one character to the other that belongs to it.
func (m *matcher) balanced(s, p int) int {
	if p+1 >= len(m.pat) {
		m.l.RaiseError("unbalanced pattern")
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return -1
	}
	depth := 1
	for i := s + 1; i < len(m.src); i++ {
		m.step()
		switch m.src[i] {
		case m.pat[p+1]:
			if depth--; depth == 0 {
				return i + 1
			}
		case m.pat[p]:
			depth++
		}
	}
	return -1
}

// classEnd is where the class at p ends.
func (m *matcher) classEnd(p int) int {
	c := m.pat[p]
	p++
	switch c {
	case '%':
		if p >= len(m.pat) {
			m.l.RaiseError("malformed pattern (ends with '%%')")
		}
		return p + 1
	case '[':
		if p < len(m.pat) && m.pat[p] == '^' {
			p++
		}
		for first := true; first || p >= len(m.pat) || m.pat[p] != ']'; first = false {
			m.step()
			if p >= len(m.pat) {
				m.l.RaiseError("malformed pattern (missing ']')")
			}
			if p++; m.pat[p-1] == '%' {
				p++ // whatever it is
			}
		}
		return p + 1
	}
	return p
}

// single tells whether the character at s is of the class between p and end.
func (m *matcher) single(s, p, end int) bool {
	m.step()
	if s >= len(m.src) {
		return false
	}
	switch c := m.src[s]; m.pat[p] {
	case '.':
		return true
	case '%':
		return ofClass(c, m.pat[p+1])
	case '[':
		return m.inSet(c, p, end-1)
	default:
		return m.pat[p] == c
	}
}

// inSet tells whether c is of the set whose brackets stand at p and end.
func (m *matcher) inSet(c byte, p, end int) bool {
	yes := true
	if m.pat[p+1] == '^' {
		yes = false
		p++
	}
	for p++; p < end; p++ {
		m.step()
		switch {
		case m.pat[p] == '%' && p+1 < end:
			if p++; ofClass(c, m.pat[p]) {
				return yes
			}
		case p+2 < end && m.pat[p+1] == '-':
			if m.pat[p] <= c && c <= m.pat[p+2] {
				return yes
			}
			p += 2
		case m.pat[p] == c:
			return yes
		}
	}
	return !yes
}

// ofClass tells whether c is of the class that stands after "%".
func ofClass(c, class byte) bool {
	lower := class | 0x20
	letter := 'a' <= c|0x20 && c|0x20 <= 'z'
	var is bool
	switch lower {
	case 'a':
		is = letter
	case 'c':
		is = c < ' ' || c == 0x7f
	case 'd':
		is = digit(c)
	case 'g':
		is = c > ' ' && c < 0x7f
	case 'l':
		is = 'a' <= c && c <= 'z'
	case 'p':
		is = c > ' ' && c < 0x7f && !letter && !digit(c)
	case 's':
		is = c == ' ' || '\t' <= c && c <= '\r'
	case 'u':
		is = 'A' <= c && c <= 'Z'
	case 'w':
		is = letter || digit(c)
	case 'x':
		is = digit(c) || 'a' <= c|0x20 && c|0x20 <= 'f'
	case 'z':
		is = c == 0
	default:
		return class == c
	}
	return is != (class != lower) // an upper case letter is the opposite
}

// value is a capture, or all of the match from s to end if there is none.
func (m *matcher) value(i, s, end int) lua.LValue {
	if i >= m.level {
		if i > 0 {
			m.l.RaiseError("invalid capture index")
		}
		return piece(m.src[s:end])
	}
	switch c := m.captures[i]; c.length {
	case position:
		return lua.LNumber(c.from + 1)
	case unfinished:
		m.l.RaiseError("unfinished capture")
		return lua.LNil
	default:
		return piece(m.src[c.from : c.from+c.length])
	}
}

// push pushes all captures, or else the whole match, if whole.
func (m *matcher) push(s, end int, whole bool) int {
	n := m.level
	if n == 0 && whole {
		n = 1
	}
	for i := range n {
		m.l.Push(m.value(i, s, end))
	}
	return n
}
