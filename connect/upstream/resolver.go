package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// resolver looks up the names of DNS clusters, one lookup of a cluster at a
// time. A name that is not found keeps its last addresses.
type resolver struct {
	set     *Set
	running sync.WaitGroup
}

const (
	// defaultRefresh is Envoy's dns_refresh_rate.
	defaultRefresh = 5 * time.Second
	// lookupsAtOnce bounds how many names of a cluster are asked for at a time.
	lookupsAtOnce = 8
)

// lookup is [net.Resolver.LookupNetIP], or stands for it in a test.
type lookup func(ctx context.Context, network, host string) ([]netip.Addr, error)

func newResolver(s *Set) *resolver { return &resolver{set: s} }

func (r *resolver) wait() { r.running.Wait() }

// names is what a cluster knows of its names.
type names struct {
	mu sync.Mutex // guards:
	// found are the addresses of each host as it was found last, the first of them
	// that of a LOGICAL_DNS cluster.
	found map[string][]netip.Addr
	// failures counts lookups in a row that failed, for some name.
	failures int
	// holds is how long the last lookup does by what its answers say, jitter how much
	// longer by chance.
	holds, jitter time.Duration
	// first is closed when all names were looked up once, with whatever outcome;
	// nil if they were.
	first chan struct{}
}

// anew forgets all: the names are others now.
func (n *names) anew() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found, n.failures, n.holds, n.jitter = nil, 0, 0, 0
	if n.first == nil {
		n.first = make(chan struct{})
	}
}

// unknown is closed when the names are looked up; nil if they were.
func (n *names) unknown() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.first
}

// every is how long a lookup holds.
func (n *names) every(dns *mesh.DNS) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	every := dns.Refresh
	if every <= 0 {
		every = defaultRefresh
	}
	switch {
	case n.failures == 0 && dns.RespectTTL && n.holds > 0:
		return n.holds + n.jitter
	case n.failures == 0:
		return every + n.jitter
	case dns.Retry <= 0:
		return every
	}
	most := dns.MaxRetry
	if most <= 0 {
		most = 10 * dns.Retry
	}
	wait := dns.Retry
	for range n.failures - 1 {
		if wait *= 2; wait >= most {
			break
		}
	}
	return min(wait, most)
}

// take remembers what was found, and for how long; a host that was not keeps what it had.
func (n *names) take(dns *mesh.DNS, found map[string][]netip.Addr, holds time.Duration, err error) map[string][]netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.holds, n.jitter = holds, 0; dns.Jitter > 0 {
		n.jitter = rand.N(dns.Jitter)
	}
	next := make(map[string][]netip.Addr, len(found))
	for host, addrs := range found {
		last := n.found[host]
		switch {
		case len(addrs) == 0:
			addrs = last
		case len(last) > 0 && slices.Contains(addrs, last[0]):
			// A cluster of one address stays with it as long as it is there.
			addrs = slices.DeleteFunc(addrs, func(a netip.Addr) bool { return a == last[0] })
			addrs = slices.Insert(addrs, 0, last[0])
		}
		next[host] = addrs
	}
	n.found = next
	if n.failures++; err == nil {
		n.failures = 0
	}
	return next
}

// known lets go on who waits for the names.
func (n *names) known() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.first != nil {
		close(n.first)
		n.first = nil
	}
}

// refresh starts a lookup if it is time.
func (r *resolver) refresh(ctx context.Context, c *Cluster, now time.Time) {
	last, began := c.lookedUp.Load(), now.UnixNano()
	cfg := c.config.Load()
	every := c.names.every(&cfg.DNS)
	if !cfg.named() || last < 0 || began >= last && began-last < int64(every) || !c.lookedUp.CompareAndSwap(last, -began) {
		return
	}
	if cfg = c.config.Load(); !cfg.named() { // whoever changes it from now on asks for a lookup of his own
		return
	}
	r.running.Go(func() {
		defer c.lookedUp.CompareAndSwap(-began, began)
		patience, cancel := context.WithTimeout(ctx, max(every, defaultRefresh))
		defer cancel()
		by, servers := r.set.lookup, (*nameservers)(nil)
		if !plain(&cfg.DNS) {
			servers = &nameservers{dns: &cfg.DNS}
			by = servers.lookup()
		}
		found, err := by.all(patience, cfg)
		c.answers.lookups.Add(1)
		if err != nil {
			c.answers.badLookups.Add(1)
		}
		if err != nil && ctx.Err() == nil {
			r.set.log.Warn("names of a cluster not resolved, keeping their last addresses", "cluster", c.name, "err", err)
		}
		r.set.mu.Lock()
		defer r.set.mu.Unlock()
		// One that was removed meanwhile is closed and stays so.
		if r.set.Cluster(c.name) == c && c.config.Load().sameNames(cfg) {
			c.setEndpoints(&mesh.EndpointSet{Name: c.name, Endpoints: endpointsOf(cfg, c.names.take(&cfg.DNS, found, servers.good(), err))}, true)
			c.names.known()
		}
	})
}

// endpointsOf are the endpoints of a cluster whose names are found.
func endpointsOf(cfg *config, found map[string][]netip.Addr) []mesh.Endpoint {
	var all []mesh.Endpoint
	for i := range cfg.Names {
		name := &cfg.Names[i]
		addrs := found[name.Host]
		if len(addrs) > 0 && cfg.Kind == mesh.ClusterLogicalDNS {
			all = append(all, name.At(addrs...))
			continue
		}
		for _, addr := range addrs {
			all = append(all, name.At(addr))
		}
	}
	return all
}

// all looks all names up; one that fails has no addresses.
func (l lookup) all(ctx context.Context, cfg *config) (map[string][]netip.Addr, error) {
	var mu sync.Mutex // guards:
	found := map[string][]netip.Addr{}
	var errs []error

	for i := range cfg.Names {
		found[cfg.Names[i].Host] = nil
	}
	hosts := make(chan string)
	var looking sync.WaitGroup
	for range min(lookupsAtOnce, len(found)) {
		looking.Go(func() {
			for host := range hosts {
				addrs, err := l.one(ctx, host, &cfg.DNS)
				mu.Lock()
				found[host] = addrs
				if err != nil {
					errs = append(errs, err)
				}
				mu.Unlock()
			}
		})
	}
	mu.Lock()
	all := make([]string, 0, len(found))
	for host := range found {
		all = append(all, host)
	}
	mu.Unlock()
	for _, host := range all {
		hosts <- host
	}
	close(hosts)
	looking.Wait()
	return found, errors.Join(errs...)
}

// one finds the addresses of one host, in the order of the answer.
func (l lookup) one(ctx context.Context, host string, dns *mesh.DNS) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	network := "ip"
	if dns.NoSearch && !strings.HasSuffix(host, ".") {
		host += "."
	}
	switch dns.Family {
	case mesh.DNSv4Only:
		network = "ip4"
	case mesh.DNSv6Only:
		network = "ip6"
	default:
	}
	addrs, err := l(ctx, network, host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	switch dns.Family {
	case mesh.DNSAuto:
		addrs = prefer(addrs, netip.Addr.Is6)
	case mesh.DNSv4Preferred:
		addrs = prefer(addrs, netip.Addr.Is4)
	default:
	}
	return addrs, nil
}

// prefer are those of addrs that are of a kind, all if there are none.
func prefer(addrs []netip.Addr, kind func(netip.Addr) bool) []netip.Addr {
	if !slices.ContainsFunc(addrs, kind) {
		return addrs
	}
	return slices.DeleteFunc(addrs, func(a netip.Addr) bool { return !kind(a) })
}
