package jwt_test

import (
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/jwt"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	deep := mesh.JWTRequirement{Provider: "one"}
	for range 100 {
		deep = mesh.JWTRequirement{All: []mesh.JWTRequirement{deep}}
	}
	for want, config := range map[string]*mesh.JWT{
		"valid public key": requiring(&mesh.JWTProvider{Keys: "{}"}),
		"subjects":         requiring(&mesh.JWTProvider{Keys: s.jwks, Subjects: &mesh.StringMatch{Kind: 99}}),
		`"two" is not known`: {
			Providers: map[string]*mesh.JWTProvider{"one": {Keys: s.jwks}},
			Rules:     []mesh.JWTRule{{Requires: &mesh.JWTRequirement{Any: []mesh.JWTRequirement{{Provider: "one"}, {Provider: "two"}}}}},
		},
		"too deeply": {Providers: map[string]*mesh.JWTProvider{"one": {Keys: s.jwks}}, Rules: []mesh.JWTRule{{Requires: &deep}}},
	} {
		if _, err := jwt.Layer(config, jwt.Deps{Choose: first}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestConsul is the shape that Consul sends: whatever comes, the filter lets it
// through, and metadata says only what is verified.
func TestConsul(t *testing.T) {
	t.Parallel()
	one, two := newSigner(t), newSigner(t)
	either := func(name string) mesh.JWTRequirement {
		return mesh.JWTRequirement{Any: []mesh.JWTRequirement{{Provider: name}, {AllowFailed: true}}}
	}
	var registry stats.Registry
	layer, err := jwt.Layer(&mesh.JWT{
		Providers: map[string]*mesh.JWTProvider{
			"one": {Issuer: "one", Keys: one.jwks, PayloadMetadata: "jwt_payload_one"},
			"two": {Issuer: "two", Keys: two.jwks, PayloadMetadata: "jwt_payload_two", Headers: []mesh.JWTHeader{{Name: "x-two"}}},
		},
		Rules: []mesh.JWTRule{{Requires: &mesh.JWTRequirement{All: []mesh.JWTRequirement{either("one"), either("two")}}}},
	}, jwt.Deps{Choose: first, Scope: registry.Scope("http.x.")})
	if err != nil {
		t.Fatal(err)
	}
	ofOne := bearer(one.token(t, map[string]any{"iss": "one", "sub": "a"}))
	ofTwo := wire.Field{Name: "x-two", Value: two.token(t, map[string]any{"iss": "two", "sub": "b"})}
	saysOne, saysTwo := map[string]any{"iss": "one", "sub": "a"}, map[string]any{"iss": "two", "sub": "b"}
	for _, tt := range []struct {
		name   string
		fields []wire.Field
		want   map[string]any
	}{
		{"nothing", nil, nil},
		{"one", []wire.Field{ofOne}, map[string]any{"jwt_payload_one": saysOne}},
		{"both", []wire.Field{ofOne, ofTwo}, map[string]any{"jwt_payload_one": saysOne, "jwt_payload_two": saysTwo}},
		{"forged", []wire.Field{bearer(two.token(t, map[string]any{"iss": "one"})), ofTwo}, map[string]any{"jwt_payload_two": saysTwo}},
		{"expired", []wire.Field{bearer(one.token(t, map[string]any{"iss": "one", "exp": 1}))}, nil},
		{"another's", []wire.Field{{Name: "x-two", Value: one.token(t, map[string]any{"iss": "one"})}}, nil},
		{"no token", []wire.Field{bearer("x")}, nil},
	} {
		for range 2 { // and from the cache
			got, says := ask(t, layer, tt.fields...)
			if diff := cmp.Diff(tt.want, says); diff != "" || got != "" {
				t.Errorf("%s: %q, %s", tt.name, got, diff)
			}
		}
	}
	if hits := registry.Scope("http.x.jwt_authn.").Counter("jwt_cache_hit").Load(); hits != 6 {
		t.Errorf("%d hits of the cache", hits)
	}
}

// TestCacheForgets: there is a bound, and what is remembered expires all the same.
func TestCacheForgets(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	var registry stats.Registry
	layer, err := jwt.Layer(requiring(&mesh.JWTProvider{Keys: s.jwks, CacheSize: 4, CacheLongest: 1000, ClockSkew: time.Nanosecond}),
		jwt.Deps{Choose: first, Scope: registry.Scope("")})
	if err != nil {
		t.Fatal(err)
	}
	hit := registry.Scope("jwt_authn.").Counter("jwt_cache_hit")
	tokens := make([]wire.Field, 20)
	for i := range tokens {
		tokens[i] = bearer(s.token(t, map[string]any{"iss": fmt.Sprint(i)}))
		ask(t, layer, tokens[i])
	}
	ask(t, layer, tokens[19])
	if hit.Load() != 1 {
		t.Errorf("%d hits of the newest", hit.Load())
	}
	ask(t, layer, tokens[0])
	if hit.Load() != 1 {
		t.Error("the oldest is still there")
	}
	long := bearer(s.token(t, map[string]any{"iss": strings.Repeat("x", 2000)}))
	ask(t, layer, long)
	ask(t, layer, long)
	if hit.Load() != 1 {
		t.Error("a token is kept that is too long")
	}
	soon := bearer(s.token(t, map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}))
	for range 2 {
		if got, _ := ask(t, layer, soon); got != "Jwt is expired" {
			t.Errorf("got %q", got)
		}
	}
}

// FuzzToken: whatever comes instead of a token is not believed, and breaks nothing.
func FuzzToken(f *testing.F) {
	s := newSigner(f)
	good := s.token(f, map[string]any{"iss": "one", "a": map[string]any{"b": "c\r\nx: y"}})
	config := requiring(&mesh.JWTProvider{
		Keys: s.jwks, PayloadMetadata: "p", PayloadHeader: "x-payload", ClaimHeaders: []mesh.ClaimHeader{{Header: "x-claim", Claim: "a.b"}},
		Headers: []mesh.JWTHeader{{Name: "authorization", Prefix: "Bearer "}, {Name: "x-token"}}, Params: []string{"t"}, Cookies: []string{"t"},
	})
	layer, err := jwt.Layer(config, jwt.Deps{Choose: first})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, "/?t=x")
	f.Add("a.b.c", "/?%74=a.b.c&t")
	f.Add(`e30.e30.x; t="`, "/?&&=&t=%zz")
	f.Add("eyJhbGciOiJub25lIn0.e30.", "/")
	f.Fuzz(func(t *testing.T, token, path string) {
		x, req := &wire.Exchange{}, &wire.Request{Method: "GET", Scheme: "http", Authority: "a", Path: path}
		x.Reset(nil, &wire.Peer{}, time.Now())
		req.Header.Add("authorization", "Bearer "+token)
		req.Header.Add("cookie", "t="+token)
		_, err := layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			for name, value := range req.Header.All() {
				if strings.ContainsAny(value, "\r\n") && !strings.ContainsAny(token, "\r\n") {
					t.Errorf("%s: %q", name, value)
				}
			}
			return &wire.Response{Status: 200}, nil
		})).Serve(x, req)
		if err == nil && token != good {
			t.Errorf("%q was believed", token)
		}
		if err != nil && token != good && x.Metadata.Namespace(jwt.Namespace) != nil {
			t.Errorf("%q left a trace", token)
		}
	})
}

