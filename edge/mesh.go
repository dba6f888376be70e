package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// meshServices are the services of the mesh as Consul describes them to us: the
// xDS stage of the edge. For each upstream in the edge's registration Consul
// sends an outbound listener. None is ever bound: it is recognised by the path
// of its socket, and its HTTP chain, with the routes that Consul's routers and
// splitters make, becomes a service.
type meshServices struct {
	clusters *upstream.Set
	log      *slog.Logger

	// services by socket path; nil before the first snapshot.
	services atomic.Pointer[map[string]wire.Service]
	// certified has our certificates for the mesh, by cluster.
	certified atomic.Pointer[map[string]*mesh.Cluster]
}

// socketFolder begins the socket paths of the edge's upstreams.
const socketFolder = "serai-edge/"

func newMeshServices(clusters *upstream.Set, log *slog.Logger) *meshServices {
	return &meshServices{clusters: clusters, log: log}
}

// Prepare implements xds.Stage. A service that cannot be compiled refuses its
// requests and does not fail the others.
func (m *meshServices) Prepare(next *mesh.Snapshot) (commit func(), err error) {
	commitClusters, err := m.clusters.Prepare(next.Clusters)
	if err != nil {
		return nil, fmt.Errorf("clusters of the mesh: %w", err)
	}
	services := map[string]wire.Service{}
	for _, l := range next.Listeners {
		path := l.Address.Socket
		if !strings.HasPrefix(path, socketFolder) {
			continue // the edge's own public listener, which is not bound either
		}
		service, err := m.compile(l, next.Routes)
		if err != nil {
			m.log.Error("mesh service refused", "listener", l.Name, "err", err)
			service = refusing(err)
		}
		services[path] = service
	}
	return func() {
		commitClusters()
		m.services.Store(&services)
		m.certified.Store(&next.Clusters)
	}, nil
}

// compile makes a service of an outbound listener.
func (m *meshServices) compile(l *mesh.Listener, routes map[string]*mesh.Route) (wire.Service, error) {
	chain := l.Default
	if len(l.Chains) > 0 {
		chain = l.Chains[0]
	}
	switch {
	case l.Refusal != "":
		return nil, errors.New(l.Refusal)
	case chain == nil:
		return nil, errors.New("the listener has no filter chain")
	case chain.Refusal != "":
		return nil, errors.New(chain.Refusal)
	case len(chain.Intentions) > 0:
		return nil, errors.New("the listener has intentions, which an outbound one has not")
	case chain.HTTP != nil:
		h := *chain.HTTP
		h.Conduct.Suppress = true // a gateway is no Envoy to its clients
		service, err := stack.HTTP(&h, routes, m.clusters)
		if err != nil {
			return nil, fmt.Errorf("http chain: %w", err)
		}
		return service, nil
	case chain.TCP != nil && len(chain.TCP.Targets) > 0:
		return &tcpTargets{clusters: m.clusters, targets: chain.TCP.Targets}, nil
	default:
		return nil, errors.New("the filter chain has no end")
	}
}

// ready tells whether a first snapshot has come.
func (m *meshServices) ready() bool { return m.services.Load() != nil }

// service is s as a [wire.Service], whatever Consul says of it at the time.
func (m *meshServices) service(s meshService) wire.Service {
	path := s.socketPath()
	missing := &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Text: "this service is not available yet",
		Err: fmt.Errorf("service %s is not in the mesh yet: Consul has sent no listener for it", s),
	}
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if services := m.services.Load(); services != nil {
			if service := (*services)[path]; service != nil {
				return service.Serve(x, req)
			}
		}
		return nil, missing
	})
}

// tunnel is s as what answers CONNECT. Only a service of protocol tcp takes raw bytes.
func (m *meshServices) tunnel(s meshService) wire.Service {
	path := s.socketPath()
	return stack.Connect(func() (*upstream.Cluster, error) {
		var service wire.Service
		if services := m.services.Load(); services != nil {
			service = (*services)[path]
		}
		switch t := service.(type) {
		case *tcpTargets:
			return findCluster(t.clusters, t.target().Cluster)
		case nil:
			return nil, &wire.Fault{
				Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Text: "this service is not available yet",
				Err: fmt.Errorf("service %s is not in the mesh yet: Consul has sent no listener for it", s),
			}
		default:
			return nil, &wire.Fault{
				Status: http.StatusBadGateway, Flag: wire.FlagNoCluster, Text: "this service takes no tunnels",
				Err: fmt.Errorf("service %s is not of protocol tcp", s),
			}
		}
	})
}

// refusing answers 503 to everything.
func refusing(reason error) wire.Service {
	return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return nil, &wire.Fault{
			Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Text: "this service is not available", Err: reason,
		}
	})
}

// tcpTargets are the clusters of a service whose protocol is tcp in Consul. We
// speak HTTP to it all the same: that is what the route's author says it speaks.
type tcpTargets struct {
	clusters *upstream.Set
	targets  []mesh.Target
}

// Serve implements [wire.Service].
func (t *tcpTargets) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	return clusterNamed(t.clusters, t.target().Cluster).Serve(x, req)
}

func (t *tcpTargets) target() *mesh.Target {
	if target := mesh.Choose(t.targets); target != nil {
		return target
	}
	return &t.targets[0] // all weights are zero
}

// clusterNamed is the cluster of that name at the time of each request.
func clusterNamed(clusters *upstream.Set, name string) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		cluster, err := findCluster(clusters, name)
		if err != nil {
			x.Cluster = name
			return nil, err
		}
		return cluster.Serve(x, req)
	})
}

// findCluster returns the cluster of that name.
func findCluster(clusters *upstream.Set, name string) (*upstream.Cluster, error) {
	if cluster := clusters.Cluster(name); cluster != nil {
		return cluster, nil
	}
	return nil, &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Text: "this service is not available",
		Err: fmt.Errorf("cluster %q is not known", name),
	}
}
