package stack

import (
	"cmp"
	"errors"
	"net/http"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// HTTP compiles an HTTP filter chain. routes are those that it may name;
// clusters are looked up for each request, so a change of clusters needs no
// new compilation. A chain without its route serves 503 until it comes.
//
// What it cannot compile is an error: the caller refuses the chain.
func HTTP(h *mesh.HTTP, routes map[string]*mesh.Route, clusters *upstream.Set) (wire.Service, error) {
	return HTTPAt(h, routes, clusters, Place{})
}

// HTTPAt is HTTP for a chain whose filters ask where they stand.
func HTTPAt(h *mesh.HTTP, routes map[string]*mesh.Route, clusters *upstream.Set, place Place) (wire.Service, error) {
	table := h.Route
	if table == nil {
		table = routes[h.RouteName]
	}
	router, err := newRouter(table, h, clusters)
	if err != nil {
		return nil, err
	}
	place.router, place.clusters, place.scope = router, clusters, clusters.Registry().Scope("http."+stats.Name(h.StatPrefix)+".")
	filters, err := compileFilters(h.Filters, &place)
	if err != nil {
		return nil, err
	}
	return wire.Stack(router, arrange(front(h, router, place.Started), filters)...), nil
}

// front is what stands before the filters, in the order in which a request meets it.
// The path is made normal before any decision, since the bytes decided on are the
// bytes forwarded.
func front(h *mesh.HTTP, r *router, started func(x *wire.Exchange)) wire.Layer {
	most := h.MaxStreamDuration
	if r.durations {
		most = 0 // the router sees to it
	}
	return inOrder(
		maxDuration(most),
		maxRequests(h.MaxRequests),
		defaultHost(h.DefaultHost),
		stripPort(h),
		stripDot(h.StripDot),
		underscores(h),
		normalize(h),
		clientCert(h.ClientCert),
		r.started(started),
		r.finalizing(),
	)
}

// refuse answers 503 to everything (fail closed).
func refuse(reason string) wire.Layer {
	err := errors.New(reason)
	return func(wire.Service) wire.Service {
		return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return nil, &wire.Fault{
				Status: http.StatusServiceUnavailable, Flag: wire.FlagInternal,
				Text: "configuration not understood by this proxy", Err: err,
			}
		})
	}
}

// deniedBy is what Envoy tells of a request, or connection, that the policy of that
// name denies; "" is none, if there was no policy that would have let it through.
func deniedBy(name string) string {
	return "rbac_access_denied_matched_policy[" + cmp.Or(name, "none") + "]"
}

// underscores refuses or drops field names that some servers confuse with
// others (headers_with_underscores_action).
func underscores(h *mesh.HTTP) wire.Layer {
	if !h.RejectUnderscores && !h.DropUnderscores {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			found := false
			for name := range req.Header.All() {
				found = found || strings.Contains(name, "_")
			}
			if found && h.RejectUnderscores {
				return nil, &wire.Fault{Status: http.StatusBadRequest, Flag: wire.FlagDownstreamProtocol, Text: "a header name has an underscore", Details: "unexpected_underscore"}
			}
			if found {
				req.Header.DelFunc(func(name, _ string) bool { return strings.Contains(name, "_") })
			}
			return next.Serve(x, req)
		})
	}
}

// defaultHost gives requests of HTTP/1.0 an authority that have none.
func defaultHost(host string) wire.Layer {
	if host == "" {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if req.Authority == "" && req.Proto == 1 && req.Minor == 0 {
				req.Authority, x.Authority = host, host
			}
			return next.Serve(x, req)
		})
	}
}

// clientCert keeps x-forwarded-client-cert honest (forward_client_cert_details).
func clientCert(f mesh.ForwardClientCert) wire.Layer {
	if f.Mode == mesh.ForwardAlways {
		return nil
	}
	elements := newElements(f)
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			forwardCert(elements, x.Peer, &req.Header)
			return next.Serve(x, req)
		})
	}
}

// Connection lets requests through on connections that network intentions
// allow; nil if there are none.
func Connection(policy *rbac.Policy) wire.Layer {
	if policy == nil {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if allowed, name := policy.Decide(rbac.Input{Peer: x.Peer}); !allowed {
				x.Termination = deniedBy(name)
				return nil, &wire.Fault{Status: http.StatusForbidden, Flag: wire.FlagDenied, Text: "RBAC: access denied", Close: true}
			}
			return next.Serve(x, req)
		})
	}
}
