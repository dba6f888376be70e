package format

import (
	"fmt"
	"slices"
	"unicode/utf8"
)

// JSON is a compiled object of JSON whose strings are texts. It is safe for
// concurrent use and does not change.
type JSON struct {
	steps []step
}

// step is a piece of the object: plain JSON, or a value that is a text.
type step struct {
	plain string
	value *Text
}

// maxDepth bounds how deep objects and lists may be nested.
const maxDepth = 32

// CompileJSON reads an object as encoding/json gives it. Members are written in
// order of their names, as Envoy does. A string that is one operator only is
// written as what that operator gives: numbers stay numbers, what is not known is
// null.
func CompileJSON(fields map[string]any) (*JSON, error) {
	j := &JSON{}
	var plain []byte
	if err := j.compile(&plain, fields, 0); err != nil {
		return nil, err
	}
	j.flush(&plain)
	return j, nil
}

// Blanks are the names of operators whose value is never known here.
func (j *JSON) Blanks() []string {
	var all []string
	for _, s := range j.steps {
		if s.value != nil {
			all = append(all, s.value.Blanks()...)
		}
	}
	return all
}

func (j *JSON) flush(plain *[]byte) {
	if len(*plain) > 0 {
		j.steps = append(j.steps, step{plain: string(*plain)})
		*plain = (*plain)[:0]
	}
}

func (j *JSON) compile(plain *[]byte, value any, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d", maxDepth)
	}
	switch v := value.(type) {
	case string:
		t, err := Compile(v)
		if err != nil {
			return err
		}
		if s, ok := t.Plain(); ok {
			*plain = appendQuoted(*plain, s)
			return nil
		}
		j.flush(plain)
		j.steps = append(j.steps, step{value: t})
	case map[string]any:
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		*plain = append(*plain, '{')
		for i, name := range names {
			if i > 0 {
				*plain = append(*plain, ',')
			}
			*plain = append(appendQuoted(*plain, name), ':')
			if err := j.compile(plain, v[name], depth+1); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
		*plain = append(*plain, '}')
	case []any:
		*plain = append(*plain, '[')
		for i, item := range v {
			if i > 0 {
				*plain = append(*plain, ',')
			}
			if err := j.compile(plain, item, depth+1); err != nil {
				return err
			}
		}
		*plain = append(*plain, ']')
	default: // numbers, booleans and null mean themselves
		*plain = appendData(*plain, v)
	}
	return nil
}

// Append appends the object, without a line break.
func (j *JSON) Append(dst []byte, in *Input) []byte { return j.append(dst, in, false) }

// AppendKnown appends the object; within strings what is not known is "" instead
// of "-" (omit_empty_values).
func (j *JSON) AppendKnown(dst []byte, in *Input) []byte { return j.append(dst, in, true) }

func (j *JSON) append(dst []byte, in *Input, omit bool) []byte {
	for i := range j.steps {
		if s := &j.steps[i]; s.value == nil {
			dst = append(dst, s.plain...)
		} else {
			dst = s.value.appendJSON(dst, in, omit)
		}
	}
	return dst
}

// appendJSON appends the text as a value.
func (t *Text) appendJSON(dst []byte, in *Input, omit bool) []byte {
	start := len(dst)
	k := text
	if p := t.single(); p != nil {
		dst, k = p.append(dst, in, false)
	} else {
		dst = t.append(dst, in, omit, false)
	}
	switch k {
	case absent:
		return append(dst, "null"...)
	case number, raw:
		return dst
	case text:
	}
	return quote(dst, start)
}

// quote makes a string of JSON of what stands in dst from start on.
func quote(dst []byte, start int) []byte {
	end := len(dst)
	if !special(dst[start:]) {
		dst = append(dst, '"', '"')
		copy(dst[start+1:], dst[start:end])
		dst[start] = '"'
		return dst
	}
	dst = appendQuoted(dst, dst[start:end])
	n := copy(dst[start:], dst[end:])
	return dst[:start+n]
}

func special(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return true
		}
	}
	return false
}

// appendQuoted appends a string of JSON. A string that is no UTF-8 is written byte
// by byte, each as a character of its own, as Envoy does.
func appendQuoted[S string | []byte](dst []byte, s S) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	valid := validUTF8(s)
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 0x7f && !valid, !valid && (c < ' ' || c == '"' || c == '\\'):
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		case c == '\b':
			dst = append(dst, '\\', 'b')
		case c == '\f':
			dst = append(dst, '\\', 'f')
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

func validUTF8[S string | []byte](s S) bool {
	for i := 0; i < len(s); {
		if s[i] < utf8.RuneSelf {
			i++
			continue
		}
		var b [utf8.UTFMax]byte
		r, size := utf8.DecodeRune(b[:copy(b[:], s[i:])])
		if r == utf8.RuneError && size == 1 {
			return false
		}
		i += size
	}
	return true
}
