package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/consumer"
	"github.com/serai-net/serai/plugins/host"
)

// Deps are what a Gateway works with.
type Deps struct {
	// Log is told what the operator should know; never nil.
	Log *slog.Logger
	// Stdout gets access log lines whose path is "-".
	Stdout io.Writer
	// Metrics count exchanges, and show what the edge counts; nil means that
	// nobody reads them.
	Metrics *telemetry.Metrics
	// Consul is asked and told about services; nil only if no route needs it,
	// now and after reloads.
	Consul *api.Client
	// Mesh follows Consul's xDS for a proxy; nil only if no route goes to a
	// mesh service. It returns when ctx ends, or if it could not begin.
	Mesh MeshWatcher
}

// MeshWatcher keeps stage and endpoints up to date with what Consul says to the
// proxy of that service ID, until ctx ends.
type MeshWatcher func(ctx context.Context, proxyID string, endpoints *upstream.Set, stage Stage) error

// Stage is an xds.Stage: it prepares for a snapshot, and commit puts it in
// force.
type Stage interface {
	Prepare(next *mesh.Snapshot) (commit func(), err error)
}

// Gateway is the edge. It is made by New, served by Run, and changed by Reload.
type Gateway struct {
	// set by New
	log       *slog.Logger
	consul    *api.Client
	watch     MeshWatcher
	accessLog *telemetry.AccessLog
	observer  *telemetry.Observer
	listeners *listen.Set
	// plain has the clusters of addresses and catalog services, mesh those of
	// mesh services, as Consul describes them.
	plain   *upstream.Set
	mesh    *meshServices
	catalog *catalog.Watcher
	member  *member
	plugins *host.Set
	// extensions has an *extension.Counters for each plugin there has been.
	extensions sync.Map

	draining atomic.Bool
	serving  atomic.Bool

	reloading sync.Mutex // held during a reload; before mu

	mu sync.Mutex // guards:
	// fronts by the listener's name, current is the configuration in force.
	fronts  map[string]*front
	current *Config
}

// New makes a Gateway. All of c is checked, certificates are read, the access log
// is opened and plugins are started, but no address is bound before Run. A
// Gateway that is not run must be closed.
func New(c Config, d Deps) (*Gateway, error) {
	g := &Gateway{log: d.Log, consul: d.Consul, watch: d.Mesh, fronts: map[string]*front{}}
	g.accessLog = telemetry.NewAccessLog(d.Stdout, d.Log)
	if d.Metrics == nil {
		d.Metrics = telemetry.NewMetrics(nil)
	}
	g.observer = telemetry.NewObserver(d.Metrics, g.accessLog)
	g.listeners = listen.NewSet(listen.Config{Strict: true}, d.Log)
	g.plain = upstream.NewSet(d.Log)
	g.mesh = newMeshServices(upstream.NewSet(d.Log), d.Log)
	g.catalog = catalog.NewWatcher(d.Consul, g.plain, d.Log)
	g.member = newMember(d.Consul, d.Log)
	g.plugins = host.NewSet(d.Log)
	next, err := g.prepare(&c)
	if err != nil {
		g.Close()
		return nil, err
	}
	next.commit()
	d.Metrics.Add(g.samples())
	return g, nil
}

// Close ends the processes of plugins. Run does it itself.
func (g *Gateway) Close() { g.plugins.Close() }

// generation is a configuration made ready.
type generation struct {
	config *Config
	fronts map[string]*front
	// exactly one of these is called.
	commit, abort func()
}

// specs are the listeners, in the configuration's order.
func (n *generation) specs() []*listen.Spec {
	var all []*listen.Spec
	for i := range n.config.Listeners {
		all = append(all, n.fronts[n.config.Listeners[i].Name].spec)
	}
	return all
}

