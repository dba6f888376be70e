// Package proxy is the Connect data plane: it takes its configuration from
// Consul by xDS and serves it, as Envoy does.
//
//	xds.Watcher ── clusters (upstream.Set) ── listeners (chains, listen.Set)
package proxy

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/bootstrap"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/trace"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/resource"
)

// Config of a Proxy.
type Config struct {
	// XDS says where Consul is and who we are.
	XDS xds.Config
	// Admin is the address of the admin interface, "" for none, unix:///path for a
	// socket. AdminAddressPath is a file that the address is written to, AdminLog
	// one for a line on each request to it; "" for none.
	Admin, AdminAddressPath, AdminLog string
	// Bootstrap is what the file says from which we start; nil without one.
	Bootstrap *bootstrap.Config
	// LogLevel is that of the logger, which the admin interface may set; nil if it
	// cannot be set.
	LogLevel *slog.LevelVar
	// Reopen opens log files of the process again, for POST /reopen_logs; nil if there is
	// no such thing. Those that xDS asks for see to it themselves.
	Reopen func()
	// DrainTime is how long POST /drain_listeners?graceful takes; 0 means 60 s.
	DrainTime time.Duration
	// Places, if not nil, tells take until ctx ends where we and others are, so that
	// endpoints of our own zone are preferred.
	Places func(ctx context.Context, take func(*mesh.Map)) error
	// DrainDelay is how long connections are still accepted after the signal
	// to stop, so that callers can learn that we go; 0 means 1 s, below 0 not at all.
	DrainDelay time.Duration
	// DrainTimeout is when, after the signal, what is left is killed; 0 means
	// 4.5 s, which is under Nomad's kill_timeout of 5 s.
	DrainTimeout time.Duration
	// Listen bounds the listeners.
	Listen listen.Config
}

// Proxy is one data plane.
type Proxy struct {
	config    Config
	log       *slog.Logger
	store     mesh.Store
	clusters  *upstream.Set
	listeners *listen.Set
	watcher   *xds.Watcher
	chains    *chains
	observe   *telemetry.Observer
	registry  stats.Registry // what is counted by Envoy's names
	view      *stats.View    // and how it is shown
	started   time.Time
	draining  atomic.Bool
	unhealthy atomic.Bool   // by /healthcheck/fail
	quit      chan struct{} // has room for one: an operator wants the process to end
}

// New makes a Proxy; observe sees every exchange and connection, and may be nil.
// Nothing is bound or started before Run.
func New(config Config, observe *telemetry.Observer, log *slog.Logger) (*Proxy, error) {
	config.DrainDelay = max(0, cmp.Or(config.DrainDelay, time.Second))
	config.DrainTimeout = cmp.Or(config.DrainTimeout, 4500*time.Millisecond)
	p := &Proxy{config: config, observe: observe, log: log, started: time.Now(), quit: make(chan struct{}, 1)}
	p.clusters = upstream.NewSet(log)
	p.clusters.CountIn(&p.registry)
	p.listeners = listen.NewSet(config.Listen, log)
	p.registry.Add(p.listeners.Inspected)
	p.chains = &chains{
		listeners: p.listeners, clusters: p.clusters, loader: &mtls.Loader{}, observe: observe, log: log,
		service: cmp.Or(config.XDS.ADS.Node.Cluster, config.XDS.ADS.Node.ID), node: config.XDS.ADS.Node.Metadata,
		id:     config.XDS.ADS.Node.ID,
		failed: func() bool { return p.unhealthy.Load() || p.draining.Load() },
	}
	p.chains.traces = trace.New(tracingOf(config.Bootstrap), config.XDS.ADS.Node.ID, config.XDS.ADS.Node.Cluster, p.find, log)
	p.chains.logs = accesslog.New(accesslog.Node{ID: config.XDS.ADS.Node.ID, Cluster: config.XDS.ADS.Node.Cluster}, os.Stdout, os.Stderr, p.find, log)
	p.registry.Add(p.chains.traces.Each)
	p.registry.Add(p.chains.logs.Each)
	if config.XDS.Dial == nil {
		config.XDS.Dial = p.dial
	}
	watcher, err := xds.New(config.XDS, &p.store, p.clusters, []xds.Stage{clusterStage{p.clusters}, p.chains}, log)
	if err != nil {
		return nil, err
	}
	p.watcher = watcher
	p.registry.Add(p.counted)
	if p.view, err = p.newView(); err != nil {
		return nil, err
	}
	if m := observe.Metrics(); m != nil {
		m.Add(p.samples())
	}
	return p, nil
}

