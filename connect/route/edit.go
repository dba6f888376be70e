package route

import (
	"fmt"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Edit is a compiled [mesh.HeaderEdit]. A nil Edit changes nothing.
type Edit struct {
	request, response change
}

// change is what happens to the fields of one head.
type change struct {
	remove []string
	// set are in the order in which they are carried out: those that overwrite come
	// first, as for Envoy.
	set []setting
	// simple says that no value depends on anything.
	simple bool
}

// setting is one field to be set.
type setting struct {
	name, plain string
	text        *format.Text // nil for a plain value
	action      mesh.EditAction
	keepEmpty   bool
}

// overwrites tells whether a field that is there is replaced.
func (s *setting) overwrites() bool {
	return s.action == mesh.OverwriteOrAdd || s.action == mesh.OverwriteIfExists
}

// CompileEdit compiles e; it is nil if e changes nothing.
func CompileEdit(e *mesh.HeaderEdit) (*Edit, error) {
	if e.IsZero() {
		return nil, nil //nolint:nilnil // nil is no edit
	}
	c := &Edit{}
	var err error
	if c.request, err = compileChange(e.RequestSet, e.RequestRemove); err != nil {
		return nil, err
	}
	c.response, err = compileChange(e.ResponseSet, e.ResponseRemove)
	return c, err
}

func compileChange(set []mesh.HeaderValue, remove []string) (change, error) {
	c := change{remove: remove, simple: true}
	for _, overwriting := range []bool{true, false} {
		for i := range set {
			v := &set[i]
			s := setting{name: v.Name, plain: v.Value, action: v.Append, keepEmpty: v.KeepEmpty}
			if s.overwrites() != overwriting {
				continue
			}
			if v.Text != "" {
				text, err := format.CompileHeader(v.Text)
				if err != nil {
					return c, fmt.Errorf("header %s: %w", v.Name, err)
				}
				s.text = text
			}
			c.simple = c.simple && s.text == nil && (s.action == mesh.AppendOrAdd || s.action == mesh.OverwriteOrAdd)
			c.set = append(c.set, s)
		}
	}
	return c, nil
}

// Request changes the fields of a request.
func (e *Edit) Request(x *wire.Exchange, h *wire.Header) {
	if e != nil {
		e.request.apply(x, nil, h)
	}
}

// Response changes the fields of a response.
func (e *Edit) Response(x *wire.Exchange, resp *wire.Response) {
	if e != nil {
		e.response.apply(x, resp, &resp.Header)
	}
}

// Answers tells whether the fields of responses are changed.
func (e *Edit) Answers() bool {
	return e != nil && len(e.response.remove)+len(e.response.set) > 0
}

// apply removes before it sets. All values are made of what was there before any
// was set.
func (c *change) apply(x *wire.Exchange, resp *wire.Response, h *wire.Header) {
	for _, name := range c.remove {
		h.Del(name)
	}
	if c.simple {
		for i := range c.set {
			c.set[i].put(h, c.set[i].plain)
		}
		return
	}
	in := &format.Input{Exchange: x, Response: resp}
	var few [8]string
	values := few[:0]
	var most [8]bool
	wanted := most[:0]
	for i := range c.set {
		value, want := c.set[i].value(in, h)
		values, wanted = append(values, value), append(wanted, want)
	}
	for i := range c.set {
		if wanted[i] {
			c.set[i].put(h, values[i])
		}
	}
}

// value is what the field is set to, if it is.
func (s *setting) value(in *format.Input, h *wire.Header) (value string, want bool) {
	if s.action == mesh.AddIfAbsent && h.Has(s.name) || s.action == mesh.OverwriteIfExists && !h.Has(s.name) {
		return "", false
	}
	if s.text == nil {
		return s.plain, true
	}
	var memory [256]byte
	made := s.text.AppendField(memory[:0], in)
	if len(made) == 0 && !s.keepEmpty {
		return "", false
	}
	return string(made), true
}

func (s *setting) put(h *wire.Header, value string) {
	if s.overwrites() {
		h.Set(s.name, value)
	} else {
		h.Add(s.name, value)
	}
}
