package dns

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// drainTimeout is how long queries that are at work when the server is
	// stopped may take; Nomad waits 5 s.
	drainTimeout = 4 * time.Second
	// lastCall is how long sockets are still read when the server is stopped,
	// or a listener is gone: what the kernel has taken for us is answered.
	lastCall = 50 * time.Millisecond
)

// Deps are what a Server is made of.
type Deps struct {
	// Catalog is what is known of Consul; somebody else runs it.
	Catalog Catalog
	// Log takes what operators should know.
	Log *slog.Logger
}

// Server is the DNS interface. It is safe for concurrent use.
type Server struct {
	// set by New
	catalog Catalog
	log     *slog.Logger
	bounds  bounds
	dropped dropped
	forward forwards

	handler  atomic.Pointer[handler] // of the configuration in force
	draining atomic.Bool
	serving  atomic.Bool
	udp, tcp atomic.Int64 // queries
	active   atomic.Int64 // queries at work

	mu        sync.Mutex // guards:
	config    Config
	counts    map[string]*counts // by origin
	listeners map[string]*listener
	gone      sync.WaitGroup  // listeners that a reload has taken away
	work      context.Context //nolint:containedctx // of Run, for listeners that a Reload adds
}

// bounds are those of the configuration in force.
type bounds struct {
	queries, connections, idle atomic.Int64
	forwards                   limit
}

// New makes a Server. Nothing is bound before Run.
func New(c Config, d Deps) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &Server{catalog: d.Catalog, log: d.Log, counts: map[string]*counts{}, listeners: map[string]*listener{}}
	c.setDefaults()
	s.apply(c)
	return s, nil
}

// apply puts a configuration in force, but for its listeners. The caller holds
// mu, or is New.
func (s *Server) apply(c Config) {
	s.config = c
	s.bounds.queries.Store(int64(c.MaxQueries))
	s.bounds.connections.Store(int64(c.MaxConnections))
	s.bounds.idle.Store(int64(c.IdleTimeout))
	s.bounds.forwards.most.Store(int64(c.MaxForwards))
	s.handler.Store(s.compile(c))
}

// Run binds the listeners and serves until ctx ends. Then what the sockets have
// taken is still answered, and queries at work get 4 s. It returns an error only
// if an address cannot be bound. It is called once.
func (s *Server) Run(ctx context.Context) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	s.mu.Lock()
	s.work = work
	err := s.listen(s.config.Listeners)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	s.serving.Store(true)

	<-ctx.Done()
	begin := time.Now()
	s.draining.Store(true)
	timer := time.AfterFunc(drainTimeout, stop)
	defer timer.Stop()
	s.mu.Lock()
	for _, l := range s.listeners {
		s.gone.Go(l.drain)
	}
	s.mu.Unlock()
	s.gone.Wait()
	s.log.Info("dns stopped", "after", time.Since(begin).Round(time.Millisecond))
	return nil
}

// listen binds what is new of listeners, all or none, and lets go of what is no
// more among them. The caller holds mu.
func (s *Server) listen(listeners []Listener) error {
	added, wanted := map[string]*listener{}, map[string]*Listener{}
	for i := range listeners {
		spec := &listeners[i]
		key := spec.key()
		wanted[key] = spec
		if s.listeners[key] != nil {
			continue
		}
		l, err := bind(s.work, spec, s)
		if err != nil {
			for _, l := range added {
				l.close()
			}
			return fmt.Errorf("dns: listener %q: %w", spec.Name, err)
		}
		added[key] = l
	}
	for key, l := range added {
		s.listeners[key] = l
		l.start()
		s.log.Info("listening", "listener", l.spec.Load().Name, "address", l.address.String(), "workload", l.spec.Load().Workload)
	}
	for key, l := range s.listeners {
		if spec := wanted[key]; spec != nil {
			l.spec.Store(spec)
			continue
		}
		delete(s.listeners, key)
		s.gone.Go(l.drain)
	}
	return nil
}

// key tells listeners apart; those on a port that the system chooses are told
// apart by name.
func (l *Listener) key() string {
	if l.Address.Port() == 0 {
		return l.Name
	}
	return l.Address.String()
}

// Reload puts another configuration in force; on an error the old one stays.
// Listeners whose address stays are not touched, and no query is lost on one
// that goes. The system's resolvers are read again.
func (s *Server) Reload(c Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	c.setDefaults()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining.Load() {
		return errors.New("dns: not reloaded, it is stopping")
	}
	if s.serving.Load() {
		if err := s.listen(c.Listeners); err != nil {
			return err
		}
	}
	s.apply(c)
	s.log.Info("dns configuration reloaded", "listeners", len(c.Listeners), "forwards", len(c.Forwards))
	return nil
}

// Reasons for which Ready says no.
var (
	errDraining = errors.New("draining")
	errNotBound = errors.New("not listening yet")
)

// Ready returns nil if queries should be sent here, else the reason. While the
// mesh is not known yet all other names are already answered.
func (s *Server) Ready() error {
	switch {
	case s.draining.Load():
		return errDraining
	case !s.serving.Load():
		return errNotBound
	default:
		return s.catalog.Ready()
	}
}

// Addresses are those that are bound, by listener, with the ports that the
// system has chosen for 0.
func (s *Server) Addresses() map[string]netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]netip.AddrPort{}
	for _, l := range s.listeners {
		all[l.spec.Load().Name] = l.address
	}
	return all
}

// Stats returns the counters.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{
		UDP: s.udp.Load(), TCP: s.tcp.Load(),
		Short: s.dropped.short.Load(), Responses: s.dropped.responses.Load(),
		Overflow: s.dropped.queries.Load(), ConnectionOverflow: s.dropped.connections.Load(),
		Forwarded: s.forward.total.Load(), ForwardRetries: s.forward.retries.Load(),
		ForwardFailures: s.forward.failures.Load(), ForwardShared: s.forward.shared.Load(),
		ForwardOverflow: s.forward.overflow.Load(),
		Rcodes:          map[string]int64{},
	}
	for _, l := range s.listeners {
		stats.Connections += l.connections.Load()
	}
	for origin, counts := range s.counts {
		counts.addTo(stats.Rcodes, origin)
	}
	return stats
}
