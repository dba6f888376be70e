package extauthz

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// verdict is what a service has decided.
type verdict struct {
	allowed bool

	// of a consent: fields that the request gets (set replaces, add adds, join adds
	// to one that is there) and loses, and what becomes of its query
	set, add, join []wire.Field
	remove         []string
	querySet       []wire.Field
	queryRemove    []string
	response       []mesh.HeaderValue
	metadata       map[string]any
	// of a denial
	status int
	body   []byte
	denial []wire.Field
}

// changes tells whether the request is changed.
func (v *verdict) changes() bool {
	return len(v.set)+len(v.add)+len(v.join)+len(v.remove)+len(v.querySet)+len(v.queryRemove) > 0
}

// apply changes the request. An error means that the verdict asks for what must
// not be sent; the request is not to be used any more then.
func (v *verdict) apply(req *wire.Request) error {
	for _, f := range v.set {
		if err := req.Put(f.Name, f.Value); err != nil {
			return err
		}
	}
	for _, f := range v.add {
		if err := wire.CheckField(f.Name, f.Value); err != nil {
			return err
		}
		req.Header.Add(f.Name, f.Value)
	}
	for _, f := range v.join {
		if err := wire.CheckField(f.Name, f.Value); err != nil {
			return err
		}
		if req.Header.Has(f.Name) {
			req.Header.Add(f.Name, f.Value)
		}
	}
	for _, name := range v.remove {
		if name = strings.ToLower(name); !strings.HasPrefix(name, ":") && name != "host" {
			req.Header.Del(name)
		}
	}
	if len(v.querySet)+len(v.queryRemove) > 0 {
		if err := req.Put(":path", v.query(req.PathOnly(), req.Query())); err != nil {
			return err
		}
	}
	for i := range v.response {
		if err := wire.CheckField(v.response[i].Name, v.response[i].Value); err != nil {
			return err
		}
	}
	return nil
}

// query is path with a query in which parameters were removed and set. What is
// not changed stays as it was written.
func (v *verdict) query(path, query string) string {
	var kept []string
	if query != "" {
		kept = strings.Split(query, "&")
	}
	drop := func(name string) {
		kept = slices.DeleteFunc(kept, func(pair string) bool {
			key, _, _ := strings.Cut(pair, "=")
			if plain, err := url.QueryUnescape(key); err == nil {
				key = plain
			}
			return key == name
		})
	}
	for _, name := range v.queryRemove {
		drop(name)
	}
	for _, p := range v.querySet {
		drop(p.Name)
		kept = append(kept, url.QueryEscape(p.Name)+"="+url.QueryEscape(p.Value))
	}
	if len(kept) == 0 {
		return path
	}
	return path + "?" + strings.Join(kept, "&")
}

// answer adds what the verdict has for the client to the response, also to one
// that another layer makes.
func (v *verdict) answer(x *wire.Exchange, resp *wire.Response, err error) (*wire.Response, error) {
	if len(v.response) == 0 || x.Gone() {
		return resp, err
	}
	if err != nil {
		resp = wire.Reply(x, err)
	}
	for i := range v.response {
		edit(&resp.Header, &v.response[i])
	}
	return resp, nil
}

func edit(h *wire.Header, e *mesh.HeaderValue) {
	switch has := h.Has(e.Name); e.Append {
	case mesh.AppendOrAdd:
		h.Add(e.Name, e.Value)
	case mesh.AddIfAbsent:
		if !has {
			h.Add(e.Name, e.Value)
		}
	case mesh.OverwriteOrAdd:
		h.Set(e.Name, e.Value)
	case mesh.OverwriteIfExists:
		if has {
			h.Set(e.Name, e.Value)
		}
	}
}

func checkAll(fields []wire.Field) error {
	for _, f := range fields {
		if err := wire.CheckField(f.Name, f.Value); err != nil {
			return err
		}
	}
	return nil
}

// What exchanges tell of answers of the filter (RESPONSE_CODE_DETAILS).
const (
	detailsDenied = "ext_authz_denied"
	detailsError  = "ext_authz_error"
)

// reply is a denial as the client sees it. What the service says of its body replaces
// what we would.
func reply(x *wire.Exchange, details string, status int, body []byte, fields []wire.Field) (*wire.Response, error) {
	if status < http.StatusOK || status > 599 {
		return nil, &wire.Fault{
			Status: http.StatusForbidden, Flag: wire.FlagDenied, Err: fmt.Errorf("ext_authz: status %d", status),
		}
	}
	x.Flag, x.Details = wire.FlagDenied, details
	return wire.Answer(x, status, string(body), func(h *wire.Header) { h.Replace(fields) }), nil
}
