package wire_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
)

// header makes a header of "name: value" lines.
func header(lines ...string) wire.Header {
	var h wire.Header
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	return h
}

func lines(h *wire.Header) []string {
	all := []string{}
	for name, value := range h.All() {
		all = append(all, name+": "+value)
	}
	return all
}

func TestHeaderChanges(t *testing.T) {
	t.Parallel()
	start := []string{"a: 1", "b: 2", "a: 3", "c: 4", "a: 5"}
	tests := []struct {
		name   string
		start  []string
		change func(h *wire.Header)
		want   []string
	}{
		{"set first", start, func(h *wire.Header) { h.Set("a", "x") }, []string{"a: x", "b: 2", "c: 4"}},
		{"set only one", start, func(h *wire.Header) { h.Set("c", "x") }, []string{"a: 1", "b: 2", "a: 3", "c: x", "a: 5"}},
		{"set missing", start[:2], func(h *wire.Header) { h.Set("z", "x") }, []string{"a: 1", "b: 2", "z: x"}},
		{"set empty header", nil, func(h *wire.Header) { h.Set("z", "x") }, []string{"z: x"}},
		{"del", start, func(h *wire.Header) { h.Del("a") }, []string{"b: 2", "c: 4"}},
		{"del missing", start[:2], func(h *wire.Header) { h.Del("z") }, []string{"a: 1", "b: 2"}},
		{"del is case-sensitive", start[:1], func(h *wire.Header) { h.Del("A") }, []string{"a: 1"}},
		{"del of nothing", nil, func(h *wire.Header) { h.Del("a") }, []string{}},
		{"del all", []string{"a: 1", "a: 2"}, func(h *wire.Header) { h.Del("a") }, []string{}},
		{"del func", start, func(h *wire.Header) {
			h.DelFunc(func(_, value string) bool { return value > "1" && value < "5" })
		}, []string{"a: 1", "a: 5"}},
		{"del func none", start[:2], func(h *wire.Header) {
			h.DelFunc(func(_, _ string) bool { return false })
		}, []string{"a: 1", "b: 2"}},
		{"add after del", start[:3], func(h *wire.Header) { h.Del("a"); h.Add("a", "y") }, []string{"b: 2", "a: y"}},
		{"reset", start, func(h *wire.Header) { h.Reset(); h.Add("n", "1") }, []string{"n: 1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := header(tt.start...)
			tt.change(&h)
			if diff := cmp.Diff(tt.want, lines(&h)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestHeaderReads(t *testing.T) {
	t.Parallel()
	h := header("a: 1", "b: ", "a: 3")
	if got := h.Get("a"); got != "1" {
		t.Errorf("Get a: %q", got)
	}
	if value, ok := h.Lookup("b"); value != "" || !ok {
		t.Errorf("Lookup b: %q, %v", value, ok)
	}
	if h.Has("A") || !h.Has("b") || h.Has("") {
		t.Error("Has")
	}
	if diff := cmp.Diff([]string{"1", "3"}, slices.Collect(h.Values("a"))); diff != "" {
		t.Errorf("Values: -want +got:\n%s", diff)
	}
	for value := range h.Values("a") {
		if value != "1" {
			t.Errorf("went on after break: %q", value)
		}
		break
	}
	for name, want := range map[string]string{"a": "1,3", "b": "", "none": ""} {
		if got := h.Joined(name); got != want {
			t.Errorf("Joined %s: %q, want %q", name, got, want)
		}
	}
}

func TestHeaderAllocates(t *testing.T) {
	h := header("a: 1", "b: ", "a: 3")
	n := testing.AllocsPerRun(10, func() {
		h.Joined("b")
		h.Get("a")
		h.Has("x")
		for range h.Values("a") {
			h.Set("b", "")
		}
		for range h.All() {
			h.Del("none")
		}
	})
	if n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
}

func TestHeaderNil(t *testing.T) {
	t.Parallel()
	var h *wire.Header
	if h.Len() != 0 || h.Get("a") != "" || h.Has("a") || h.Joined("a") != "" {
		t.Error("a nil header has fields")
	}
	for range h.All() {
		t.Error("a nil header yields")
	}
	clone := h.Clone()
	if clone.Len() != 0 {
		t.Error("the clone of nil has fields")
	}
}

func TestHeaderClone(t *testing.T) {
	t.Parallel()
	memory := []byte("name: value")
	h := header("a: 1", "b: 2")
	clone := h.Clone()
	h.Set("a", string(memory))
	h.Del("b")
	clone.Add("c", "3")
	if diff := cmp.Diff([]string{"a: 1", "b: 2", "c: 3"}, lines(&clone)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if h.Len() != 1 {
		t.Errorf("the clone has changed its original: %v", lines(&h))
	}
}

func TestRequestPath(t *testing.T) {
	t.Parallel()
	type parts struct{ Path, Query string }
	for path, want := range map[string]parts{
		"/":         {"/", ""},
		"/a?":       {"/a", ""},
		"/a?b":      {"/a", "b"},
		"/a?b?c#d":  {"/a", "b?c#d"},
		"*":         {"*", ""},
		"":          {"", ""},
		"?x":        {"", "x"},
		"/%3F?%3F=": {"/%3F", "%3F="},
	} {
		req := &wire.Request{Path: path}
		if diff := cmp.Diff(want, parts{req.PathOnly(), req.Query()}); diff != "" {
			t.Errorf("%q: -want +got:\n%s", path, diff)
		}
	}
}

func TestRequestIdempotent(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{
		"GET": true, "HEAD": true, "OPTIONS": true, "TRACE": true, "PUT": true, "DELETE": true,
		"POST": false, "PATCH": false, "CONNECT": false, "get": false, "": false, "PROPFIND": false,
	} {
		if got := (&wire.Request{Method: method}).Idempotent(); got != want {
			t.Errorf("%s: got %v", method, got)
		}
	}
	if (&wire.Request{Method: "GET", Upgrade: "websocket"}).Idempotent() {
		t.Error("an upgrade is not idempotent")
	}
}
