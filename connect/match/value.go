package match

import (
	"errors"
	"fmt"

	"github.com/serai-net/serai/connect/mesh"
)

// ValueMatcher is a compiled [mesh.ValueMatch]. It is safe for concurrent use.
type ValueMatcher struct {
	kind      mesh.ValueKind
	text      *StringMatcher
	yes       bool
	low, high float64
	any       []*ValueMatcher
}

// Metadata compiles m. It fails where [String] does, for an unknown kind and for a
// list of matches that has none.
func Metadata(m mesh.ValueMatch) (*ValueMatcher, error) {
	v := &ValueMatcher{kind: m.Kind, yes: m.Bool, low: m.Low, high: m.High}
	switch m.Kind {
	case mesh.ValueNull, mesh.ValueNumber, mesh.ValueRange, mesh.ValueBool, mesh.ValuePresent:
	case mesh.ValueString:
		text, err := String(m.String)
		if err != nil {
			return nil, err
		}
		v.text = text
	case mesh.ValueList, mesh.ValueOr:
		if len(m.Any) == 0 {
			return nil, errors.New("empty list of value matches")
		}
		for _, one := range m.Any {
			compiled, err := Metadata(one)
			if err != nil {
				return nil, err
			}
			v.any = append(v.any, compiled)
		}
	default:
		return nil, fmt.Errorf("value match of unknown kind %d", m.Kind)
	}
	return v, nil
}

// Match tells whether a value of metadata matches; ok says that there is one. A
// value of another type than what is asked for does not match.
func (v *ValueMatcher) Match(value any, ok bool) bool {
	if !ok {
		return false
	}
	switch v.kind {
	case mesh.ValueNull:
		return value == nil
	case mesh.ValueNumber, mesh.ValueRange:
		number, is := value.(float64)
		return is && v.number(number)
	case mesh.ValueBool:
		yes, is := value.(bool)
		return is && yes == v.yes
	case mesh.ValuePresent:
		return v.yes
	case mesh.ValueList:
		list, _ := value.([]any)
		for _, one := range list {
			if v.any[0].Match(one, true) {
				return true
			}
		}
		return false
	case mesh.ValueOr:
		for _, m := range v.any {
			if m.Match(value, true) {
				return true
			}
		}
		return false
	default:
		text, is := value.(string)
		return is && v.text.Match(text)
	}
}

func (v *ValueMatcher) number(n float64) bool {
	if v.kind == mesh.ValueNumber {
		return n == v.low
	}
	return v.low <= n && n < v.high
}
