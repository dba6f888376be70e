package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/trace"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds"
)

// chains makes living filter chains of what snapshots say, and keeps them while
// their shape stays: connections outlive certificates, routes and intentions.
// It is the xDS stage for listeners.
type chains struct {
	listeners *listen.Set
	clusters  *upstream.Set
	loader    *mtls.Loader
	observe   *telemetry.Observer
	service   string         // our own
	id        string         // the node's
	node      map[string]any // its metadata in the bootstrap file
	kept      stack.Kept
	failed    func() bool // tells whether we are to be left alone; nil never
	logs      *accesslog.Sinks
	traces    *trace.Tracers
	log       *slog.Logger

	// codecs are those of living chains, for who reads their counters
	codecs atomic.Pointer[[]telemetry.Codec]
	tally  tally

	// index is how connections find their chains, for who explains it
	index atomic.Pointer[index]

	// compiled counts the listeners whose chains were made, anew or again
	compiled atomic.Int64

	// owned by the goroutine that prepares and commits
	built index
	// managers are what HTTP chains count in, by what is before its names
	managers map[string]*stack.HTTPCounter
	// refused is what of the snapshot in force could not be compiled
	refused []xds.Refusal
}

// chain is one living filter chain.
type chain struct {
	kin    string // as what it began
	listen *listen.Chain
	tls    atomic.Pointer[tls.Config]
	// clients is by what tls believes peers
	clients atomic.Pointer[mtls.Clients]
	// secured is what tls was made of; behind says why it is not what the latest
	// snapshot says, "" if it is. Both belong to who prepares.
	secured *mesh.DownstreamTLS
	behind  string
	tickets mtls.Tickets
	service atomic.Pointer[wire.Service]
	tcp     *stack.TCP
	// logs are what xDS asks for of connections: of the chain, and of the listener
	logs, listenerLogs atomic.Pointer[accesslog.Place]
	// guard stands before the codec of an HTTP chain, policy is all of its intentions
	guard  *stack.Guarded
	policy atomic.Pointer[rbac.Policy]
	// codec is that of an HTTP chain; its Stats are nil for others
	codec telemetry.Codec
}

// errEndless: nothing says what to do with a connection.
var errEndless = errors.New("no network filter ends the chain")

// errRefused is why connections of a refused chain end; the log says more.
var errRefused = errors.New("the filter chain is not understood by this proxy")

// Prepare implements [xds.Stage].
func (cs *chains) Prepare(next *mesh.Snapshot) (commit func(), err error) {
	cs.logs.Begin()
	cs.traces.Begin()
	building := cs.newBuilding(next)
	commitListeners, err := cs.listeners.Prepare(building.listeners(next.Listeners))
	if errors.Is(err, listen.ErrShutdown) {
		err = fmt.Errorf("%w: %w", xds.ErrStopped, err)
	}
	if err != nil {
		return nil, err
	}
	return func() {
		for _, commit := range building.commits {
			commit()
		}
		gone := len(cs.built) > len(building.built)
		cs.built = building.built
		if building.changed || gone {
			cs.publishCodecs()
			cs.index.Store(&building.built)
		}
		cs.refused = building.refused
		commitListeners()
		cs.logs.Sweep()
		cs.traces.Sweep()
	}, nil
}

// publishCodecs lets the counters of living chains be read.
func (cs *chains) publishCodecs() {
	var all []telemetry.Codec
	for _, b := range sorted(cs.built) {
		for _, p := range b.parts {
			if p.chain.codec.Stats != nil {
				all = append(all, p.chain.codec)
			}
		}
	}
	cs.codecs.Store(&all)
	cs.publishCounts()
}

// place is where exchanges and connections of l are seen.
func (cs *chains) place(l *mesh.Listener) telemetry.Place {
	return telemetry.Place{Direction: telemetry.DirectionOf(l.Direction), Service: cs.service, Listener: l.Name}
}

// compile makes a chain of d, or makes old do what d says; old is nil for a new one.
// behind says why it goes on with an older certificate, "" if it does not.
func (cs *chains) compile(l *mesh.Listener, d *mesh.FilterChain, routes map[string]*mesh.Route, old *chain) (c *chain, behind string, commit func(), err error) {
	c = old
	if c == nil {
		c = &chain{kin: kin(l, d)}
		cs.assemble(c, l, d)
	}
	var secured *tls.Config
	var clients *mtls.Clients
	if d.TLS != nil {
		if secured, clients, err = cs.loader.Server(d.TLS); err != nil {
			if behind = c.staysBehind(d.TLS, err); behind == "" {
				return nil, "", nil, err
			}
			if c.behind != behind {
				cs.log.Error("a new certificate is not taken, the last one stays", "listener", l.Name, "err", err)
			}
		}
	}
	gates, err := cs.at(l, d).Gates(d.Authz, cs.clusters)
	if err != nil {
		return nil, "", nil, err
	}
	var filters func()
	var logs *accesslog.Place
	listenerLogs := cs.logs.Compile(l.AccessLogs).At(accesslog.Listener, d.Name)
	switch {
	case d.TCP != nil:
		logs = cs.logs.Compile(d.TCP.AccessLogs).At(accesslog.Connections, d.Name)
		if filters, err = c.tcp.Prepare(d, c.listen.Drain(), gates...); err != nil {
			return nil, "", nil, err
		}
	case d.HTTP != nil:
		service, err := cs.http(l, d, routes)
		if err != nil {
			return nil, "", nil, err
		}
		policy, err := rbac.Compile(intentions(d, routes))
		if err != nil {
			return nil, "", nil, err
		}
		guard, err := c.guard.Prepare(d, gates...)
		if err != nil {
			return nil, "", nil, err
		}
		filters = func() {
			guard()
			c.service.Store(&service)
			c.policy.Store(policy)
			c.sever()
		}
	default:
		return nil, "", nil, errEndless
	}
	return c, behind, func() {
		c.behind = behind
		if secured != nil {
			trust := d.TLS.Trust()
			if len(d.TLS.Resume.Keys) == 0 {
				c.tickets.Use(secured, trust, time.Now())
			}
			c.tls.Store(secured)
			c.clients.Store(clients)
			if c.secured != nil && c.secured.Trust() != trust {
				cs.doubt(c)
			}
			c.secured = d.TLS
		}
		c.logs.Store(logs)
		c.listenerLogs.Store(listenerLogs)
		filters()
	}, nil
}

