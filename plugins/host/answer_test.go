package host_test

import (
	"context"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/host"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	set := func(name, value string) *pluginpb.HeaderChange {
		return &pluginpb.HeaderChange{Set: []*pluginpb.Field{{Name: []byte(name), Value: []byte(value)}}}
	}
	request := func(c *pluginpb.RequestChange) error { _, err := host.CheckRequestChange(c); return err }
	response := func(c *pluginpb.ResponseChange) error { _, err := host.CheckResponseChange(c); return err }
	identity := func(i *pluginpb.Identity) error { _, err := host.CheckIdentity(i); return err }
	refusal := func(r *pluginpb.Refusal) error { _, err := host.CheckRefusal(r); return err }
	for name, row := range map[string]struct {
		err  error
		want string // "" if it is right
	}{
		"nothing":         {request(nil), ""},
		"field":           {request(&pluginpb.RequestChange{Header: set("x-a", "b \t\xff")}), ""},
		"path":            {request(&pluginpb.RequestChange{Path: []byte("/a%20b?c=d")}), ""},
		"relative path":   {request(&pluginpb.RequestChange{Path: []byte("a")}), `the path is none`},
		"space in path":   {request(&pluginpb.RequestChange{Path: []byte("/a b")}), `it is "/a b"`},
		"fragment":        {request(&pluginpb.RequestChange{Path: []byte("/a#b")}), `it is "/a#b"`},
		"path injection":  {request(&pluginpb.RequestChange{Path: []byte("/ HTTP/1.1\r\nA: b")}), `it is "/ HTTP/1.1\r\nA: b"`},
		"not ASCII":       {request(&pluginpb.RequestChange{Path: []byte("/ä")}), `the path is none`},
		"long path":       {request(&pluginpb.RequestChange{Path: []byte("/" + strings.Repeat("a", 8<<10))}), `it is "/aaa`},
		"upper case":      {request(&pluginpb.RequestChange{Header: set("X-A", "b")}), `"X-A" is no name of a field in lower case`},
		"no name":         {request(&pluginpb.RequestChange{Header: set("", "b")}), `"" is no name`},
		"pseudo field":    {request(&pluginpb.RequestChange{Header: set(":path", "/")}), `":path" is no name`},
		"host":            {request(&pluginpb.RequestChange{Header: set("host", "a")}), `the field "host" is the proxy's`},
		"NUL":             {request(&pluginpb.RequestChange{Header: set("a", "\x00")}), `the value of the field "a"`},
		"leading blank":   {request(&pluginpb.RequestChange{Header: set("a", " b")}), `blanks at its ends`},
		"hop by hop":      {response(&pluginpb.ResponseChange{Header: set("connection", "close")}), `the field "connection"`},
		"vouching":        {response(&pluginpb.ResponseChange{Header: set("x-serai-plan", "gold")}), "vouches"},
		"status":          {response(&pluginpb.ResponseChange{Status: 404}), ""},
		"interim":         {response(&pluginpb.ResponseChange{Status: 101}), "the status is 101; want 200 to 599"},
		"no status":       {response(&pluginpb.ResponseChange{Status: 600}), "the status is 600"},
		"without body":    {response(&pluginpb.ResponseChange{Status: 304}), "which has no body"},
		"consumer":        {identity(&pluginpb.Identity{Consumer: []byte("ärger 1")}), ""},
		"nobody":          {identity(nil), "it names no consumer"},
		"control":         {identity(&pluginpb.Identity{Consumer: []byte("a\n")}), `the consumer's name is none: "a\n"`},
		"not UTF-8":       {identity(&pluginpb.Identity{Consumer: []byte("\xff")}), "the consumer's name is none"},
		"identity adds":   {identity(&pluginpb.Identity{Consumer: []byte("a"), Header: &pluginpb.HeaderChange{Add: set("a", "b").Set}}), "it adds some"},
		"refusal":         {refusal(&pluginpb.Refusal{Status: 599, Header: set("retry-after", "1").Set}), ""},
		"not refused":     {refusal(&pluginpb.Refusal{Status: 302}), "refuses with the status 302"},
		"refusal framing": {refusal(&pluginpb.Refusal{Status: 400, Header: set("transfer-encoding", "chunked").Set}), "transfer-encoding"},
	} {
		switch {
		case row.want == "" && row.err != nil:
			t.Errorf("%s: %v", name, row.err)
		case row.want != "" && (row.err == nil || !strings.Contains(row.err.Error(), row.want)):
			t.Errorf("%s: got %v, want %s", name, row.err, row.want)
		}
	}
}

