package format

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// clock is a compiled time format: strftime with Envoy's extensions.
type clock struct {
	steps []func(dst []byte, t time.Time) []byte
	local bool
}

// What START_TIME and START_TIME_LOCAL have without an argument.
const (
	defaultClock      = "%Y-%m-%dT%H:%M:%E3SZ"
	defaultLocalClock = "%Y-%m-%dT%H:%M:%E3S%z"
)

// newClock compiles a format. Besides what C has there are %f and %1f to %9f for
// fractions of a second, and the %E forms of absl::FormatTime.
func newClock(format string, local bool) (*clock, error) {
	switch {
	case format == "" && local:
		format = defaultLocalClock
	case format == "":
		format = defaultClock
	}
	if breaksLine(format) {
		return nil, errors.New("a time format with a line break")
	}
	c := &clock{local: local}
	for format != "" {
		i := strings.IndexByte(format, '%')
		if i < 0 || i+1 == len(format) {
			c.literal(format)
			break
		}
		c.literal(format[:i])
		rest, err := c.specifier(format[i+1:])
		if err != nil {
			return nil, err
		}
		format = rest
	}
	return c, nil
}

// breaksLine finds %n, also with flags, a width and a modifier, as Envoy does.
func breaksLine(format string) bool {
	for {
		_, rest, ok := strings.Cut(format, "%")
		if !ok {
			return false
		}
		s := strings.TrimLeft(strings.TrimLeft(rest, "-_0^#"), "123456789")
		if s != "" && (s[0] == 'E' || s[0] == 'O') {
			s = s[1:]
		}
		if strings.HasPrefix(s, "n") {
			return true
		}
		format = rest
	}
}

func (c *clock) append(dst []byte, t time.Time) []byte {
	if c.local {
		t = t.Local()
	} else {
		t = t.UTC()
	}
	for _, step := range c.steps {
		dst = step(dst, t)
	}
	return dst
}

func (c *clock) literal(s string) {
	if s != "" {
		c.steps = append(c.steps, func(dst []byte, _ time.Time) []byte { return append(dst, s...) })
	}
}

// layout is a step that package time has a word for.
func (c *clock) layout(s string) {
	c.steps = append(c.steps, func(dst []byte, t time.Time) []byte { return t.AppendFormat(dst, s) })
}

// numeric is a step that writes a number in so many digits, filled up by fill.
func (c *clock) numeric(width int, fill byte, value func(t time.Time) int) {
	c.steps = append(c.steps, func(dst []byte, t time.Time) []byte { return appendPadded(dst, value(t), width, fill) })
}

func appendPadded(dst []byte, n, width int, fill byte) []byte {
	var digits [20]byte
	written := strconv.AppendInt(digits[:0], int64(n), 10)
	for range width - len(written) {
		dst = append(dst, fill)
	}
	return append(dst, written...)
}

// fraction is a step that writes so many digits of the fraction of a second.
func (c *clock) fraction(digits int) {
	c.steps = append(c.steps, func(dst []byte, t time.Time) []byte {
		start := len(dst)
		return appendPadded(dst, t.Nanosecond(), 9, '0')[:start+digits]
	})
}

// specifier reads what follows a percent sign and returns the rest.
func (c *clock) specifier(s string) (rest string, err error) {
	first := s[0]
	if len(s) > 1 && first >= '1' && first <= '9' {
		switch s[1] {
		case 'f':
			c.fraction(int(first - '0'))
			return s[2:], nil
		case 's': // which Envoy writes as if there were no digit
			c.epoch()
			return s[2:], nil
		}
	}
	switch first {
	case 'E':
		return c.extended(s[1:])
	case 'O': // other digits, of which there are none
		if len(s) > 1 && c.simple(s[1]) {
			return s[2:], nil
		}
	}
	if !c.simple(first) {
		c.literal("%" + s[:1]) // as strftime does
	}
	return s[1:], nil
}

func (c *clock) epoch() {
	c.steps = append(c.steps, func(dst []byte, t time.Time) []byte { return strconv.AppendInt(dst, t.Unix(), 10) })
}