// staysBehind says why a living chain goes on with the certificate that it has, if
// the new one cannot be used and nothing else of its TLS has changed: whom it
// believes, and what it asks for. All else of the chain is as the snapshot says.
// It is "" if the chain cannot go on.
func (c *chain) staysBehind(next *mesh.DownstreamTLS, err error) string {
	if c.secured == nil || c.tls.Load() == nil {
		return ""
	}
	before, now := *c.secured, *next
	before.Leaves, now.Leaves = nil, nil
	if !reflect.DeepEqual(before, now) {
		return ""
	}
	return "the last certificate stays, since the new one cannot be used: " + err.Error()
}

// Refusals implements [xds.Refuser].
func (cs *chains) Refusals() []xds.Refusal { return cs.refused }

// assemble gives a new chain its handler.
func (cs *chains) assemble(c *chain, l *mesh.Listener, d *mesh.FilterChain) {
	c.listen = &listen.Chain{Name: c.kin}
	if d.TLS != nil {
		c.listen.TLS = func() *tls.Config {
			c.tickets.Turn(time.Now())
			return c.tls.Load()
		}
	}
	if d.TCP != nil {
		c.tcp = stack.NewTCP(stack.TCPConfig{
			Clusters: cs.clusters, Observe: c.observing(cs.observe.TCP(cs.place(l))), Tell: c.tell, Quiet: quiet(l, d), Log: cs.log,
		})
		c.listen.Handler = c.tcp
		return
	}
	server := stack.NewServer(d.HTTP.Codec, func() wire.Service { return *c.service.Load() }, cs.log)
	c.guard = &stack.Guarded{Next: cs.counter(l, d).Connections(server), Observe: cs.observe.TCP(cs.place(l))}
	c.listen.Handler, c.codec = logging{c.guard, c}, telemetry.Codec{Listener: l.Name, Stats: server.Stats}
}

// at is where a chain stands, for its filters.
func (cs *chains) at(l *mesh.Listener, d *mesh.FilterChain) stack.Place {
	return stack.Place{
		Listener: l.Name, TLS: d.TLS, Cluster: cs.service, Failed: cs.failed, Node: cs.node, Kept: &cs.kept, Log: cs.log,
	}
}

// http compiles the service of an HTTP chain. Network intentions on it are
// decided for each request, so that a change needs no new connection.
func (cs *chains) http(l *mesh.Listener, d *mesh.FilterChain, routes map[string]*mesh.Route) (wire.Service, error) {
	place, logs := cs.at(l, d), cs.logs.Compile(d.HTTP.AccessLogs).At(accesslog.Exchanges, d.Name)
	if d.HTTP.LogMoments.Start {
		place.Started = func(x *wire.Exchange) { logs.Tell(x, accesslog.Requested, nil) }
	}
	service, err := stack.HTTPAt(d.HTTP, routes, cs.clusters, place)
	if err != nil {
		return nil, err
	}
	policy, err := rbac.Compile(d.Intentions)
	if err != nil {
		return nil, err
	}
	name := l.Name
	named := func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.Listener = name
			return next.Serve(x, req)
		})
	}
	conduct := d.HTTP.Conduct
	conduct.Cluster, conduct.Node = cs.service, cs.id
	replies, err := stack.LocalReply(d.HTTP.LocalReply)
	if err != nil {
		return nil, err
	}
	return wire.Stack(
		service, named, cs.counter(l, d).Layer, cs.observe.HTTP(cs.place(l)), logs.Layer(d.HTTP.LogMoments.Tunnel), replies, stack.Conduct(conduct),
		cs.traces.Compile(d.HTTP.Tracing, l.Direction == mesh.Outbound).Count(cs.tracing(d)).Layer(), stack.Connection(policy),
	), nil
}

// refusing closes every connection; see may be nil.
type refusing struct{ see stack.Observe }

func (r refusing) Serve(conn net.Conn, peer *wire.Peer, _ *wire.Drain) {
	conn.Close()
	if r.see == nil {
		return
	}
	x := &wire.Exchange{}
	x.Reset(nil, peer, time.Now())
	x.Flag, x.Err = wire.FlagInternal, errRefused
	r.see(x)
	x.Done(time.Now())
}