// FuzzAnswers shows that whatever bytes a plugin answers with, what is taken of
// them can be put into a message of HTTP.
func FuzzAnswers(f *testing.F) {
	field := &pluginpb.Field{Name: []byte("x-a"), Value: []byte("b")}
	for _, seed := range []proto.Message{
		&pluginpb.Identity{Consumer: []byte("acme"), Header: &pluginpb.HeaderChange{Set: []*pluginpb.Field{field}, Remove: [][]byte{[]byte("b")}}},
		&pluginpb.RequestChange{Path: []byte("/a?b"), Header: &pluginpb.HeaderChange{Add: []*pluginpb.Field{field}}},
		&pluginpb.ResponseChange{Status: 404},
		&pluginpb.Refusal{Status: 401, Text: []byte("no"), Header: []*pluginpb.Field{field}},
	} {
		bytes, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(bytes)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		if identity := new(pluginpb.Identity); proto.Unmarshal(answer, identity) == nil {
			if got, err := host.CheckIdentity(identity); err == nil {
				if got.Consumer == "" || strings.ContainsAny(got.Consumer, "\r\n\x00") {
					t.Errorf("consumer %q", got.Consumer)
				}
				holds(t, got.Remove, got.Set)
			}
		}
		if change := new(pluginpb.RequestChange); proto.Unmarshal(answer, change) == nil {
			if got, err := host.CheckRequestChange(change); err == nil && got != nil {
				if got.Path != "" && (got.Path[0] != '/' || strings.ContainsAny(got.Path, " \t\r\n\x00#")) {
					t.Errorf("path %q", got.Path)
				}
				holds(t, got.Remove, append(got.Set, got.Add...))
			}
		}
		if change := new(pluginpb.ResponseChange); proto.Unmarshal(answer, change) == nil {
			if got, err := host.CheckResponseChange(change); err == nil && got != nil {
				if got.Status != 0 && (got.Status < 200 || got.Status > 599) {
					t.Errorf("status %d", got.Status)
				}
				holds(t, got.Remove, append(got.Set, got.Add...))
			}
		}
		if refusal := new(pluginpb.Refusal); proto.Unmarshal(answer, refusal) == nil {
			if got, err := host.CheckRefusal(refusal); err == nil {
				if got.Status < 400 || got.Status > 599 {
					t.Errorf("status %d", got.Status)
				}
				holds(t, nil, got.Header)
			}
		}
	})
}

// holds checks fields by another's rules.
func holds(t *testing.T, names []string, fields []plugins.Field) {
	t.Helper()
	for _, f := range fields {
		names = append(names, f.Name)
		if !httpguts.ValidHeaderFieldValue(f.Value) {
			t.Errorf("value %q", f.Value)
		}
	}
	if len(names) > 128 {
		t.Errorf("%d fields", len(names))
	}
	for _, name := range names {
		switch {
		case !httpguts.ValidHeaderFieldName(name), name != strings.ToLower(name):
			t.Errorf("name %q", name)
		case name == "host", name == "content-length", name == "transfer-encoding", name == "connection", strings.HasPrefix(name, "x-serai-"):
			t.Errorf("name %q is not the plugin's", name)
		}
	}
}

// BenchmarkAuthenticate is one call: there and back over the socket, with mutual
// TLS, and the plugin's own work, which is next to none.
func BenchmarkAuthenticate(b *testing.B) {
	c, err := actor("good")
	if err != nil {
		b.Fatal(err)
	}
	s := host.NewSet(quiet())
	defer s.Close()
	plan, err := s.Prepare(b.Context(), []host.Config{c}, []host.Use{{Plugin: "good", Settings: map[string]any{"consumer": "acme"}}})
	if err != nil {
		b.Fatal(err)
	}
	plan.Commit()
	r := &plugins.Request{ID: "0123456789abcdef", Method: "GET", Scheme: "https", Authority: "api.example.com", Path: "/v1/things?limit=10"}
	for _, name := range []string{"accept", "accept-encoding", "authorization", "user-agent", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-request-id"} {
		r.Header = append(r.Header, plugins.Field{Name: name, Value: "some value of usual length"})
	}
	b.ReportAllocs()
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := plan.Instance(0).Authenticate(context.Background(), r); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("parallel", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(16)
		b.RunParallel(func(p *testing.PB) {
			for p.Next() {
				if _, err := plan.Instance(0).Authenticate(context.Background(), r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	})
}
