// Package jwt is the jwt_authn filter: it verifies JSON Web Tokens (RFC 7519)
// by keys at hand or fetched (JWKS, RFC 7517), and tells who comes after it what
// they say, in metadata and header fields.
//
//	request ── rule ──▶ requirement ──▶ token ── times, audience ── keys ── signature ──▶ metadata
//	                                      cache ─┘      remote ┘
//
// Consul lets no token decide here: its requirements are fulfilled whatever
// comes, and its intentions ask the metadata afterwards. So a token that is not
// good must leave no trace in it.
//
// The signatures are those of go-jose, which has no dependency besides the
// standard library and takes no algorithm that was not named beforehand.
package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// Deps are what a filter stands on. All but Choose and Find may be nil.
type Deps struct {
	// Choose returns the index of the rule that matches, -1 if none does.
	Choose func(x *wire.Exchange, req *wire.Request) int
	// Find finds the clusters that keys are fetched from.
	Find call.Find
	// Pin chooses the route of a request before it is changed.
	Pin func(x *wire.Exchange, req *wire.Request) (routed bool)
	// Keep finds again what an earlier configuration has fetched from a source, or
	// has it built.
	Keep func(source mesh.RemoteKeys, build func() *Remote) *Remote
	// Scope is where it counts, by Envoy's names.
	Scope *stats.Scope
	Log   *slog.Logger
}

// filter is a compiled [mesh.JWT].
type filter struct {
	Deps
	log       *slog.Logger
	config    *mesh.JWT
	providers map[string]*provider
	rules     []requirement // nil for one that requires nothing
	changes   bool          // tokens may become header fields, or be taken away
	// counters
	allowed, denied, preflight, hit, miss *stats.Counter
	keys                                  counters
}

// Layer compiles a filter. It fails for what is required of a provider that is
// not there, and for keys at hand of which none is understood. Keys that cannot
// be fetched are no failure: no token is good until they are.
func Layer(config *mesh.JWT, deps Deps) (wire.Layer, error) {
	f := &filter{Deps: deps, log: deps.Log, config: config, providers: map[string]*provider{}}
	if f.log == nil {
		f.log = slog.New(slog.DiscardHandler)
	}
	scope := deps.Scope.Scope("jwt_authn." + config.StatPrefix)
	f.allowed, f.denied, f.preflight = scope.Counter("allowed"), scope.Counter("denied"), scope.Counter("cors_preflight_bypassed")
	f.hit, f.miss = scope.Counter("jwt_cache_hit"), scope.Counter("jwt_cache_miss")
	f.keys = counters{scope.Counter("jwks_fetch_success"), scope.Counter("jwks_fetch_failed"), scope.Counter("jwks_stale")}
	for _, name := range slices.Sorted(maps.Keys(config.Providers)) {
		p, err := f.compileProvider(name, config.Providers[name])
		if err != nil {
			return nil, fmt.Errorf("provider %q: %w", name, err)
		}
		f.providers[name] = p
		f.changes = f.changes || p.PayloadHeader != "" || len(p.ClaimHeaders) > 0 || !p.Forward
	}
	if err := f.compileRules(); err != nil {
		return nil, err
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			err := f.check(x, req)
			switch {
			case err == nil:
				return next.Serve(x, req)
			case config.Silent:
				fault := wire.AsFault(err)
				x.Flag, x.Err, x.Details = fault.Flag, err, fault.Details
				return wire.Answer(x, fault.Status, "", nil), nil
			}
			return nil, err
		})
	}, nil
}

// compileRules compiles what is required, rules of one name once. What a route asks for
// takes the place of all rules.
func (f *filter) compileRules() error {
	known := map[*mesh.JWTRequirement]requirement{nil: nil}
	compile := func(needs *mesh.JWTRequirement) (r requirement, err error) {
		r, done := known[needs]
		if !done {
			r, err = f.compileRequirement(needs, 0)
			known[needs] = r
		}
		return r, err
	}
	if name := f.config.Requirement; name != "" {
		needs := f.config.Named[name]
		if needs == nil {
			return fmt.Errorf("requirement %q is not known", name)
		}
		r, err := compile(needs)
		if err != nil {
			return fmt.Errorf("requirement %s: %w", name, err)
		}
		f.rules, f.Choose = []requirement{r}, func(*wire.Exchange, *wire.Request) int { return 0 }
		return nil
	}
	for i := range f.config.Rules {
		r, err := compile(f.config.Rules[i].Requires)
		if err != nil {
			return fmt.Errorf("rule %d: %w", i, err)
		}
		f.rules = append(f.rules, r)
	}
	return nil
}