// extended reads what follows %E.
func (c *clock) extended(s string) (rest string, err error) {
	switch {
	case s == "":
	case s[0] == 'z':
		c.layout("-07:00")
		return s[1:], nil
	case s[0] == 'T':
		c.literal("T")
		return s[1:], nil
	case strings.HasPrefix(s, "*z"):
		c.layout("-07:00:00")
		return s[2:], nil
	case strings.HasPrefix(s, "4Y"):
		c.layout("2006")
		return s[2:], nil
	case strings.HasPrefix(s, "3S"):
		c.layout("05.000")
		return s[2:], nil
	case strings.HasPrefix(s, "3f"):
		c.fraction(3)
		return s[2:], nil
	case strings.HasPrefix(s, "*S"):
		c.layout("05.999999999")
		return s[2:], nil
	case strings.HasPrefix(s, "*f"):
		c.steps = append(c.steps, func(dst []byte, t time.Time) []byte {
			start := len(dst)
			dst = appendPadded(dst, t.Nanosecond(), 9, '0')
			for len(dst) > start+1 && dst[len(dst)-1] == '0' {
				dst = dst[:len(dst)-1]
			}
			return dst
		})
		return s[2:], nil
	case c.simple(s[0]):
		return s[1:], nil
	}
	c.literal("%E")
	return s, nil
}

// simple adds the step of one of C's specifiers and tells whether there is such.
func (c *clock) simple(letter byte) bool {
	if layout := layoutOf(letter); layout != "" {
		c.layout(layout)
		return true
	}
	switch letter {
	case 'C':
		c.numeric(2, '0', func(t time.Time) int { return t.Year() / 100 })
	case 'f':
		c.fraction(9)
	case 'g':
		c.numeric(2, '0', func(t time.Time) int { y, _ := t.ISOWeek(); return y % 100 })
	case 'G':
		c.numeric(4, '0', func(t time.Time) int { y, _ := t.ISOWeek(); return y })
	case 'j':
		c.numeric(3, '0', time.Time.YearDay)
	case 'k':
		c.numeric(2, ' ', time.Time.Hour)
	case 'l':
		c.numeric(2, ' ', func(t time.Time) int { return (t.Hour()+11)%12 + 1 })
	case 's':
		c.epoch()
	case 'u':
		c.numeric(1, '0', func(t time.Time) int { return int(t.Weekday()+6)%7 + 1 })
	case 'U':
		c.numeric(2, '0', func(t time.Time) int { return (t.YearDay() + 6 - int(t.Weekday())) / 7 })
	case 'V':
		c.numeric(2, '0', func(t time.Time) int { _, w := t.ISOWeek(); return w })
	case 'w':
		c.numeric(1, '0', func(t time.Time) int { return int(t.Weekday()) })
	case 'W':
		c.numeric(2, '0', func(t time.Time) int { return (t.YearDay() + 6 - int(t.Weekday()+6)%7) / 7 })
	case 't':
		c.literal("\t")
	case '%':
		c.literal("%")
	default:
		return false
	}
	return true
}

// layoutOf is the layout of package time for a specifier, "" if there is none.
func layoutOf(letter byte) string {
	switch letter {
	case 'a':
		return "Mon"
	case 'A':
		return "Monday"
	case 'b', 'h':
		return "Jan"
	case 'B':
		return "January"
	case 'c':
		return "Mon Jan _2 15:04:05 2006"
	case 'd':
		return "02"
	case 'D', 'x':
		return "01/02/06"
	case 'e':
		return "_2"
	case 'F':
		return "2006-01-02"
	case 'H':
		return "15"
	case 'I':
		return "03"
	case 'm':
		return "01"
	case 'M':
		return "04"
	case 'p':
		return "PM"
	case 'P':
		return "pm"
	case 'r':
		return "03:04:05 PM"
	case 'R':
		return "15:04"
	case 'S':
		return "05"
	case 'T', 'X':
		return "15:04:05"
	case 'y':
		return "06"
	case 'Y':
		return "2006"
	case 'z':
		return "-0700"
	case 'Z':
		return "MST"
	}
	return ""
}
