package edge

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

// validate checks one route of API a.
func (r *Route) validate(p *problems, a *API) {
	who := fmt.Sprintf("route %q of api %q", r.Name, a.Name)
	r.validatePath(p, who)
	if r.Connect && (r.Path+r.PathPrefix+r.PathRegex != "" || len(r.Methods) > 0 || r.GRPCWeb || strings.Trim(a.BasePath, "/") != "") {
		p.add(r.Pos.At("connect"), "%s: connect goes without path, path_prefix, path_regex, methods, grpc_web and the API's base_path: "+
			"CONNECT names a host and a port only", who)
	}
	for _, method := range r.Methods {
		if method != strings.ToUpper(method) || !httpguts.ValidHeaderFieldName(method) {
			p.add(r.Pos.At("methods"), "%s: method %q is not known; methods are upper-case, such as \"GET\"", who, method)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Headers)) {
		if !httpguts.ValidHeaderFieldName(name) {
			p.add(r.Pos.At("headers"), "%s: %q is no header name; write for example \"x-version\"", who, name)
		}
	}
	r.RequestHeaders.validate(p, "request_headers of "+who)
	r.ResponseHeaders.validate(p, "response_headers of "+who)
	if r.Upstream == nil {
		p.add(r.Pos.At(""), `%s: no upstream; add upstream { service = "..." }`, who)
	} else {
		r.Upstream.validate(p, "upstream of "+who)
	}
}

func (r *Route) validatePath(p *problems, who string) {
	kinds := 0
	for _, one := range []struct{ name, value, problem string }{
		{"path", r.Path, checkPath(r.Path)},
		{"path_prefix", r.PathPrefix, checkPath(r.PathPrefix)},
		{"path_regex", r.PathRegex, checkRegex(r.PathRegex)},
		{"rewrite_prefix", r.RewritePrefix, checkPath(r.RewritePrefix)},
	} {
		if one.problem != "" {
			p.add(r.Pos.At(one.name), "%s: %s is %q, which %s", who, one.name, one.value, one.problem)
		}
		if one.value != "" && one.name != "rewrite_prefix" {
			kinds++
		}
	}
	switch {
	case kinds > 1:
		p.add(r.Pos.At(""), "%s: more than one of path, path_prefix and path_regex; keep one, or write several routes", who)
	case r.StripPrefix && r.PathPrefix == "":
		p.add(r.Pos.At("strip_prefix"), "%s: strip_prefix needs path_prefix, which says what is cut off", who)
	case r.RewritePrefix != "" && r.PathPrefix == "":
		p.add(r.Pos.At("rewrite_prefix"), "%s: rewrite_prefix needs path_prefix, which says what is replaced", who)
	case r.RewritePrefix != "" && r.StripPrefix:
		p.add(r.Pos.At("rewrite_prefix"), "%s: both strip_prefix and rewrite_prefix; keep one", who)
	}
}

// validate checks where a route goes.
func (u *Upstream) validate(p *problems, who string) {
	var kinds []string
	if u.Service != "" {
		kinds = append(kinds, "service")
	}
	if u.Catalog != "" {
		kinds = append(kinds, "catalog")
	}
	if len(u.Addresses) > 0 {
		kinds = append(kinds, "addresses")
	}
	switch len(kinds) {
	case 0:
		p.add(u.Pos.At(""), `%s: nowhere to go; add one of service = "...", catalog = "..." and addresses = ["host:port"]`, who)
	case 1:
	default:
		p.add(u.Pos.At(kinds[1]), "%s: both %s; keep one", who, strings.Join(kinds, " and "))
	}
	for _, one := range []struct{ argument, name string }{
		{"service", u.Service}, {"catalog", u.Catalog}, {"datacenter", u.Datacenter},
	} {
		if one.name != "" && !isServiceName(one.name) {
			p.add(u.Pos.At(one.argument), "%s: %s is %q; a name in Consul has letters, digits, \"-\", \"_\" and \".\"",
				who, one.argument, one.name)
		}
	}
	if u.Tag != "" && u.Catalog == "" {
		p.add(u.Pos.At("tag"), "%s: tag goes with catalog; for a service of the mesh, Consul's service-resolver has subsets", who)
	}
	if u.Datacenter != "" && len(u.Addresses) > 0 {
		p.add(u.Pos.At("datacenter"), "%s: datacenter goes with service or catalog, not with addresses", who)
	}
	if u.ConnectTimeout != 0 && u.Service != "" {
		p.add(u.Pos.At("connect_timeout"), "%s: connect_timeout of a mesh service is set in Consul's service-resolver", who)
	}
	u.validateProtocol(p, who)
	u.validateProxyProtocol(p, who)
	u.validateSettings(p, who)
	sockets, names := 0, 0
	for _, text := range u.Addresses {
		address, name, problem := parseAddress(text)
		if problem != "" {
			p.add(u.Pos.At("addresses"), "%s: address %q %s", who, text, problem)
		}
		if address.Socket != "" {
			sockets++
		}
		if name != "" {
			names++
		}
	}
	if sockets > 0 && names > 0 {
		p.add(u.Pos.At("addresses"), "%s: unix sockets and host names in one list; make two routes", who)
	}
}

func (u *Upstream) validateProtocol(p *problems, who string) {
	switch {
	case u.Protocol == "":
	case u.Service != "":
		p.add(u.Pos.At("protocol"), "%s: protocol of a mesh service is set in Consul's service-defaults", who)
	case u.Protocol != protocolHTTP && u.Protocol != protocolHTTP2:
		p.add(u.Pos.At("protocol"), "%s: protocol is %q; write %q or %q", who, u.Protocol, protocolHTTP, protocolHTTP2)
	}
}

func (u *Upstream) validateProxyProtocol(p *problems, who string) {
	_, known := proxyProtocols()[u.ProxyProtocol]
	switch {
	case !known:
		p.add(u.Pos.At("proxy_protocol"), "%s: proxy_protocol is %q; write \"v1\" or \"v2\"", who, u.ProxyProtocol)
	case u.ProxyProtocol == "":
	case u.Service != "":
		p.add(u.Pos.At("proxy_protocol"), "%s: proxy_protocol goes with catalog or addresses; a mesh service knows its callers by mTLS", who)
	case u.Protocol == protocolHTTP2:
		p.add(u.Pos.At("proxy_protocol"), "%s: proxy_protocol is of one client, and connections of HTTP/2 are shared; leave one of the two out", who)
	}
}

// validate checks a change of header fields; h may be nil.
func (h *HeaderEdit) validate(p *problems, who string) {
	if h == nil {
		return
	}
	check := func(argument, name string) {
		switch {
		case !httpguts.ValidHeaderFieldName(name):
			p.add(h.Pos.At(argument), "%s: %q is no header name; write for example \"x-version\"", who, name)
		case isHopByHop(strings.ToLower(name)):
			p.add(h.Pos.At(argument), "%s: %q belongs to the connection and cannot be changed", who, name)
		case hasIdentityPrefix(strings.ToLower(name)):
			p.add(h.Pos.At(argument), "%s: %q is set by the edge itself, upstreams trust it", who, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(h.Set)) {
		check("set", name)
		if strings.ContainsAny(h.Set[name], "\r\n\x00") {
			p.add(h.Pos.At("set"), "%s: the value of %q has a line break", who, name)
		}
	}
	for _, name := range h.Remove {
		check("remove", name)
	}
}

// isHopByHop finds the fields that codecs keep for themselves, and host.
func isHopByHop(name string) bool {
	switch name {
	case "connection", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade", "content-length", "host", "trailer":
		return true
	default:
		return false
	}
}