// remote finds the keys of a source, by whomever they are fetched.
func (f *filter) remote(source mesh.RemoteKeys) *Remote {
	build := func() *Remote { return newRemote(source, f.Find, f.log, f.keys) }
	if f.Keep == nil {
		return build()
	}
	return f.Keep(source, build)
}

// check returns the answer to a request that does not bring what it must.
func (f *filter) check(x *wire.Exchange, req *wire.Request) error {
	if f.config.BypassPreflight && req.Method == http.MethodOptions &&
		req.Header.Get("origin") != "" && req.Header.Get("access-control-request-method") != "" {
		f.preflight.Add(1)
		f.allowed.Add(1)
		return nil
	}
	rule := f.Choose(x, req)
	if rule < 0 || f.rules[rule] == nil {
		f.allowed.Add(1)
		return nil
	}
	if f.changes && f.Pin != nil {
		f.Pin(x, req)
	}
	realm := req.Scheme + "://" + req.Authority + shorten(req.Path)
	v := &visit{x: x, req: req, now: time.Now()}
	err := f.rules[rule].check(v)
	for _, t := range v.told {
		x.Metadata.Set(Namespace, t.key, t.value)
	}
	if err == nil {
		f.allowed.Add(1)
		return nil
	}
	f.denied.Add(1)
	return f.refuse(err, realm)
}

// maxRealm is how much of a path is told in a challenge.
const maxRealm = 256

func shorten(path string) string {
	if len(path) > maxRealm {
		return path[:maxRealm]
	}
	return path
}

func (f *filter) refuse(err error, realm string) error {
	fault := &wire.Fault{
		Status: http.StatusUnauthorized, Flag: wire.FlagDenied, Text: err.Error(), Err: err,
		Details: wire.WithDetails("jwt_authn_access_denied", err.Error()),
	}
	if errors.Is(err, errAudience) {
		fault.Status = http.StatusForbidden
	}
	if f.config.Silent {
		return fault
	}
	challenge := `Bearer realm="` + realm + `"`
	if !errors.Is(err, errMissing) {
		challenge += `, error="invalid_token"`
	}
	fault.Header = []wire.Field{{Name: "www-authenticate", Value: challenge}}
	return fault
}

// verifyAny verifies a token by the provider that issued it.
func (f *filter) verifyAny(v *visit, one found) error {
	t, err := parse(one.text)
	if err != nil {
		f.tellAlone(v, err)
		return err
	}
	p := f.issuer(t.issuer)
	if p == nil || !one.at.allows(t.issuer) {
		f.tellAlone(v, errUnknownIssuer)
		return errUnknownIssuer
	}
	err = f.verify(v, one, p, p.audiences)
	p.tell(v, err)
	return err
}

// tellAlone tells what is wrong with a token of which nobody knows whose it is, or that
// there is none, if there is only one provider (Envoy's rule).
func (f *filter) tellAlone(v *visit, err error) {
	if len(f.providers) != 1 {
		return
	}
	for _, p := range f.providers {
		p.tell(v, err)
	}
}

// issuer is the first provider for it, or else the first for any.
func (f *filter) issuer(issuer string) *provider {
	var other *provider
	for _, name := range slices.Sorted(maps.Keys(f.providers)) {
		p := f.providers[name]
		if p.Issuer == issuer {
			return p
		}
		if p.Issuer == "" && other == nil {
			other = p
		}
	}
	return other
}

// verify takes a token through all checks, and accepts it.
func (f *filter) verify(v *visit, one found, p *provider, wanted []string) error {
	keys, fresh := p.now(v.now)
	var t *token
	if fresh {
		t = p.verified.get(one.text, keys)
	}
	known := t != nil
	if !known {
		f.miss.Add(1)
		var err error
		if t, err = parse(one.text); err != nil {
			return err
		}
	} else {
		f.hit.Add(1)
	}
	if !one.at.allows(t.issuer) {
		return errUnknownIssuer
	}
	if err := p.check(t, v.now, wanted); err != nil {
		return err
	}
	if !known {
		if err := f.prove(v, t, p); err != nil {
			return err
		}
	}
	p.accept(v, t, one.at)
	return nil
}

// prove verifies the signature, for which keys may have to be fetched.
func (f *filter) prove(v *visit, t *token, p *provider) error {
	keys := p.local
	if p.remote != nil {
		var err error
		if keys, err = p.remote.get(v.now, v.wait); err != nil {
			return err
		}
	}
	if keys == nil {
		return errNoKeys
	}
	if err := keys.verify(t); err != nil {
		return err
	}
	p.verified.put(t.clone(), keys)
	return nil
}

func (v *visit) wait() context.Context { return v.x.Context() }
