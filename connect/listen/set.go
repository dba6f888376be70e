package listen

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
)

// Set is all listeners of a data plane. It is safe for concurrent use.
type Set struct {
	config  Config
	log     *slog.Logger
	buffers bulk.Buffers
	looks   looks
	// inspected is what all listeners have seen
	inspected inspected
	places    places

	mu        sync.Mutex           // guards:
	listeners map[Key]*listener    // by address
	prepared  map[Key]*listener    // bound by a Prepare that was not committed
	leaving   map[*Chain]*listener // chains that are gone, whose connections are not, with where they were
	// past are listeners that are gone but for their connections, gone what those have
	// counted that are gone for good, by their StatName, as long as there is another of it.
	past    []*listener
	gone    map[string]*Stats
	closed  bool
	advised bool // see Advise
	// draining and stopped are what Drain and Stop were called for.
	draining, stopped reach
}

// ErrShutdown is why nothing is prepared any more.
var ErrShutdown = errors.New("listeners: shut down")

// NewSet returns a Set without listeners.
func NewSet(config Config, log *slog.Logger) *Set {
	config.defaults()
	return &Set{config: config, log: log, places: places{most: config.MaxHandshakes}, listeners: map[Key]*listener{}, leaving: map[*Chain]*listener{}, gone: map[string]*Stats{}}
}

// Prepare binds what next adds; commit then accepts on it, swaps the chains of
// what stays and closes what is gone. If commit is not called before the next
// Prepare, nothing has changed but that addresses were bound for a moment; if
// Prepare fails, not even that. Two specs with one address are an error.
func (s *Set) Prepare(next []*Spec) (commit func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, ErrShutdown
	}
	before := s.prepared
	s.prepared, err = s.prepare(next, before)
	for address, l := range before {
		if s.prepared[address] != l {
			l.close()
		}
	}
	if err != nil {
		return nil, err
	}
	added := s.prepared
	return func() { s.commit(next, added) }, nil
}

// prepare returns the listeners that next adds, by address. It takes those that
// are bound before.
func (s *Set) prepare(next []*Spec, before map[Key]*listener) (map[Key]*listener, error) {
	owner := make(map[Key]string, len(next))
	for _, spec := range next {
		address := spec.key()
		if other, taken := owner[address]; taken {
			return nil, fmt.Errorf("listeners %q and %q both want address %s", other, spec.Name, spec.Address.String())
		}
		owner[address] = spec.Name
	}
	added := map[Key]*listener{}
	for _, spec := range next {
		address := spec.key()
		if s.listeners[address] != nil {
			continue
		}
		l := before[address]
		if l == nil {
			var err error
			if l, err = s.bind(spec); err != nil {
				for _, l := range added {
					l.close()
				}
				return nil, err
			}
		}
		l.spec.Store(spec)
		added[address] = l
	}
	return added, nil
}

func (s *Set) bind(spec *Spec) (*listener, error) {
	l := &listener{config: s.config, log: s.log, buffers: &s.buffers, places: &s.places, set: s, closed: make(chan struct{}), ended: make(chan struct{})}
	l.spec.Store(spec)
	if spec.Unbound || s.stopped.has(spec) {
		return l, nil
	}
	bound, err := bind(spec)
	if err != nil {
		if s.config.Strict {
			return nil, fmt.Errorf("listener %q: %w", spec.Name, err)
		}
		s.log.Error("listener not bound, trying again every second", "listener", spec.Name, "err", err)
		return l, nil
	}
	l.socket.Store(bound)
	return l, nil
}

func (s *Set) commit(next []*Spec, added map[Key]*listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.prepared = nil
	if s.closed { // between Prepare and now; Shutdown has closed what was added
		return
	}
	wanted := make(map[Key]*Spec, len(next))
	kept := make(map[*Chain]bool, len(next))
	for _, spec := range next {
		wanted[spec.key()] = spec
		for chain := range spec.Chains.All() {
			kept[chain] = true
			chain.drain.Advise(s.advised)
			if s.draining.has(spec) {
				chain.drain.Begin()
			}
		}
	}
	for address, l := range added {
		s.listeners[address] = l
		if s.stopped.has(l.spec.Load()) {
			l.close()
		}
		go l.run()
	}
	for address, l := range s.listeners {
		old := l.spec.Load()
		if spec := wanted[address]; spec != nil {
			l.spec.Store(spec)
		} else {
			l.close()
			delete(s.listeners, address)
			s.past = append(s.past, l)
		}
		for chain := range old.Chains.All() {
			if !kept[chain] && s.leaving[chain] == nil {
				s.leaving[chain] = l
				go s.drainAway(chain, l)
			}
		}
	}
	s.settle()
}

