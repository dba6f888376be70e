package match_test

import (
	"testing"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	text := func(s string) mesh.ValueMatch { return mesh.ValueMatch{String: mesh.StringMatch{Exact: s}} }
	exact := mesh.ValueMatch{Kind: mesh.ValueNumber, Low: 2}
	within := mesh.ValueMatch{Kind: mesh.ValueRange, Low: 1, High: 2}
	null := mesh.ValueMatch{Kind: mesh.ValueNull}
	list := func(m mesh.ValueMatch) mesh.ValueMatch {
		return mesh.ValueMatch{Kind: mesh.ValueList, Any: []mesh.ValueMatch{m}}
	}
	or := mesh.ValueMatch{Kind: mesh.ValueOr, Any: []mesh.ValueMatch{text("a"), exact, list(text("a"))}}
	for _, tt := range []struct {
		m     mesh.ValueMatch
		value any
		want  bool
	}{
		{text("a"), "a", true},
		{text("a"), "ab", false},
		{text(""), nil, false},
		{text("2"), 2.0, false},
		{text("true"), true, false},
		{text("a"), []any{"a"}, false},
		{exact, 2.0, true},
		{exact, "2", false},
		{within, 1.0, true},
		{within, 1.999, true},
		{within, 2.0, false},
		{null, nil, true},
		{null, "", false},
		{mesh.ValueMatch{Kind: mesh.ValueBool, Bool: true}, true, true},
		{mesh.ValueMatch{Kind: mesh.ValueBool}, false, true},
		{mesh.ValueMatch{Kind: mesh.ValueBool}, true, false},
		{mesh.ValueMatch{Kind: mesh.ValueBool}, nil, false},
		{mesh.ValueMatch{Kind: mesh.ValuePresent, Bool: true}, nil, true},
		{mesh.ValueMatch{Kind: mesh.ValuePresent}, "a", false},
		{list(text("a")), []any{1.0, "a"}, true},
		{list(text("a")), []any{"b"}, false},
		{list(text("a")), []any{}, false},
		{list(text("a")), "a", false},
		{or, "a", true},
		{or, 2.0, true},
		{or, []any{"a"}, true},
		{or, false, false},
	} {
		m, err := match.Metadata(tt.m)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Match(tt.value, true); got != tt.want {
			t.Errorf("%+v of %v: got %v", tt.m, tt.value, got)
		}
		if m.Match(nil, false) {
			t.Errorf("%+v matches what is not there", tt.m)
		}
	}
	for _, m := range []mesh.ValueMatch{
		{Kind: mesh.ValueList},
		{Kind: mesh.ValueOr},
		{Kind: 99},
		{String: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "("}},
		list(mesh.ValueMatch{Kind: 99}),
	} {
		if _, err := match.Metadata(m); err == nil {
			t.Errorf("%+v was compiled", m)
		}
	}
}
