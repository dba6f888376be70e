package lua

import (
	"errors"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// space is what may stand around a number.
const space = " \t\n\v\f\r"

// toNumber is tonumber (Lua 5.1 Reference Manual, section 5.1). That of gopher-lua knows no
// exponents, and takes what is too large for an integer, such as a length that a client
// makes up, for no number.
func toNumber(l *lua.LState) int {
	value, base := l.CheckAny(1), l.OptInt(2, 10)
	if base != 10 {
		if base < 2 || base > 36 {
			l.ArgError(2, "base out of range")
		}
		l.Push(digits(l.CheckString(1), base))
		return 1
	}
	switch v := value.(type) {
	case lua.LNumber:
		l.Push(v)
	case lua.LString:
		l.Push(decimal(string(v)))
	default:
		l.Push(lua.LNil)
	}
	return 1
}

// decimal reads a number of base 10, or one of base 16 that says so; nil if it is none.
func decimal(text string) lua.LValue {
	text = strings.Trim(text, space)
	if strings.ContainsAny(text, "xX") && !strings.ContainsAny(text, "pP") {
		text += "p0"
	}
	n, err := strconv.ParseFloat(text, 64)
	if strings.Contains(text, "_") || err != nil && !errors.Is(err, strconv.ErrRange) {
		return lua.LNil
	}
	return lua.LNumber(n) // out of range it is infinite, or 0
}

// digits reads an integer of any base; nil if it is none.
func digits(text string, base int) lua.LValue {
	text = strings.ToLower(strings.Trim(text, space))
	text, negative := strings.CutPrefix(text, "-")
	if base == 16 {
		text = strings.TrimPrefix(text, "0x")
	}
	if text == "" {
		return lua.LNil
	}
	n := 0.0
	for _, c := range []byte(text) {
		digit := strings.IndexByte("0123456789abcdefghijklmnopqrstuvwxyz"[:base], c)
		if digit < 0 {
			return lua.LNil
		}
		n = n*float64(base) + float64(digit)
	}
	if negative {
		n = -n
	}
	return lua.LNumber(n)
}