// drainAway ends the connections of a chain that is gone.
func (s *Set) drainAway(chain *Chain, l *listener) {
	ctx, cancel := context.WithTimeout(context.Background(), s.config.ChainDrain)
	defer cancel()
	select {
	case <-l.closed:
		<-l.ended           // all that it has accepted is known now
		l.pending.Wait(ctx) //nolint:errcheck // what is late is killed with the rest
		l.pending.Kill()
	default:
	}
	chain.drain.CloseIdle()
	if chain.drain.Wait(ctx) != nil {
		s.log.Warn("connections of a removed filter chain closed", "chain", chain.Name, "connections", kill(&chain.drain))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaving, chain)
}

// kill closes what is left, and counts connections: a handler registers its own
// beside the listener's.
func kill(drain *wire.Drain) (connections int) {
	drain.Each(func(d wire.Drainable) {
		if h, ok := d.(*holder); ok && !h.killed.Swap(true) {
			connections++
		}
	})
	drain.Kill()
	return connections
}

func (l *listener) close() {
	l.once.Do(func() { close(l.closed) })
	if bound := l.socket.Load(); bound != nil {
		bound.Close()
	}
}

// receive gives a pending connection to the listener of an address; nil if there is
// no other. It does so in one step, so that one that is removed has it before, and its
// drain waits for it, or does not get it.
func (s *Set) receive(address netip.AddrPort, from *listener, held *holder) *listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.at(address)
	if l == nil || l == from {
		return nil
	}
	l.open.Add(1)
	l.pending.Add(held)
	return l
}

// at is the listener of an address, nil if there is none: the one with just this
// address, or one for every address at its port. Callers hold the lock.
func (s *Set) at(address netip.AddrPort) *listener {
	every := netip.IPv4Unspecified()
	if address.Addr().Is6() {
		every = netip.IPv6Unspecified()
	}
	for _, a := range []netip.AddrPort{address, netip.AddrPortFrom(every, address.Port())} {
		for _, unbound := range []bool{false, true} {
			if l := s.listeners[KeyOf(mesh.Address{AddrPort: a}, unbound)]; l != nil {
				return l
			}
		}
	}
	return nil
}

// Stats returns the counters of all listeners, sorted by name.
func (s *Set) Stats() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statsLocked()
}

func (s *Set) statsLocked() []Stats {
	all := make([]Stats, 0, len(s.listeners))
	for _, l := range s.listeners {
		all = append(all, l.stats())
	}
	slices.SortFunc(all, func(a, b Stats) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Shutdown ends everything without losing an exchange. Responses ask clients to
// close at once; sockets accept for delay, so that callers can learn that we
// go; then inbound sockets close, and connections may finish until ctx ends.
// Outbound listeners follow last. It returns how many connections had to be
// killed.
func (s *Set) Shutdown(ctx context.Context, delay time.Duration) (killed int) {
	s.mu.Lock()
	s.closed = true
	for _, l := range s.prepared {
		l.close()
	}
	var inbound, outbound []*listener
	for _, l := range s.listeners {
		if l.spec.Load().Outbound {
			outbound = append(outbound, l)
		} else {
			inbound = append(inbound, l)
		}
	}
	leaving := slices.Collect(maps.Keys(s.leaving))
	s.mu.Unlock()
	begin(inbound)
	begin(outbound)
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	// All, since outbound ones may have handed connections to inbound ones meanwhile.
	return finish(ctx, inbound, leaving) + finish(ctx, slices.Concat(outbound, inbound), leaving)
}

func begin(listeners []*listener) {
	for _, l := range listeners {
		for chain := range l.spec.Load().Chains.All() {
			chain.drain.Begin()
		}
	}
}

// finish ends listeners, and chains that had left them before.
func finish(ctx context.Context, listeners []*listener, chains []*Chain) (killed int) {
	for _, l := range listeners {
		l.close()
		<-l.ended
		chains = slices.AppendSeq(chains, l.spec.Load().Chains.All())
	}
	for _, chain := range chains {
		chain.drain.CloseIdle()
	}
	for _, l := range listeners { // of which some hand over what they have to others
		l.pending.Wait(ctx) //nolint:errcheck // what is late is killed below
	}
	for _, l := range listeners {
		if l.pending.Wait(ctx) != nil {
			killed += kill(&l.pending)
		}
	}
	for _, chain := range chains {
		chain.drain.CloseIdle() // those that were pending, too
		if chain.drain.Wait(ctx) != nil {
			killed += kill(&chain.drain)
		}
	}
	if killed == 0 {
		return 0
	}
	// What is written at the end of an exchange is written of those, too.
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer cancel()
	for _, chain := range chains {
		chain.drain.Wait(last) //nolint:errcheck // it was killed
	}
	return killed
}

// lastWords is how long a connection that was killed has to end.
const lastWords = 100 * time.Millisecond