// prepare makes a configuration ready; its commit puts it in force in all but
// the listeners' sockets. Starting plugins may take a while, for which mu is not
// held: a drain must not wait for it.
func (g *Gateway) prepare(c *Config) (*generation, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	used, err := g.planPlugins(c)
	if err != nil {
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	next, err := g.prepareRest(c, used)
	if err != nil {
		used.plan.Abort()
		return nil, err
	}
	return next, nil
}

// prepareRest is prepare for all but the plugins; mu is held.
func (g *Gateway) prepareRest(c *Config, used *pluginUses) (*generation, error) {
	needs := needsOf(c)
	if (g.consul == nil && needs.consul()) || (g.watch == nil && len(needs.mesh) > 0) {
		return nil, errors.New("edge: routes go to services of Consul, and there is no Consul")
	}
	table, err := compileRoutes(c)
	if err != nil {
		return nil, err
	}
	consumers, err := consumer.NewStore(c.Consumers)
	if err != nil {
		return nil, err
	}
	next := &generation{config: c, fronts: map[string]*front{}, abort: used.plan.Abort}
	for i := range c.Listeners {
		if err := g.prepareFront(next, &c.Listeners[i]); err != nil {
			return nil, err
		}
	}
	commitLog, err := g.accessLog.Prepare(c.AccessLog)
	if err != nil {
		return nil, err
	}
	commitClusters, err := g.plain.Prepare(g.withCurrent(needs.clusters))
	if err != nil {
		return nil, fmt.Errorf("upstreams: %w", err)
	}
	services := g.stack(c, table, consumers, used)
	next.commit = func() {
		used.plan.Commit()
		commitLog()
		commitClusters()
		g.catalog.Watch(needs.catalog)
		g.member.want(registrationOf(c, needs.mesh))
		g.publish(next, services)
	}
	return next, nil
}

// withCurrent adds the clusters of the configuration in force to next: an
// exchange that has found its route there may be about to look one up. They go
// with the reload after that.
func (g *Gateway) withCurrent(next map[string]*mesh.Cluster) map[string]*mesh.Cluster {
	if g.current == nil {
		return next
	}
	all := needsOf(g.current).clusters
	maps.Copy(all, next)
	return all
}

// prepareFront keeps the living front of a listener whose shape stays.
func (g *Gateway) prepareFront(next *generation, l *Listener) error {
	f := g.fronts[l.Name]
	if f == nil || f.shape != shapeOf(l) {
		fresh, err := newFront(l, g.log)
		if err != nil {
			return fmt.Errorf("%slistener %q, tls: %w; give PEM files that exist "+
				"(paths are relative to the configuration file)", prefix(l.TLS.Pos.At("certificate_file")), l.Name, err)
		}
		f = fresh
	}
	next.fronts[l.Name] = f
	return nil
}

// publish swaps the services under all connections. A listener that is gone
// goes on as it was for those that it still has.
func (g *Gateway) publish(next *generation, services map[string]wire.Service) {
	for name, f := range next.fronts {
		service := services[name]
		f.service.Store(&service)
	}
	g.fronts, g.current = next.fronts, next.config
}

// Reload puts another configuration in force. Connections and exchanges live on.
// If anything is wrong with it, or an address cannot be bound, the error tells
// and the old configuration stays.
func (g *Gateway) Reload(c Config) error {
	g.reloading.Lock()
	defer g.reloading.Unlock()
	if err := g.mayReload(&c); err != nil {
		return err
	}
	next, err := g.prepare(&c)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining.Load() { // by now
		next.abort()
		return errStopping
	}
	commitListeners, err := g.listeners.Prepare(next.specs())
	if err != nil {
		next.abort()
		return err
	}
	next.commit()
	commitListeners()
	g.log.Info("configuration reloaded", "apis", len(c.APIs), "listeners", len(c.Listeners))
	return nil
}

// errStopping is why there is no reload any more.
var errStopping = errors.New("edge: not reloaded, it is stopping")

// mayReload tells why c can in no case be put in the place of what is in force.
func (g *Gateway) mayReload(c *Config) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.draining.Load() {
		return errStopping
	}
	if old := g.current; old.ServiceName() != c.ServiceName() || instanceID(old) != instanceID(c) {
		return fmt.Errorf("%sedge: service, id and the first listener's port are what the edge is in Consul; "+
			"restart it to change them", prefix(c.Pos.At("")))
	}
	return nil
}

// Service is what serves a listener at the time of each exchange, nil if there
// is no listener of that name. It is served without Run, but only Run looks
// after upstreams.
func (g *Gateway) Service(listener string) wire.Service {
	g.mu.Lock()
	f := g.fronts[listener]
	g.mu.Unlock()
	if f == nil {
		return nil
	}
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		return (*f.service.Load()).Serve(x, req)
	})
}

// prefix puts a position in front of an error.
func prefix(position string) string {
	if position == "" {
		return ""
	}
	return position + ": "
}

// needs are the upstreams of a configuration.
type needs struct {
	mesh     []meshService
	catalog  []catalog.Query
	clusters map[string]*mesh.Cluster
}

func (n *needs) consul() bool { return len(n.mesh)+len(n.catalog) > 0 }

// needsOf lists each upstream once.
func needsOf(c *Config) *needs {
	n := &needs{clusters: map[string]*mesh.Cluster{}}
	for i := range c.APIs {
		a := &c.APIs[i]
		for j := range a.Routes {
			r := &a.Routes[j]
			n.add(r.Upstream, r.Upstream.clusterName())
		}
	}
	return n
}

func (n *needs) add(u *Upstream, cluster string) {
	if u.Service != "" {
		if s := (meshService{u.Service, u.Datacenter}); !slices.Contains(n.mesh, s) {
			n.mesh = append(n.mesh, s)
		}
		return
	}
	if n.clusters[cluster] != nil {
		return
	}
	n.clusters[cluster] = u.cluster(cluster)
	if u.Catalog != "" {
		n.catalog = append(n.catalog, catalog.Query{
			Cluster: cluster, Service: u.Catalog, Tag: u.Tag, Datacenter: u.Datacenter,
		})
	}
}

// NeedsConsul tells whether a route goes to a service that only Consul knows.
func (c *Config) NeedsConsul() bool { return needsOf(c).consul() }
