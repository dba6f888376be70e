package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
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

// defaultRefresh is Envoy's dns_refresh_rate.
const defaultRefresh = 5 * time.Second

func newResolver(s *Set) *resolver { return &resolver{set: s} }

func (r *resolver) wait() { r.running.Wait() }

// refresh starts a lookup if it is time.
func (r *resolver) refresh(ctx context.Context, c *Cluster, now time.Time) {
	cfg := c.config.Load()
	if !cfg.named() {
		return
	}
	every := cfg.Refresh
	if every <= 0 {
		every = defaultRefresh
	}
	last := c.lookedUp.Load()
	if now.UnixNano()-last < int64(every) || !c.lookedUp.CompareAndSwap(last, now.UnixNano()) {
		return
	}
	r.running.Go(func() {
		lookup, cancel := context.WithTimeout(ctx, max(every, time.Second))
		defer cancel()
		endpoints, err := resolve(lookup, cfg, c.hosts.Load())
		if err != nil && ctx.Err() == nil {
			r.set.log.Warn("names of a cluster not resolved, keeping their last addresses", "cluster", c.name, "err", err)
		}
		r.set.mu.Lock()
		defer r.set.mu.Unlock()
		// One that was removed meanwhile is closed and stays so.
		if r.set.Cluster(c.name) == c && c.config.Load().sameNames(cfg) {
			c.setEndpoints(&mesh.EndpointSet{Name: c.name, Endpoints: endpoints}, true)
		}
	})
}

// resolve looks all names up; a name that fails has the addresses that it has
// in old.
func resolve(ctx context.Context, cfg *config, old *hosts) ([]mesh.Endpoint, error) {
	var all []mesh.Endpoint
	var errs []error
	for _, name := range cfg.Names {
		found, err := lookUp(ctx, name, cfg.Kind == mesh.ClusterLogicalDNS)
		if err != nil {
			errs = append(errs, err)
			for _, h := range old.all {
				if endpoint := h.endpoint.Load(); endpoint.Hostname != "" && sameName(endpoint, name) {
					found = append(found, *endpoint)
				}
			}
		}
		all = append(all, found...)
	}
	return all, errors.Join(errs...)
}

// sameName tells whether endpoint was found under name.
func sameName(endpoint *mesh.Endpoint, name string) bool {
	port := strconv.Itoa(int(endpoint.Address.AddrPort.Port()))
	return net.JoinHostPort(endpoint.Hostname, port) == name
}

func lookUp(ctx context.Context, name string, one bool) ([]mesh.Endpoint, error) {
	host, portText, err := net.SplitHostPort(name)
	if err != nil {
		return nil, fmt.Errorf("name %q: %w", name, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("name %q: port: %w", name, err)
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("look up %q: %w", host, err)
	}
	slices.SortFunc(addrs, netip.Addr.Compare)
	if one {
		addrs = addrs[:min(1, len(addrs))]
	}
	all := make([]mesh.Endpoint, 0, len(addrs))
	for _, addr := range addrs {
		all = append(all, mesh.Endpoint{
			Address: mesh.Address{AddrPort: netip.AddrPortFrom(addr.Unmap(), uint16(port))}, Hostname: host, Weight: 1,
		})
	}
	return all, nil
}
