package rules

import (
	"context"
	"errors"
	"slices"

	"github.com/serai-net/serai/plugins"
)

// Mapper has the rules of one use. It is immutable and safe for concurrent use.
type Mapper struct{ request, response []rule }

var _ plugins.Transformer = (*Mapper)(nil)

// New reads the settings of one use; its error is all that is wrong in them.
func New(settings map[string]any) (*Mapper, error) {
	m := &Mapper{}
	if err := m.read(settings); err != nil {
		return nil, err
	}
	if len(m.request)+len(m.response) == 0 {
		return nil, errors.New(`there is no rule; add request = [{ rename = "x-old", to = "x-new" }], or response`)
	}
	return m, nil
}

// TransformRequest implements plugins.Transformer.
func (m *Mapper) TransformRequest(_ context.Context, r *plugins.Request) (*plugins.RequestChange, error) {
	change, ok := apply(m.request, r.Header)
	if !ok {
		return nil, nil //nolint:nilnil // no change, as plugins.Transformer has it
	}
	return &plugins.RequestChange{HeaderChange: change}, nil
}

// TransformResponse implements plugins.Transformer.
func (m *Mapper) TransformResponse(_ context.Context, _ *plugins.Request, resp *plugins.Response) (*plugins.ResponseChange, error) {
	change, ok := apply(m.response, resp.Header)
	if !ok {
		return nil, nil //nolint:nilnil // no change, as plugins.Transformer has it
	}
	return &plugins.ResponseChange{HeaderChange: change}, nil
}

// apply runs the rules on a copy of the header and returns the difference, if
// there is one.
func apply(rules []rule, before []plugins.Field) (change plugins.HeaderChange, changed bool) {
	after := slices.Clone(before)
	for i := range rules {
		after = rules[i].apply(after)
	}
	return difference(before, after)
}

// difference is what makes after of before, the order of fields with different
// names aside.
func difference(before, after []plugins.Field) (change plugins.HeaderChange, changed bool) {
	old, now := byName(before), byName(after)
	seen := map[string]bool{}
	for _, f := range slices.Concat(before, after) { // in order, so that equal headers make equal changes
		if seen[f.Name] || slices.Equal(old[f.Name], now[f.Name]) {
			continue
		}
		seen[f.Name], changed = true, true
		switch values := now[f.Name]; len(values) {
		case 0:
			change.Remove = append(change.Remove, f.Name)
		case 1:
			change.Set = append(change.Set, plugins.Field{Name: f.Name, Value: values[0]})
		default:
			if len(old[f.Name]) > 0 {
				change.Remove = append(change.Remove, f.Name)
			}
			for _, value := range values {
				change.Add = append(change.Add, plugins.Field{Name: f.Name, Value: value})
			}
		}
	}
	return change, changed
}

func byName(header []plugins.Field) map[string][]string {
	values := map[string][]string{}
	for _, f := range header {
		values[f.Name] = append(values[f.Name], f.Value)
	}
	return values
}
