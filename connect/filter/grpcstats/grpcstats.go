// Package grpcstats is the grpc_stats filter: it counts calls of gRPC and their
// messages by service and method, under Envoy's names.
//
//	cluster.<cluster>.grpc.<service>.<method>.{success,failure,total,<status>}
//	                                         .{request,response}_message_count
//	                                         .upstream_rq_time
package grpcstats

import (
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// maxMethods bounds the names that one filter makes of what clients ask for, maxAll
// those of all filters that there ever were; what is over it is counted without names.
// (Envoy has no bound.)
const maxMethods, maxAll = 500, 2000

// maxStatus is the largest status of gRPC.
const maxStatus = 16

// filter is a compiled [mesh.GRPCStats].
type filter struct {
	config   *mesh.GRPCStats
	methods  map[string]bool
	registry *stats.Registry
	route    func(x *wire.Exchange, req *wire.Request) (cluster string)
	table    *table
	made     atomic.Int64 // names that are this filter's
}

// table is what all filters of a registry count, also those that are gone: what is
// configured anew has names for what had them before.
type table struct {
	known atomic.Pointer[map[key]*method] // never changed, but replaced
	mu    sync.Mutex                      // guards: who replaces known
}

// key is a method on a cluster; without a path it is all of them. plain and timed are
// what is configured of names.
type key struct {
	cluster, path string
	plain, timed  bool
}

// method is what is counted of one.
type method struct {
	scope                     *stats.Scope
	success, failure, total   *stats.Counter
	zero, requests, responses *stats.Counter
	upstream                  *stats.Histogram
}

// Layer counts into registry. route tells which cluster a request would go to that
// never got so far, "" if none.
func Layer(config *mesh.GRPCStats, registry *stats.Registry, route func(*wire.Exchange, *wire.Request) string) wire.Layer {
	f := &filter{config: config, methods: map[string]bool{}, registry: registry, route: route}
	for _, name := range config.Methods {
		f.methods[name] = true
	}
	f.table = stats.Own(registry.Scope("grpc_stats."), func(*table, func(stats.Stat) bool) {})
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if !wire.IsGRPC(&req.Header) {
				return next.Serve(x, req)
			}
			name, ok := nameOf(req.PathOnly())
			if !ok {
				return next.Serve(x, req)
			}
			return f.serve(x, req, next, &call{filter: f, name: name})
		})
	}
}

// nameOf reads /service/method.
func nameOf(path string) (name string, ok bool) {
	name = strings.Trim(path, "/")
	service, method, ok := strings.Cut(name, "/")
	return name, ok && service != "" && method != "" && !strings.Contains(method, "/")
}

func (f *filter) serve(x *wire.Exchange, req *wire.Request, next wire.Service, c *call) (*wire.Response, error) {
	if req.Body != nil {
		c.request.inner = req.Body
		req.Body = &c.request
	}
	x.OnEnd(c)
	resp, err := next.Serve(x, req)
	switch {
	case err != nil:
		c.status = statusOf(err)
	default:
		c.status = resp.Header.Get("grpc-status")
		if resp.Body != nil {
			c.response.inner = resp.Body
			resp.Body = &c.response
		}
	}
	if len(x.Attempts) == 0 {
		c.cluster = f.route(x, req)
	}
	return resp, err
}

// find finds or makes what is counted of a method.
func (f *filter) find(cluster, path string) *method {
	if !f.config.AllMethods && !f.methods[path] {
		path = ""
	}
	k := key{cluster, path, f.config.PlainServices, f.config.UpstreamTime}
	if m := f.table.find(k); m != nil {
		return m
	}
	t := f.table
	t.mu.Lock()
	defer t.mu.Unlock()
	var known map[key]*method
	if now := t.known.Load(); now != nil {
		known = *now
	}
	if len(known) >= maxAll || path != "" && f.made.Add(1) > maxMethods {
		k.path = ""
	}
	if m := known[k]; m != nil {
		return m
	}
	k.cluster, k.path = strings.Clone(k.cluster), strings.Clone(k.path)
	next := make(map[key]*method, len(known)+1)
	maps.Copy(next, known)
	next[k] = f.build(k)
	t.known.Store(&next)
	return next[k]
}

func (t *table) find(k key) *method {
	if known := t.known.Load(); known != nil {
		return (*known)[k]
	}
	return nil
}

func (f *filter) build(k key) *method {
	prefix := "cluster." + k.cluster + ".grpc."
	if service, name, ok := strings.Cut(k.path, "/"); ok {
		if f.config.PlainServices {
			service = strings.ReplaceAll(service, ".", "_")
		}
		prefix += service + "." + name + "."
	}
	scope := f.registry.Scope(prefix)
	m := &method{
		scope: scope, success: scope.Counter("success"), failure: scope.Counter("failure"), total: scope.Counter("total"),
		zero: scope.Counter("0"), requests: scope.Counter("request_message_count"), responses: scope.Counter("response_message_count"),
	}
	if f.config.UpstreamTime {
		m.upstream = scope.Histogram("upstream_rq_time")
	}
	return m
}

// count counts a call that has ended with a status.
func (m *method) count(status string, requests, responses int64, upstream time.Duration) {
	m.requests.Add(requests)
	m.responses.Add(responses)
	switch status {
	case "":
		return // it had none: the stream was reset
	case "0":
		m.zero.Add(1)
		m.success.Add(1)
	default:
		if n, err := strconv.ParseUint(status, 10, 8); err != nil || n > maxStatus || status != strconv.FormatUint(n, 10) {
			status = "2" // none of gRPC's; a name is not made of it
		}
		m.scope.Counter(status).Add(1)
		m.failure.Add(1)
	}
	m.total.Add(1)
	if m.upstream != nil && upstream > 0 {
		m.upstream.Observe(upstream)
	}
}
