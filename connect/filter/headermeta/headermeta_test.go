package headermeta_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/serai-net/serai/connect/filter/headermeta"
	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// serve has a filter see a request with fields "name: value", and returns what it
// made of it.
func serve(tb testing.TB, f *mesh.HeaderToMetadata, fields ...string) (*wire.Metadata, *wire.Request) {
	tb.Helper()
	filter, err := headermeta.New(f)
	if err != nil {
		tb.Fatal(err)
	}
	x, req := &wire.Exchange{}, &wire.Request{Method: "GET", Path: "/p?q", Authority: "host"}
	x.Reset(nil, &wire.Peer{}, time.Time{})
	for _, field := range fields {
		name, value, _ := strings.Cut(field, ": ")
		req.Header.Add(name, value)
	}
	service := filter.Layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		resp := &wire.Response{Status: 200}
		resp.Header.Add("x-out", "1.5")
		return resp, nil
	}))
	if _, err := service.Serve(x, req); err != nil {
		tb.Fatal(err)
	}
	return &x.Metadata, req
}

func rule(header string, present *mesh.MetadataValue) *mesh.HeaderToMetadata {
	present.Namespace, present.Key = "n", "k"
	return &mesh.HeaderToMetadata{Request: []mesh.MetadataRule{{
		Header: header, Present: present, Missing: &mesh.MetadataValue{Namespace: "n", Key: "k", Value: "missing"},
	}}}
}

func TestValues(t *testing.T) {
	t.Parallel()
	number := mesh.MetadataValue{Type: mesh.MetadataNumber}
	list, err := structpb.NewValue([]any{"a", 1.0})
	if err != nil {
		t.Fatal(err)
	}
	bytes, err := proto.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	peer := mesh.MetadataValue{Rewrite: &mesh.RegexRewrite{Pattern: `.*URI=spiffe://([^/]+)/ns/([^/]+)/.*`, Substitution: `\2@\1`}}
	for _, tt := range []struct {
		name   string
		value  mesh.MetadataValue
		fields []string
		want   any
		unset  bool
	}{
		{name: "plain", fields: []string{"x: v"}, want: "v"},
		{name: "missing", want: "missing"},
		{name: "joined", fields: []string{"x: a", "x: b"}, want: "a,b"},
		{name: "empty", fields: []string{"x: "}, unset: true},
		{name: "constant", value: mesh.MetadataValue{Value: "c"}, fields: []string{"x: "}, want: "c"},
		{name: "rewritten", value: peer, fields: []string{"x: By=y;URI=spiffe://td/ns/default/dc/d/svc/web"}, want: "default@td"},
		{name: "not rewritten", value: peer, fields: []string{"x: other"}, want: "other"},
		{name: "rewritten to nothing", value: mesh.MetadataValue{Rewrite: &mesh.RegexRewrite{Pattern: "v"}}, fields: []string{"x: vv"}, unset: true},
		{name: "number", value: number, fields: []string{"x: -1.5e1 "}, want: -15.0},
		{name: "infinite", value: number, fields: []string{"x: 1e999"}, want: math.Inf(1)},
		{name: "no number", value: number, fields: []string{"x: 1.5x"}, unset: true},
		{name: "hexadecimal", value: number, fields: []string{"x: 0x1p-2"}, want: 0.25},
		{name: "hexadecimal without exponent", value: number, fields: []string{"x: -0x10"}, want: -16.0},
		{name: "underscores", value: number, fields: []string{"x: 1_0"}, unset: true},
		{name: "base64", value: mesh.MetadataValue{Base64: true}, fields: []string{"x: dsOkbA=="}, want: "väl"},
		{name: "base64 without padding", value: mesh.MetadataValue{Base64: true}, fields: []string{"x: dsOkbA"}, want: "väl"},
		{name: "bad base64", value: mesh.MetadataValue{Base64: true}, fields: []string{"x: d*"}, unset: true},
		{name: "protobuf", value: mesh.MetadataValue{Type: mesh.MetadataProtobuf}, fields: []string{"x: " + string(bytes)}, want: []any{"a", 1.0}},
		{name: "no protobuf", value: mesh.MetadataValue{Type: mesh.MetadataProtobuf}, fields: []string{"x: \xff\xff"}, unset: true},
		{name: "too long", fields: []string{"x: " + strings.Repeat("v", 8192)}, unset: true},
		{name: "long", fields: []string{"x: " + strings.Repeat("v", 8191)}, want: strings.Repeat("v", 8191)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m, _ := serve(t, rule("x", &tt.value), tt.fields...)
			got, ok := m.Lookup("n", []string{"k"})
			if diff := cmp.Diff(tt.want, got); diff != "" || ok == tt.unset {
				t.Errorf("ok %v, %s", ok, diff)
			}
		})
	}
}

