package auth

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// Keys knows whose a key is.
type Keys interface {
	// Caller returns the name of the consumer who has key.
	Caller(key string) (name string, ok bool)
}

// New makes the layer of authenticate "api_key": it fills Exchange.Consumer, or
// answers 401. The realm is shown to clients, it is the API's name.
func New(c Config, realm string, keys Keys) wire.Layer {
	k := &apiKey{
		header: strings.ToLower(c.Header), query: c.Query, forward: c.ForwardKey, keys: keys,
		challenge: []wire.Field{{Name: "www-authenticate", Value: `Key realm="` + quotable(realm) + `"`}},
	}
	if k.header == "" {
		k.header = DefaultHeader
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if err := k.authenticate(x, req); err != nil {
				return nil, err
			}
			return next.Serve(x, req)
		})
	}
}

// apiKey is authenticate "api_key".
type apiKey struct {
	header, query string
	forward       bool
	keys          Keys
	challenge     []wire.Field
}

// authenticate takes the key out of the request and finds its consumer. One key
// is looked at: a request with several is refused, since an upstream might take
// another one of them.
func (k *apiKey) authenticate(x *wire.Exchange, req *wire.Request) error {
	key, count := "", 0
	for value := range req.Header.Values(k.header) {
		key = value
		count++
	}
	if k.query != "" {
		value, rest, n := cutQuery(req.Path, k.query)
		if n > 0 {
			key = value
			count += n
		}
		if n > 0 && !k.forward {
			req.Path = rest
		}
	}
	if !k.forward {
		req.Header.Del(k.header)
	}
	switch {
	case key == "" || count == 0:
		return k.refuse("an API key is needed: send it in the header " + k.header)
	case count > 1:
		return k.refuse("send one API key, not several")
	}
	name, ok := k.keys.Caller(key)
	if !ok {
		return k.refuse("this API key is not known")
	}
	x.Consumer = name
	return nil
}

func (k *apiKey) refuse(text string) error {
	return &wire.Fault{Status: http.StatusUnauthorized, Flag: wire.FlagUnauthenticated, Text: text, Header: k.challenge}
}

// Allow lets the named consumers through and answers 403 to all others. With no
// names it is nil, which lets everybody through.
func Allow(names []string) wire.Layer {
	if len(names) == 0 {
		return nil
	}
	allowed := make(map[string]bool, len(names))
	for _, name := range names {
		allowed[name] = true
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if x.Consumer == "" || !allowed[x.Consumer] {
				return nil, &wire.Fault{
					Status: http.StatusForbidden, Flag: wire.FlagDenied, Text: "this consumer may not call this API",
				}
			}
			return next.Serve(x, req)
		})
	}
}

// cutQuery takes all parameters of that name out of a path's query. It returns
// the value of the last, percent-decoded, and how many there were.
func cutQuery(path, name string) (value, rest string, count int) {
	head, query, ok := strings.Cut(path, "?")
	if !ok || !mayHave(query, name) {
		return "", path, 0
	}
	var kept []string
	for one := range strings.SplitSeq(query, "&") {
		key, raw, _ := strings.Cut(one, "=")
		if unescape(key) != name {
			kept = append(kept, one)
			continue
		}
		value = unescape(raw)
		count++
	}
	if len(kept) > 0 {
		head += "?" + strings.Join(kept, "&")
	}
	return value, head, count
}

// mayHave is a quick no for most queries.
func mayHave(query, name string) bool {
	return strings.Contains(query, name) || strings.ContainsAny(query, "%+")
}

// unescape decodes a query component; what is malformed stays as it is.
func unescape(text string) string {
	if !strings.ContainsAny(text, "%+") {
		return text
	}
	if out, err := url.QueryUnescape(text); err == nil {
		return out
	}
	return text
}

// quotable makes text fit between quotes in a header field.
func quotable(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || r == '"' || r == '\\' {
			return '_'
		}
		return r
	}, text)
}
