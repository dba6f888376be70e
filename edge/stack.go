package edge

import (
	"net/http"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/consumer"
)

// stack is the whole way of a request through the edge, top to bottom as it
// meets it. What stands below the router is of one route and compiled for it. It
// returns a service for each listener.
func (g *Gateway) stack(c *Config, table *routes, consumers *consumer.Store, used *pluginUses) map[string]wire.Service {
	services := map[string]wire.Service{}
	for name, hosts := range table.listeners {
		services[name] = wire.Stack(router(hosts), // API and route, else 404
			on(name),
			g.observe(c, name),          // how it ends is seen, whatever happens below
			normalize,                   // the one form of the path, on which all decisions are made
			forwarded(c.TrustedProxies), // who the client is; nothing that a client makes up
		)
	}
	shared := map[policy]wire.Service{}
	for _, r := range table.all {
		p, alone := policyOf(r)
		if r.service = shared[p]; alone && r.service != nil {
			continue
		}
		r.service = wire.Stack(g.upstream(r),
			grpcWeb(r), // outermost, so that all errors below are told in its terms
			idle(r.config.IdleTimeout),
			timeout(r.config.timeout()),        // until the end of the response, with all that follows
			g.authenticate(r, used, consumers), // who calls, else 401
			auth.Allow(r.api.AllowConsumers),   // and may, else 403
			identify(r, consumers),             // which the upstream is told
			transform(r),                       // path and header as the upstream wants them
			g.transformPlugins(r, used),        // or as plugins do
		)
		if alone {
			shared[p] = r.service
		}
	}
	return services
}

// observe counts and logs the exchanges of a listener.
func (g *Gateway) observe(c *Config, listener string) wire.Layer {
	return g.observer.HTTP(telemetry.Place{Direction: telemetry.Edge, Service: c.ServiceName(), Listener: listener})
}

// upstream is where a route goes.
func (g *Gateway) upstream(r *route) wire.Service {
	u := r.config.Upstream
	service := meshService{u.Service, u.Datacenter}
	switch {
	case u.Service != "" && r.config.Connect:
		return g.mesh.tunnel(service)
	case u.Service != "":
		return g.mesh.service(service)
	case r.config.Connect:
		return stack.Connect(func() (*upstream.Cluster, error) { return findCluster(g.plain, u.clusterName()) })
	}
	return stack.Forward(g.plain, u.clusterName(), u.hashPolicies(), u.Retry.policy())
}

// on notes the listener.
func on(listener string) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.Listener = listener
			return next.Serve(x, req)
		})
	}
}

// normalize puts the path into its normal form, which is also what is sent
// upstream: the bytes decided on are the bytes forwarded.
func normalize(next wire.Service) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if req.Method == http.MethodConnect { // it has none
			return next.Serve(x, req)
		}
		path, err := NormalizePath(req.Path)
		if err != nil {
			return nil, &wire.Fault{Status: http.StatusBadRequest, Flag: wire.FlagDownstreamProtocol, Text: err.Error()}
		}
		req.Path = path
		return next.Serve(x, req)
	})
}

// router finds the route and hands over to it.
func router(table *hostTable) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		r := table.find(req)
		if r == nil && req.Method == http.MethodConnect {
			return nil, &wire.Fault{Status: http.StatusMethodNotAllowed, Flag: wire.FlagNoRoute, Text: "CONNECT is not allowed here", Close: true}
		}
		if r == nil {
			return nil, &wire.Fault{Status: http.StatusNotFound, Flag: wire.FlagNoRoute, Text: "no route for this host, path and method"}
		}
		x.API, x.Route, x.Counted = r.api.Name, r.name, &r.counted
		return r.service.Serve(x, req)
	})
}

// authenticate is nil for an open API.
func (g *Gateway) authenticate(r *route, used *pluginUses, consumers *consumer.Store) wire.Layer {
	switch c := r.api.Authenticate; {
	case c == nil:
		return nil
	case c.Kind == auth.KindPlugin:
		return g.authenticatePlugin(r, used, consumers)
	default:
		return auth.New(*c, r.api.Name, consumers)
	}
}

// identify tells the upstream which consumer calls; nil for an open API, which
// knows none. What the client sent under these names is gone by now (see
// forwarded).
func identify(r *route, consumers *consumer.Store) wire.Layer {
	if r.api.Authenticate == nil {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if caller := consumers.ByName(x.Consumer); caller != nil {
				req.Header.Add(consumerHeader, caller.Name)
				if caller.Plan != "" {
					req.Header.Add(planHeader, caller.Plan)
				}
			}
			return next.Serve(x, req)
		})
	}
}

// idle says how long an exchange may pause, if the route does.
func idle(limit *time.Duration) wire.Layer {
	if limit == nil {
		return nil
	}
	pause := *limit
	if pause <= 0 {
		pause = -1
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.IdleTimeout = pause
			return next.Serve(x, req)
		})
	}
}

// grpcWeb is nil for a route that does not take it.
func grpcWeb(r *route) wire.Layer {
	if !r.config.GRPCWeb {
		return nil
	}
	return stack.GRPCWeb
}

// timeout bounds the rest of the exchange; 0 is no bound. A connection that is
// switched to another protocol has none.
func timeout(limit time.Duration) wire.Layer {
	if limit <= 0 {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if !req.Raw() {
				x.Deadline, x.Timeout = x.Received().Add(limit), limit
			}
			return next.Serve(x, req)
		})
	}
}