func TestSources(t *testing.T) {
	t.Parallel()
	one := func(r mesh.MetadataRule) *mesh.HeaderToMetadata {
		r.Present = &mesh.MetadataValue{Namespace: "n", Key: "k"}
		return &mesh.HeaderToMetadata{Request: []mesh.MetadataRule{r}}
	}
	for _, tt := range []struct {
		name   string
		rule   mesh.MetadataRule
		fields []string
		want   any
	}{
		{"path", mesh.MetadataRule{Header: ":path"}, nil, "/p?q"},
		{"host", mesh.MetadataRule{Header: ":authority"}, nil, "host"},
		{"cookie", mesh.MetadataRule{Cookie: "b"}, []string{`cookie: a=b; b="v w"; b=x`}, "v w"},
		{"cookie of a second line", mesh.MetadataRule{Cookie: "b"}, []string{"cookie: a=b", "cookie: b=2"}, "2"},
		{"no cookie", mesh.MetadataRule{Cookie: "b"}, []string{"cookie: ab=1; B=2; b"}, nil},
		{"empty cookie", mesh.MetadataRule{Cookie: "b"}, []string{"cookie: b="}, nil},
	} {
		m, _ := serve(t, one(tt.rule), tt.fields...)
		got, _ := m.Lookup("n", []string{"k"})
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: %s", tt.name, diff)
		}
	}
	f := one(mesh.MetadataRule{Header: "x", Remove: true})
	f.Response = []mesh.MetadataRule{{Header: "x-out", Present: &mesh.MetadataValue{Namespace: "n", Key: "out", Type: mesh.MetadataNumber}}}
	m, req := serve(t, f, "x: 1", "y: 2", "x: 3")
	if diff := cmp.Diff(map[string]any{"k": "1,3", "out": 1.5}, m.Namespace("n")); diff != "" || req.Header.Has("x") || !req.Header.Has("y") {
		t.Errorf("%v: %s", req.Header, diff)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for _, r := range []mesh.MetadataRule{
		{},
		{Header: "a", Cookie: "b"},
		{Header: "a", Present: &mesh.MetadataValue{Rewrite: &mesh.RegexRewrite{Pattern: "("}}},
		{Header: "a", Missing: &mesh.MetadataValue{Rewrite: &mesh.RegexRewrite{Pattern: "a", Substitution: `\1`}}},
		{Header: "a", Present: &mesh.MetadataValue{Type: 7}},
	} {
		for _, f := range []*mesh.HeaderToMetadata{{Request: []mesh.MetadataRule{r}}, {Response: []mesh.MetadataRule{r}}} {
			if _, err := headermeta.New(f); err == nil {
				t.Errorf("%+v was compiled", r)
			}
		}
	}
}

// FuzzHeader: whatever a client sends becomes metadata of the type asked for, or
// none.
func FuzzHeader(f *testing.F) {
	f.Add("v", uint8(0), false)
	f.Add("1e3", uint8(1), false)
	f.Add("MTIz", uint8(1), true)
	f.Add("GgF2", uint8(2), true)
	f.Add(`a="b"; b=`, uint8(0), false)
	f.Fuzz(func(t *testing.T, text string, kind uint8, encoded bool) {
		v := mesh.MetadataValue{Type: mesh.MetadataType(kind % 3), Base64: encoded}
		m, req := serve(t, rule("x", &v), "x: "+text, "cookie: "+text)
		match.Cookie(&req.Header, "a")
		value, ok := m.Lookup("n", []string{"k"})
		if !ok {
			return
		}
		switch _, number := value.(float64); {
		case v.Type == mesh.MetadataNumber && !number, v.Type == mesh.MetadataString && number:
			t.Errorf("%q became %T", text, value)
		}
	})
}