// tracingOf is the provider of traces that a bootstrap file names; nil for none.
func tracingOf(file *bootstrap.Config) *mesh.TraceProvider {
	if file == nil {
		return nil
	}
	return resource.Tracing(file.Tracing)
}

// find gives a cluster of the snapshot to who makes requests of our own.
func (p *Proxy) find(cluster string) wire.Service {
	if c := p.clusters.Cluster(cluster); c != nil {
		return c
	}
	return nil
}

// dial leads to a server that a cluster of the snapshot stands for.
func (p *Proxy) dial(ctx context.Context, cluster string) (net.Conn, error) {
	c := p.clusters.Cluster(cluster)
	if c == nil {
		return nil, fmt.Errorf("there is no cluster %q", cluster)
	}
	return c.DialHTTP2(ctx)
}

// clusterStage is an upstream.Set as an [xds.Stage].
type clusterStage struct{ set *upstream.Set }

func (s clusterStage) Prepare(next *mesh.Snapshot) (func(), error) {
	return s.set.Prepare(next.Clusters)
}

// Refusals implements [xds.Refuser].
func (s clusterStage) Refusals() []xds.Refusal {
	var all []xds.Refusal
	for name, reason := range s.set.Refused() {
		all = append(all, xds.Refusal{Kind: "cluster", Name: name, Reason: reason})
	}
	return all
}

// Run serves until ctx ends and then drains. It returns an error only if it
// could not begin.
func (p *Proxy) Run(ctx context.Context) error {
	adminServer, err := p.admin()
	if err != nil {
		return err
	}
	// What serves outlives ctx: it goes on until the drain is over.
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	parts := []func(context.Context) error{adminServer.Run, p.clusters.Run, p.watcher.Run}
	if places := p.config.Places; places != nil {
		parts = append(parts, func(ctx context.Context) error { return places(ctx, p.clusters.Locate) })
	}
	for _, sink := range p.sinks() {
		parts = append(parts, sink.Run)
	}
	for _, run := range parts {
		running.Go(func() {
			// Whatever ends, what is in force goes on serving.
			if err := run(serving); err != nil && serving.Err() == nil {
				p.log.Error("a part of the proxy ended", "err", err)
			}
		})
	}
	announcing, quiet := context.WithCancel(ctx)
	defer quiet()
	running.Go(func() { p.announce(announcing) })
	logging, stopLog := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLog()
	var writing sync.WaitGroup
	writing.Go(func() {
		if err := p.observe.Run(logging); err != nil {
			p.log.Error("a part of the proxy ended", "err", err)
		}
	})

	select {
	case <-ctx.Done():
	case <-p.quit:
	}
	quiet()
	p.drain()
	p.chains.traces.Close()
	p.chains.logs.Close() // every exchange has ended by now, and clusters still lead somewhere
	stop()
	running.Wait()
	p.clusters.Close()
	// last, since every exchange has ended by now
	stopLog()
	writing.Wait()
	return nil
}

// announce tells when the first configuration is in force.
func (p *Proxy) announce(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-p.watcher.Ready():
		for _, l := range sorted(p.store.Load().Listeners) {
			p.log.Info("listening", "listener", l.Name, "address", l.Address.String())
		}
		p.log.Info("proxy ready", "clusters", len(p.store.Load().Clusters))
	}
}

func (p *Proxy) drain() {
	p.draining.Store(true)
	p.log.Info("draining", "accepting_for", p.config.DrainDelay, "until", p.config.DrainTimeout)
	ctx, cancel := context.WithTimeout(context.Background(), p.config.DrainTimeout)
	defer cancel()
	if killed := p.listeners.Shutdown(ctx, p.config.DrainDelay); killed > 0 {
		p.log.Warn("connections killed at the end of the drain", "connections", killed)
	}
	p.log.Info("drained")
}

// Status is how the configuration fares.
func (p *Proxy) Status() xds.Status { return p.watcher.Status() }

// Ready implements [admin.Source]: an error says why we should get no traffic.
func (p *Proxy) Ready() error {
	if p.draining.Load() {
		return fmt.Errorf("draining")
	}
	if p.unhealthy.Load() {
		return fmt.Errorf("draining: POST /healthcheck/fail")
	}
	select {
	case <-p.watcher.Ready():
		if p.watcher.Status().Expired {
			return fmt.Errorf("the kept configuration has expired, and there is none from Consul yet")
		}
		return nil
	default:
		return fmt.Errorf("no configuration from Consul yet")
	}
}

func sorted[T any](named map[string]T) []T {
	all := make([]T, 0, len(named))
	for _, name := range slices.Sorted(maps.Keys(named)) {
		all = append(all, named[name])
	}
	return all
}
