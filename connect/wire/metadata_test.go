package wire_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
)

func TestMetadata(t *testing.T) {
	t.Parallel()
	var m wire.Metadata
	m.Set("a", "text", "x")
	m.Set("a", "text", "y") // replaces
	m.Set("a", "none", nil)
	m.Set("b", "text", "z")
	m.Set("a", "deep", map[string]any{"list": []any{"v", 1.5, true}, "down": map[string]any{"": "empty"}})
	for _, tt := range []struct {
		namespace, path string
		want            any
		ok              bool
	}{
		{"a", "text", "y", true},
		{"b", "text", "z", true},
		{"c", "text", nil, false},
		{"a", "none", nil, true},
		{"a", "none/x", nil, false},
		{"a", "other", nil, false},
		{"a", "text/x", nil, false},
		{"a", "deep/list", []any{"v", 1.5, true}, true},
		{"a", "deep/list/0", nil, false},
		{"a", "deep/down/", "empty", true},
		{"a", "deep/down", map[string]any{"": "empty"}, true},
		{"a", "deep/up", nil, false},
	} {
		got, ok := m.Lookup(tt.namespace, strings.Split(tt.path, "/"))
		if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
			t.Errorf("%s: %s: ok %v, %s", tt.namespace, tt.path, ok, diff)
		}
	}
	if _, ok := m.Lookup("a", nil); ok {
		t.Error("something stands under no path")
	}
	if diff := cmp.Diff(map[string]any{"text": "z"}, m.Namespace("b")); diff != "" {
		t.Error(diff)
	}
	if got := m.Namespace("c"); got != nil {
		t.Errorf("got %v of no namespace", got)
	}
}

// TestMetadataDiesWithTheExchange: what was found out about one request says
// nothing of the next on the same connection.
func TestMetadataDiesWithTheExchange(t *testing.T) {
	x, peer := &wire.Exchange{}, &wire.Peer{}
	x.Reset(nil, peer, time.Time{})
	x.Metadata.Set("a", "k", "v")
	x.Reset(nil, peer, time.Time{})
	if _, ok := x.Metadata.Lookup("a", []string{"k"}); ok {
		t.Error("metadata outlives its exchange")
	}
	if got := x.Metadata.Namespace("a"); got != nil {
		t.Errorf("%v outlives its exchange", got)
	}
	path, value := []string{"k"}, any("v")
	if n := testing.AllocsPerRun(100, func() {
		x.Reset(nil, peer, time.Time{})
		x.Metadata.Lookup("a", path)
	}); n != 0 {
		t.Errorf("metadata that nobody sets allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		x.Reset(nil, peer, time.Time{})
		x.Metadata.Set("a", "k", value)
		x.Metadata.Lookup("a", path)
	}); n != 0 {
		t.Errorf("metadata that is set for each exchange allocates %v times", n)
	}
}
