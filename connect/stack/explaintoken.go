package stack

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/filter/extauthz"
	"github.com/serai-net/serai/connect/jwt"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// notes says what is to be known of a filter's verdict beside it.
func (e *explaining) notes(f *mesh.HTTPFilter) func(*wire.Exchange, *wire.Request) []string {
	var note string
	switch {
	case f.JWT != nil:
		return func(x *wire.Exchange, req *wire.Request) []string { return e.tokens(f.JWT, x, req) }
	case f.ExtAuthz != nil:
		return func(x *wire.Exchange, req *wire.Request) []string { return e.question(f, x, req) }
	case f.Lua != nil, f.Lambda != nil:
		note = "presumed to pass, and to change nothing: it is not run"
	}
	return func(*wire.Exchange, *wire.Request) []string {
		if note == "" {
			return nil
		}
		return []string{note}
	}
}

// question says who would be asked, and what. Who is asked indeed has it said by asked.
func (e *explaining) question(f *mesh.HTTPFilter, x *wire.Exchange, req *wire.Request) []string {
	e.asks = nil
	as, err := e.onRoute(f, x, req)
	switch {
	case err != nil:
		return []string{"the route's own settings of it are refused, and the request with them: " + err.Error()}
	case as == nil:
		return []string{"it is left out where the request goes: nobody is asked"}
	case e.found.rule == nil:
		return []string{"nobody is asked of what no route matches"}
	}
	c := as.ExtAuthz
	text, err := extauthz.Question(c, e.place.authz(c, e.place.scope), x, req)
	if err != nil {
		return []string{err.Error()}
	}
	if e.place.Ask > 0 {
		e.asks = []string{"cluster " + c.Service.Cluster + " was asked", "it was sent " + text}
		return []string{"cluster " + c.Service.Cluster + " was not asked"}
	}
	note := "presumed to allow, and to change nothing: cluster " + c.Service.Cluster + " would be asked"
	if some := c.Enabled; some != nil {
		note += fmt.Sprintf(" of %d in %d requests", some.Numerator, some.Denominator)
	}
	return []string{note, "it would be sent " + text}
}

// asked notes that the service is asked of the filter that was met last.
func (e *explaining) asked() {
	if at := len(e.Filters) - 1; at >= 0 && e.asks != nil {
		e.Filters[at].Notes = e.asks
	}
}

// onRoute is f as it is where a request goes; nil if it is left out there. The route is
// fixed only if the chain fixes it, too.
func (e *explaining) onRoute(f *mesh.HTTPFilter, x *wire.Exchange, req *wire.Request) (*mesh.HTTPFilter, error) {
	if len(e.place.overridesOf(f.Name)) > 0 {
		if o := e.router.override(x, req, f.Name); o != nil {
			return overridden(f, o)
		}
	}
	if f.Disabled {
		return nil, nil //nolint:nilnil // there is nothing
	}
	return f, nil
}

// tokens says of each provider what becomes of its token in req, if it was the only
// one, and whether decisions on what it says can be believed.
func (e *explaining) tokens(all *mesh.JWT, x *wire.Exchange, req *wire.Request) []string {
	audiences := map[string][]string{}
	for i := range all.Rules {
		if needs := all.Rules[i].Requires; needs != nil {
			audiencesOf(needs, audiences)
		}
	}
	var notes []string
	for _, name := range slices.Sorted(maps.Keys(all.Providers)) {
		notes = append(notes, "token of "+name+": "+e.token(all.Providers[name], audiences[name], x, req))
	}
	return notes
}

// audiencesOf finds the audiences that are required instead of a provider's own.
func audiencesOf(needs *mesh.JWTRequirement, all map[string][]string) {
	if needs.Provider != "" && len(needs.Audiences) > 0 {
		all[needs.Provider] = needs.Audiences
	}
	for _, several := range [][]mesh.JWTRequirement{needs.Any, needs.All} {
		for i := range several {
			audiencesOf(&several[i], all)
		}
	}
}

// token is what becomes of the token of one provider.
func (e *explaining) token(p *mesh.JWTProvider, audiences []string, x *wire.Exchange, req *wire.Request) string {
	if p.Remote != nil && e.place.keys(*p.Remote, nil).Empty() {
		return "it cannot be verified here, decisions presume that there is none: its keys have not been fetched yet, from " +
			p.Remote.URI + " by cluster " + p.Remote.Cluster
	}
	alone := &mesh.JWT{
		Providers: map[string]*mesh.JWTProvider{"it": p},
		Rules:     []mesh.JWTRule{{Requires: &mesh.JWTRequirement{Provider: "it", Audiences: audiences}}},
	}
	layer, err := jwt.Layer(alone, jwt.Deps{Choose: func(*wire.Exchange, *wire.Request) int { return 0 }, Find: Find(e.place.clusters), Scope: e.place.scope, Keep: e.place.keys})
	if err != nil {
		return "not good: " + err.Error()
	}
	var one wire.Exchange
	one.Reset(nil, x.Peer, time.Now())
	defer func() { one.Done(time.Now()) }()
	copied := *req
	copied.Header = req.Header.Clone()
	pass := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(200, ""), nil })
	if _, err := layer(pass).Serve(&one, &copied); err != nil {
		return "not good, decisions presume that there is none: " + wire.AsFault(err).Text
	}
	return "good"
}
