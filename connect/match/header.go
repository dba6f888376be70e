package match

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// HeaderMatcher is a compiled [mesh.HeaderMatch]. It is safe for concurrent
// use.
type HeaderMatcher struct {
	name           string
	present        bool
	invert         bool
	missingIsEmpty bool
	value          *StringMatcher
	numbers        *mesh.NumberRange // instead of value, if not nil
}

// Header compiles m. It fails for a field without a name and where [String]
// does.
func Header(m mesh.HeaderMatch) (*HeaderMatcher, error) {
	if m.Name == "" {
		return nil, fmt.Errorf("header match without a name")
	}
	h := &HeaderMatcher{
		name: strings.ToLower(m.Name), present: m.Present, invert: m.Invert,
		missingIsEmpty: m.TreatMissingAsEmpty, numbers: m.Range,
	}
	if m.Present || m.Range != nil {
		return h, nil
	}
	value, err := String(m.Value)
	if err != nil {
		return nil, fmt.Errorf("header %s: %w", m.Name, err)
	}
	h.value = value
	return h, nil
}

// Match tells whether the field of req matches.
func (h *HeaderMatcher) Match(req *wire.Request) bool {
	value, ok := Value(req, h.name)
	if h.present {
		return (ok || h.missingIsEmpty) != h.invert
	}
	if !ok && !h.missingIsEmpty {
		return false // inverted or not
	}
	if h.numbers != nil {
		return within(h.numbers, value) != h.invert
	}
	return h.value.Match(value) != h.invert
}

// within tells whether value is a number of r; space around it does not matter.
func within(r *mesh.NumberRange, value string) bool {
	n, err := strconv.ParseInt(strings.Trim(value, " \t\n\v\f\r"), 10, 64)
	return err == nil && r.First <= n && n < r.End
}

// Value returns a header field of req as matchers see it: all its values in
// one, pseudo-header fields as well, and those that the codecs keep for
// themselves. The name is lower-case.
func Value(req *wire.Request, name string) (value string, ok bool) {
	switch name {
	case ":method":
		return req.Method, true
	case ":path":
		return req.Path, true
	case ":authority", "host":
		return req.Authority, req.Authority != ""
	case ":scheme":
		return req.Scheme, true
	case "upgrade":
		return req.Upgrade, req.Upgrade != ""
	case "content-length":
		if req.Body == nil || req.ContentLength < 0 {
			return "", false
		}
		return strconv.FormatInt(req.ContentLength, 10), true
	}
	if !req.Header.Has(name) {
		return "", false
	}
	return req.Header.Joined(name), true
}
