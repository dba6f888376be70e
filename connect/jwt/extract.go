package jwt

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// place is where a token is looked for, and whose tokens may stand there.
type place struct {
	kind         placeKind
	name, prefix string
	issuers      []string // "" is any
}

type placeKind uint8

const (
	inHeader placeKind = iota
	inParam
	inCookie
)

func (p *place) allows(issuer string) bool {
	return slices.Contains(p.issuers, "") || slices.Contains(p.issuers, issuer)
}

// found is a token that a request brings.
type found struct {
	text string
	at   *place
}

// places are those of some providers, in Envoy's order: headers, parameters,
// cookies, each by name.
func places(providers ...*mesh.JWTProvider) []*place {
	all := map[spot]*place{}
	add := func(p spot, issuer string) {
		if all[p] == nil {
			all[p] = &place{kind: p.kind, name: p.name, prefix: p.prefix}
		}
		all[p].issuers = append(all[p].issuers, issuer)
	}
	for _, p := range providers {
		for _, h := range p.Headers {
			add(spot{inHeader, strings.ToLower(h.Name), h.Prefix}, p.Issuer)
		}
		for _, name := range p.Params {
			add(spot{inParam, name, ""}, p.Issuer)
		}
		for _, name := range p.Cookies {
			add(spot{inCookie, name, ""}, p.Issuer)
		}
		if len(p.Headers)+len(p.Params)+len(p.Cookies) == 0 {
			add(spot{inHeader, "authorization", "Bearer "}, p.Issuer)
			add(spot{inParam, "access_token", ""}, p.Issuer)
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b *place) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name+a.prefix, b.name+b.prefix))
	})
}

// spot is what tells places apart.
type spot struct {
	kind         placeKind
	name, prefix string
}

// extract returns the tokens of a request, without believing any.
func extract(req *wire.Request, all []*place) []found {
	var tokens []found
	for _, p := range all {
		switch p.kind {
		case inHeader:
			tokens = p.fields(&req.Header, tokens)
		case inParam:
			if text, ok := param(req.Query(), p.name); ok {
				tokens = append(tokens, found{text, p})
			}
		case inCookie:
			if text := match.Cookie(&req.Header, p.name); text != "" {
				tokens = append(tokens, found{text, p})
			}
		}
	}
	return tokens
}

// fields are the tokens in the header fields of a name. Several fields
// "authorization" are one, which no token survives: Envoy joins them.
func (p *place) fields(header *wire.Header, tokens []found) []found {
	if p.name == "authorization" {
		if text, ok := after(header.Joined(p.name), p.prefix); ok && header.Has(p.name) {
			tokens = append(tokens, found{text, p})
		}
		return tokens
	}
	for value := range header.Values(p.name) {
		if text, ok := after(value, p.prefix); ok {
			tokens = append(tokens, found{text, p})
		}
	}
	return tokens
}

// after is what follows prefix, wherever that stands, from the first character
// that may be a token's.
func after(value, prefix string) (string, bool) {
	if prefix == "" {
		return value, true
	}
	_, rest, ok := strings.Cut(value, prefix)
	if !ok {
		return "", false
	}
	if i := strings.IndexFunc(rest, mayBeToken); i >= 0 {
		return rest[i:], true
	}
	return value, true
}

func mayBeToken(c rune) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}

// param is the first value of a query parameter.
func param(query, name string) (string, bool) {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); unescape(key) == name {
			return unescape(value), true
		}
	}
	return "", false
}

// unescape decodes what is percent-encoded, and leaves what is not well so.
func unescape(s string) string {
	if !strings.Contains(s, "%") {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if hi, lo := unhex(s[i+1]), unhex(s[i+2]); hi < 16 && lo < 16 {
				b.WriteByte(hi<<4 | lo)
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// remove takes the token out of the request. Cookies stay, as with Envoy.
func (p *place) remove(req *wire.Request) {
	switch p.kind {
	case inHeader:
		req.Header.Del(p.name)
	case inParam:
		path, query, _ := strings.Cut(req.Path, "?")
		kept := slices.DeleteFunc(strings.Split(query, "&"), func(pair string) bool {
			key, _, _ := strings.Cut(pair, "=")
			return unescape(key) == p.name
		})
		if query = strings.Join(kept, "&"); query != "" {
			path += "?" + query
		}
		req.Path = path
	case inCookie:
	}
}
