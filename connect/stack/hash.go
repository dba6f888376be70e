package stack

import (
	"math/rand/v2"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// hash notes what consistent hashing goes by, as Envoy combines it of the rule's
// policies, and returns the cookie that the client is to get, if any.
func hash(policies []mesh.HashPolicy, x *wire.Exchange, req *wire.Request) (setCookie string) {
	c := &x.Choice
	for i := range policies {
		p := &policies[i]
		value, made := hashOf(p, x, req)
		if made != "" {
			setCookie = made
		}
		if value.ok {
			if c.Hashed {
				value.hash ^= c.Hash<<1 | c.Hash>>63
			}
			c.Hash, c.Hashed = value.hash, true
		}
		if p.Terminal && c.Hashed {
			break
		}
	}
	return setCookie
}

// hashed is the hash of one policy, if the request has what it is about.
type hashed struct {
	hash uint64
	ok   bool
}

func hashOf(p *mesh.HashPolicy, x *wire.Exchange, req *wire.Request) (h hashed, setCookie string) {
	switch {
	case p.Header != "":
		return hashHeader(req, p.Header), ""
	case p.Query != "":
		value, ok := parameter(req.Query(), p.Query)
		return hashed{xxhash.Sum64String(value), ok}, ""
	case p.SourceIP:
		if h, ok := sourceHash(x.Peer); ok {
			return hashed{h, true}, ""
		}
	case p.Cookie != nil:
		value, ok := cookie(&req.Header, p.Cookie.Name)
		if !ok && p.Cookie.HasTTL {
			value, ok = newCookie(x.Peer), true
			setCookie = cookieText(p.Cookie, value)
		}
		return hashed{xxhash.Sum64String(value), ok}, setCookie
	}
	return hashed{}, ""
}

func hashHeader(req *wire.Request, name string) hashed {
	switch name {
	case ":authority", "host":
		return hashed{xxhash.Sum64String(req.Authority), req.Authority != ""}
	case ":path":
		return hashed{xxhash.Sum64String(req.Path), true}
	case ":method":
		return hashed{xxhash.Sum64String(req.Method), true}
	case ":scheme":
		return hashed{xxhash.Sum64String(req.Scheme), true}
	}
	value, ok := req.Header.Lookup(name)
	if !ok {
		return hashed{}
	}
	var few [4]string
	values := few[:0]
	for v := range req.Header.Values(name) {
		values = append(values, v)
	}
	if len(values) == 1 {
		return hashed{xxhash.Sum64String(value), true}
	}
	slices.Sort(values) // their order says nothing
	d := xxhash.New()
	for _, v := range values {
		d.WriteString(v) //nolint:errcheck // never fails
	}
	return hashed{d.Sum64(), true}
}

// parameter is the first value of a parameter in a query.
func parameter(query, name string) (string, bool) {
	for pair := range strings.SplitSeq(query, "&") {
		key, value, _ := strings.Cut(pair, "=")
		if key == name {
			if plain, err := url.QueryUnescape(value); err == nil {
				value = plain
			}
			return value, true
		}
	}
	return "", false
}

// cookie is the value of the first cookie of that name.
func cookie(h *wire.Header, name string) (string, bool) {
	for line := range h.Values("cookie") {
		for pair := range strings.SplitSeq(line, ";") {
			key, value, ok := strings.Cut(strings.TrimSpace(pair), "=")
			if ok && key == name {
				if n := len(value); n >= 2 && value[0] == '"' && value[n-1] == '"' {
					value = value[1 : n-1]
				}
				return value, true
			}
		}
	}
	return "", false
}

// newCookie is the same for all requests of a connection, so that those in flight
// together get the same one.
func newCookie(peer *wire.Peer) string {
	number := rand.Uint64()
	if peer.Addr.IsValid() {
		number = xxhash.Sum64String(peer.Addr.String() + peer.Local.String())
	}
	return strconv.FormatUint(number, 16)
}

func cookieText(c *mesh.HashCookie, value string) string {
	var b strings.Builder
	b.WriteString(c.Name + `="` + value + `"`)
	if c.TTL > 0 {
		b.WriteString("; Max-Age=" + strconv.FormatInt(int64(c.TTL.Seconds()), 10))
	}
	if c.Path != "" {
		b.WriteString("; Path=" + c.Path)
	}
	for _, a := range c.Attributes {
		b.WriteString("; " + a.Name)
		if a.Value != "" {
			b.WriteString("=" + a.Value)
		}
	}
	b.WriteString("; HttpOnly")
	return b.String()
}

// sourceHash is the hash of the peer's address, if it has one.
func sourceHash(peer *wire.Peer) (uint64, bool) {
	addr := peer.Addr.Addr()
	if !addr.IsValid() {
		return 0, false
	}
	var text [64]byte
	return xxhash.Sum64(addr.Unmap().AppendTo(text[:0])), true
}
