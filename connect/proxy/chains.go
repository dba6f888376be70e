package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
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
	node      map[string]any // its metadata in the bootstrap file
	kept      stack.Kept
	log       *slog.Logger

	// codecs are those of living chains, for who reads their counters
	codecs atomic.Pointer[[]telemetry.Codec]

	// owned by the goroutine that prepares and commits
	living map[string]*chain
}

// chain is one living filter chain.
type chain struct {
	key     string
	listen  *listen.Chain
	tls     atomic.Pointer[tls.Config]
	tickets mtls.Tickets
	service atomic.Pointer[wire.Service]
	tcp     *stack.TCP
	// codec is that of an HTTP chain; its Stats are nil for others
	codec telemetry.Codec
}

// errEndless: nothing says what to do with a connection.
var errEndless = errors.New("no network filter ends the chain")

// errRefused is why connections of a refused chain end; the log says more.
var errRefused = errors.New("the filter chain is not understood by this proxy")

// Prepare implements [xds.Stage].
func (cs *chains) Prepare(next *mesh.Snapshot) (commit func(), err error) {
	living := map[string]*chain{}
	var specs []*listen.Spec
	var commits []func()
	for _, l := range sorted(next.Listeners) {
		if l.Address == (mesh.Address{}) {
			continue // it is refused, and nothing says where it would be
		}
		spec := &listen.Spec{Name: l.Name, Address: l.Address, Outbound: l.Direction == mesh.Outbound}
		if l.ProxyProtocol != nil {
			spec.ProxyHeader = &listen.ProxyHeader{Optional: l.ProxyProtocol.Optional}
		}
		for i, definition := range definitions(l) {
			c, commit := cs.prepare(l, i, definition, next.Routes)
			living[c.key] = c
			spec.Chains = append(spec.Chains, c.listen)
			commits = append(commits, commit)
		}
		specs = append(specs, spec)
	}
	commitListeners, err := cs.listeners.Prepare(specs)
	if err != nil {
		return nil, err
	}
	return func() {
		for _, commit := range commits {
			commit()
		}
		cs.living = living
		cs.publishCodecs()
		commitListeners()
	}, nil
}

// publishCodecs lets the counters of living chains be read.
func (cs *chains) publishCodecs() {
	var all []telemetry.Codec
	for _, c := range sorted(cs.living) {
		if c.codec.Stats != nil {
			all = append(all, c.codec)
		}
	}
	cs.codecs.Store(&all)
}

// place is where exchanges and connections of l are seen.
func (cs *chains) place(l *mesh.Listener) telemetry.Place {
	return telemetry.Place{Direction: telemetry.DirectionOf(l.Direction), Service: cs.service, Listener: l.Name}
}

// definitions are the chains of l in the order in which they are tried.
func definitions(l *mesh.Listener) []*mesh.FilterChain {
	if l.Refusal != "" {
		return []*mesh.FilterChain{{Name: l.Name, Refusal: l.Refusal}}
	}
	all := append([]*mesh.FilterChain(nil), l.Chains...)
	if l.Default != nil {
		all = append(all, l.Default)
	}
	return all
}

// identity names a chain: with the same identity it is the same living chain.
func identity(l *mesh.Listener, i int, d *mesh.FilterChain) string {
	kind := "refused"
	switch {
	case d.Refusal != "":
	case d.TCP != nil:
		kind = "tcp"
	case d.HTTP != nil:
		kind = "http"
	}
	codec := ""
	if kind == "http" && d.HTTP.Codec != (mesh.Codec{}) {
		codec = fmt.Sprintf("/%+v", d.HTTP.Codec) // which connections do not outlive
	}
	return fmt.Sprintf("%s/%d/%s/tls=%t/%v%s", l.Name, i, kind, d.TLS != nil, d.Match.SourcePrefixes, codec)
}

// prepare never fails: what is not understood closes its connections, and says
// so in the log, while the rest serves.
func (cs *chains) prepare(l *mesh.Listener, i int, d *mesh.FilterChain, routes map[string]*mesh.Route) (*chain, func()) {
	reason := d.Refusal
	if reason == "" {
		reason = unsupported(d)
	}
	if reason == "" {
		c, commit, err := cs.compile(l, i, d, routes)
		if err == nil {
			return c, commit
		}
		reason = err.Error()
	}
	key := identity(l, i, &mesh.FilterChain{Refusal: reason})
	if old := cs.living[key]; old != nil {
		return old, func() {}
	}
	c := &chain{key: key, listen: &listen.Chain{Name: key, Handler: refusing{cs.observe.TCP(cs.place(l))}}}
	return c, func() {
		cs.log.Error("filter chain refused: it closes every connection", "listener", l.Name, "chain", i, "reason", reason)
	}
}

// unsupported says what in a chain's match is not served yet.
func unsupported(d *mesh.FilterChain) string {
	m := &d.Match
	if m.DestinationPort != 0 || len(m.Prefixes) > 0 || len(m.ServerNames) > 0 || len(m.ALPN) > 0 {
		return "filter_chain_match by destination, server name or ALPN is not supported"
	}
	return ""
}

func (cs *chains) compile(l *mesh.Listener, i int, d *mesh.FilterChain, routes map[string]*mesh.Route) (*chain, func(), error) {
	key := identity(l, i, d)
	c := cs.living[key]
	if c == nil {
		c = &chain{key: key}
		cs.assemble(c, l, d)
	}
	var secured *tls.Config
	if d.TLS != nil {
		var err error
		if secured, err = cs.loader.Server(d.TLS); err != nil {
			return nil, nil, err
		}
	}
	var commit func()
	switch {
	case d.TCP != nil:
		var err error
		if commit, err = c.tcp.Prepare(d, c.listen.Drain()); err != nil {
			return nil, nil, err
		}
	case d.HTTP != nil:
		service, err := cs.http(l, d, routes)
		if err != nil {
			return nil, nil, err
		}
		commit = func() { c.service.Store(&service) }
	default:
		return nil, nil, errEndless
	}
	return c, func() {
		if secured != nil {
			c.tickets.Use(secured, d.TLS.Trust(), time.Now())
			c.tls.Store(secured)
		}
		commit()
	}, nil
}

// assemble gives a new chain its handler.
func (cs *chains) assemble(c *chain, l *mesh.Listener, d *mesh.FilterChain) {
	c.listen = &listen.Chain{Name: c.key, SourcePrefixes: d.Match.SourcePrefixes}
	if d.TLS != nil {
		c.listen.TLS = func() *tls.Config {
			c.tickets.Turn(time.Now())
			return c.tls.Load()
		}
	}
	if d.TCP != nil {
		c.tcp = stack.NewTCP(cs.clusters, cs.observe.TCP(cs.place(l)), cs.log)
		c.listen.Handler = c.tcp
		return
	}
	server := stack.NewServer(d.HTTP.Codec, func() wire.Service { return *c.service.Load() }, cs.log)
	c.listen.Handler, c.codec = server, telemetry.Codec{Listener: l.Name, Stats: server.Stats}
}

// http compiles the service of an HTTP chain. Network intentions on it are
// decided for each request, so that a change needs no new connection.
func (cs *chains) http(l *mesh.Listener, d *mesh.FilterChain, routes map[string]*mesh.Route) (wire.Service, error) {
	place := stack.Place{Listener: l.Name, TLS: d.TLS, Node: cs.node, Kept: &cs.kept, Log: cs.log}
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
	return wire.Stack(service, named, cs.observe.HTTP(cs.place(l)), stack.Connection(policy)), nil
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
