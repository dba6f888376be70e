package format

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// maxText bounds a text, in bytes.
const maxText = 64 << 10

// Compile reads a text: `%NAME%`, `%NAME(argument)%`, `%NAME(argument):length%`,
// and `%%` for a percent sign.
func Compile(source string) (*Text, error) {
	if len(source) > maxText {
		return nil, fmt.Errorf("a text of %d bytes is too long", len(source))
	}
	t := &Text{}
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			t.parts = append(t.parts, part{plain: plain.String()})
			plain.Reset()
		}
	}
	for rest := source; rest != ""; {
		i := strings.IndexByte(rest, '%')
		if i < 0 {
			plain.WriteString(rest)
			break
		}
		plain.WriteString(rest[:i])
		rest = rest[i:]
		if strings.HasPrefix(rest, "%%") {
			plain.WriteByte('%')
			rest = rest[2:]
			continue
		}
		c, after, ok := command(rest)
		if !ok {
			return nil, fmt.Errorf("no command operator at position %d of %q", len(source)-len(rest), source)
		}
		p, err := c.compile()
		if err != nil {
			return nil, fmt.Errorf("%%%s%%: %w", c.name, err)
		}
		if p.op == nil { // its value is known now
			plain.WriteString(p.plain)
		} else {
			flush()
			t.parts = append(t.parts, p)
		}
		rest = after
	}
	flush()
	return t, nil
}

// call is one use of an operator.
type call struct {
	name, arg string
	// most is the length, negative for none.
	most int
}

// command reads what Envoy's `^%([A-Z0-9_]+)(?:\((.*?)\))?(?::([0-9]+))?%` does:
// the argument ends at the first bracket after which the rest of the command
// follows.
func command(s string) (c call, rest string, ok bool) {
	i := 1
	for i < len(s) && (s[i] >= 'A' && s[i] <= 'Z' || s[i] >= '0' && s[i] <= '9' || s[i] == '_') {
		i++
	}
	if i == 1 {
		return c, s, false
	}
	c.name = s[1:i]
	if i < len(s) && s[i] == '(' {
		for end := i + 1; end < len(s) && s[end] != '\n'; end++ {
			if s[end] != ')' {
				continue
			}
			if c.most, rest, ok = ending(s[end+1:]); ok {
				c.arg = s[i+1 : end]
				return c, rest, true
			}
		}
		return c, s, false
	}
	c.most, rest, ok = ending(s[i:])
	return c, rest, ok
}

// ending reads `(:[0-9]+)?%`.
func ending(s string) (most int, rest string, ok bool) {
	most = -1
	if strings.HasPrefix(s, ":") {
		end := strings.IndexByte(s, '%')
		if end < 0 {
			return most, s, false
		}
		for _, c := range s[1:end] {
			if c < '0' || c > '9' {
				return most, s, false
			}
		}
		n, err := strconv.Atoi(s[1:end])
		if err != nil {
			return most, s, false
		}
		most, s = n, s[end:]
	}
	if !strings.HasPrefix(s, "%") {
		return most, s, false
	}
	return most, s[1:], true
}

// syntax says what may follow an operator's name.
type syntax uint8

const (
	alone    syntax = 0
	takesArg syntax = 1 << iota // it may have an argument
	wantsArg                    // it must have one
	takesMax                    // it may have a length
)

// definition is how an operator is compiled.
type definition struct {
	syntax syntax
	make   func(arg string) (operator, error)
	// blank says that it never has a value here.
	blank bool
}

var (
	errNoArg    = errors.New("it takes no argument")
	errNoLength = errors.New("it takes no length")
	errArg      = errors.New("it needs an argument")
	errUnknown  = errors.New("there is no such command operator")
)

func (c *call) compile() (part, error) {
	d, ok := lookup(c.name)
	switch {
	case !ok:
		return part{}, errUnknown
	case c.arg != "" && d.syntax&(takesArg|wantsArg) == 0:
		return part{}, errNoArg
	case c.arg == "" && d.syntax&wantsArg != 0:
		return part{}, errArg
	case c.most >= 0 && d.syntax&takesMax == 0:
		return part{}, errNoLength
	}
	op, err := d.make(c.arg)
	if err != nil {
		return part{}, err
	}
	p := part{op: op, most: c.most}
	if d.blank {
		p.blank = c.name
	}
	return p, nil
}