// A cache takes memory for what is in it, whatever it might take.
func TestHugeCache(t *testing.T) { //nolint:paralleltest // it looks at the memory of all
	s := newSigner(t)
	layer, err := jwt.Layer(requiring(&mesh.JWTProvider{Keys: s.jwks, CacheSize: 1 << 22}), jwt.Deps{Choose: first})
	if err != nil {
		t.Fatal(err)
	}
	token := bearer(s.token(t, map[string]any{"sub": "a"}))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ask(t, layer, token)
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > 8<<20 {
		t.Errorf("%d bytes for one token", after.TotalAlloc-before.TotalAlloc)
	}
}

// A route may ask for a requirement by its name, in place of all rules.
func TestRequirementByName(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	config := &mesh.JWT{
		Providers: map[string]*mesh.JWTProvider{"one": {Keys: s.jwks}},
		Named:     map[string]*mesh.JWTRequirement{"token": {Provider: "one"}, "maybe": {AllowMissing: true}},
	}
	none := func(*wire.Exchange, *wire.Request) int { return -1 }
	for name, want := range map[string]string{"": "", "token": "Jwt is missing", "maybe": ""} {
		as := *config
		as.Requirement = name
		layer, err := jwt.Layer(&as, jwt.Deps{Choose: none})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := ask(t, layer); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
	config.Named["refused"] = &mesh.JWTRequirement{Refusal: "is odd"}
	for name, want := range map[string]string{"other": `requirement "other" is not known`, "refused": "requirement refused: is odd"} {
		as := *config
		as.Requirement = name
		if _, err := jwt.Layer(&as, jwt.Deps{Choose: none}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// The route is chosen before a token becomes a field or is taken away, and anew afterwards only if the provider says so.
func TestRouteIsChosenBeforeTheHeadChanges(t *testing.T) {
	t.Parallel()
	s := newSigner(t)
	token := s.token(t, map[string]any{"sub": "a", "group": "x"})
	for _, row := range []struct {
		name  string
		p     mesh.JWTProvider
		token bool
		want  any // what is pinned at the end
	}{
		{"no field", mesh.JWTProvider{Forward: true}, true, nil},
		{"no token any more", mesh.JWTProvider{}, true, "GET"},
		{"a claim", mesh.JWTProvider{ClaimHeaders: []mesh.ClaimHeader{{Header: "x-group", Claim: "group"}}}, true, "GET"},
		{"the payload", mesh.JWTProvider{PayloadHeader: "x-payload"}, true, "GET"},
		{"a claim, cleared", mesh.JWTProvider{ClaimHeaders: []mesh.ClaimHeader{{Header: "x-group", Claim: "group"}}, ClearRoute: true}, true, nil},
		{"a claim that is not there, cleared", mesh.JWTProvider{ClaimHeaders: []mesh.ClaimHeader{{Header: "x-group", Claim: "other"}}, ClearRoute: true}, true, "GET"},
		{"no token, cleared", mesh.JWTProvider{ClaimHeaders: []mesh.ClaimHeader{{Header: "x-group", Claim: "group"}}, ClearRoute: true}, false, "GET"},
		{"metadata, cleared", mesh.JWTProvider{PayloadHeader: "x-payload", PayloadMetadata: "p", ClearRoute: true}, true, nil},
	} {
		row.p.Keys = s.jwks
		config := &mesh.JWT{Providers: map[string]*mesh.JWTProvider{"one": &row.p}, Rules: []mesh.JWTRule{{Requires: &mesh.JWTRequirement{AllowFailed: true}}}}
		layer, err := jwt.Layer(config, jwt.Deps{Choose: first, Pin: func(x *wire.Exchange, req *wire.Request) bool {
			x.Pinned = req.Method
			return true
		}})
		if err != nil {
			t.Fatal(err)
		}
		x, req := &wire.Exchange{}, &wire.Request{Method: "GET", Scheme: "http", Authority: "a", Path: "/p"}
		x.Reset(nil, &wire.Peer{}, time.Now())
		if row.token {
			req.Header.Add("authorization", "Bearer "+token)
		}
		if _, err := layer(wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
			if x.Pinned != row.want {
				t.Errorf("%s: the route is chosen by %v, want %v", row.name, x.Pinned, row.want)
			}
			return &wire.Response{Status: 200}, nil
		})).Serve(x, req); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		x.Done(time.Now())
	}
}
