package upstream

import (
	"context"
	"log/slog"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/http2"
)

// Set is all clusters of a data plane. Looking one up never waits; changes are
// made by one goroutine at a time. It is safe for concurrent use.
type Set struct {
	log     *slog.Logger
	loader  mtls.Loader
	buffers http1.Buffers
	shared  http2.Buffers
	bulk    bulk.Buffers
	nudged  chan struct{} // has room for one; told that Run should look at once
	// registry is where what stands on our clusters counts; nil for nowhere
	registry *stats.Registry
	lookup   lookup
	// connections counts those that were made
	connections atomic.Uint64
	checking    places    // for health checks under way
	wanted      chan want // connections to be made beforehand; what has no room is not made

	clusters atomic.Pointer[map[string]*Cluster]

	mu sync.Mutex // guards:
	// endpoints are the latest sets by name, also those whose cluster is still
	// to come.
	endpoints map[string]*mesh.EndpointSet
	// users are the clusters whose hosts a set of endpoints is, by its name.
	users map[string][]*Cluster
	// gone is what clusters have counted that are no more while others of their
	// stat name are, which is its key.
	gone map[string]*stats.Sum
	// where tells how far away hosts are; nil for nothing.
	where *mesh.Map
}

// NewSet returns a Set without clusters.
func NewSet(log *slog.Logger) *Set {
	s := &Set{lookup: net.DefaultResolver.LookupNetIP, log: log, nudged: make(chan struct{}, 1), wanted: make(chan want, maxWanted), checking: places{most: checksAtOnce}, endpoints: map[string]*mesh.EndpointSet{}, users: map[string][]*Cluster{}, gone: map[string]*stats.Sum{}}
	s.clusters.Store(&map[string]*Cluster{})
	return s
}

// CountIn names the registry in which all that is made with our clusters counts.
// It is called before anything is.
func (s *Set) CountIn(r *stats.Registry) { s.registry = r }

// Registry is that of CountIn; nil, which counts for nobody, without it.
func (s *Set) Registry() *stats.Registry { return s.registry }

// Buffers lends memory to who moves raw bytes.
func (s *Set) Buffers() *bulk.Buffers { return &s.bulk }

// Cluster returns the cluster of that name, nil if there is none.
func (s *Set) Cluster(name string) *Cluster { return (*s.clusters.Load())[name] }

// Prepare compiles next; commit puts it in force. Clusters that stay keep their
// hosts and connections; a new certificate is used from the next dial on. A
// cluster that cannot be compiled refuses its traffic and does not fail the
// others.
func (s *Set) Prepare(next map[string]*mesh.Cluster) (commit func(), err error) {
	compiled := map[string]*config{} // mostly it is few that change
	for name, definition := range next {
		if c := s.Cluster(name); c != nil && c.config.Load().Cluster == definition {
			continue
		}
		compiled[name] = s.compile(definition, s.Cluster(name))
	}
	return func() { s.commit(next, compiled) }, nil
}

// compile makes a configuration; old is the cluster as it is, nil if it is new. With
// the same leaf, roots and names, sessions live on.
func (s *Set) compile(definition *mesh.Cluster, old *Cluster) *config {
	c := &config{Cluster: definition, metadata: wire.NewMetadata(definition.Metadata), refusal: definition.Refusal}
	if definition.ProxyProtocol != 0 && definition.Protocol != mesh.HTTP1 && c.refusal == "" {
		c.refusal = "the PROXY protocol with HTTP/2, whose connections serve many clients, is not possible"
	}
	if definition.TLS == nil {
		return c
	}
	if old != nil {
		if last := old.config.Load(); last.secure != nil && reflect.DeepEqual(last.TLS, definition.TLS) {
			c.secure, c.behind = last.secure, last.behind
			return c
		}
	}
	client, err := s.loader.Client(definition.TLS)
	if err != nil && old != nil && old.config.Load().secure != nil && onlyLeafDiffers(old.config.Load().TLS, definition.TLS) {
		c.secure = old.config.Load().secure
		c.behind = "the last certificate stays, since the new one cannot be used: " + err.Error()
		s.log.Error("a new certificate is not taken, the last one stays", "cluster", definition.Name, "err", err)
		return c
	}
	if err != nil {
		c.refusal = err.Error()
		s.log.Error("cluster refused", "cluster", definition.Name, "err", err)
		return c
	}
	c.secure = &security{Client: client}
	return c
}

// onlyLeafDiffers tells whether two definitions ask the same of a peer: then the
// certificate that was shown may go on being shown.
func onlyLeafDiffers(before, now *mesh.UpstreamTLS) bool {
	if before == nil {
		return false
	}
	a, b := *before, *now
	a.Leaf, b.Leaf = mesh.Leaf{}, mesh.Leaf{}
	return reflect.DeepEqual(a, b)
}

// Refused tells which clusters are not served as they were defined, by name and
// reason, beyond those whose definition says so itself.
func (s *Set) Refused() map[string]string {
	var all map[string]string
	for name, c := range *s.clusters.Load() {
		cfg := c.config.Load()
		reason := cfg.behind
		if cfg.refusal != cfg.Refusal {
			reason = cfg.refusal
		}
		if reason == "" {
			continue
		}
		if all == nil {
			all = map[string]string{}
		}
		all[name] = reason
	}
	return all
}

func (s *Set) commit(next map[string]*mesh.Cluster, compiled map[string]*config) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := *s.clusters.Load()
	clusters := current
	if !sameKeys(current, next) {
		clusters = make(map[string]*Cluster, len(next))
		for name := range next {
			c := current[name]
			if c == nil {
				c = &Cluster{name: strings.Clone(name), set: s}
				c.hosts.Store(&hosts{})
			}
			clusters[name] = c
		}
	}
	var left []string // sets of endpoints that somebody has used
	look := false
	for name, fresh := range compiled {
		c := clusters[name]
		left = s.use(c, c.config.Load(), fresh, left)
		s.configure(c, fresh)
		look = look || fresh.named() || fresh.Check != nil
	}
	s.clusters.Store(&clusters)
	if look {
		s.nudge() // now that Run finds those that are new
	}
	for name, gone := range current {
		if clusters[name] == nil {
			left = s.use(gone, gone.config.Load(), nil, left)
			s.keep(gone)
			gone.close()
		}
	}
	s.forget()
	for _, name := range left {
		if s.users[name] == nil {
			delete(s.endpoints, name)
		}
	}
}

// sameKeys tells whether clusters neither come nor go.
func sameKeys(current map[string]*Cluster, next map[string]*mesh.Cluster) bool {
	if len(current) != len(next) {
		return false
	}
	for name := range next {
		if current[name] == nil {
			return false
		}
	}
	return true
}

// use notes which set of endpoints c uses from now on, and which no more: that it adds
// to left. old and fresh may be nil. Callers hold the lock.
func (s *Set) use(c *Cluster, old, fresh *config, left []string) []string {
	before, now := old.usedName(), fresh.usedName()
	if before == now {
		return left
	}
	if now != "" {
		s.users[now] = append(s.users[now], c)
	}
	if before == "" {
		return left
	}
	users := slices.DeleteFunc(s.users[before], func(other *Cluster) bool { return other == c })
	if s.users[before] = users; len(users) == 0 {
		delete(s.users, before)
	}
	return append(left, before)
}

// configure puts fresh in force. Callers hold the lock.
func (s *Set) configure(c *Cluster, fresh *config) {
	fresh.asks = fresh.Check
	if last := c.config.Load(); last != nil && reflect.DeepEqual(last.asks, fresh.Check) {
		fresh.asks = last.asks
	}
	old := c.config.Swap(fresh)
	c.slots() // limits may have been raised
	keep := old == nil || old.samePeers(fresh)
	c.detect(fresh.Outlier)
	if !keep || fresh.Kind != mesh.ClusterOriginalDst {
		c.originals.close()
	}
	switch {
	case !fresh.named():
		c.setEndpoints(s.endpointsOf(fresh), keep)
	case old != nil && old.sameNames(fresh):
		c.setEndpoints(c.hosts.Load().set(), keep)
	default:
		c.setEndpoints(nil, keep)
		c.names.anew()
		c.lookedUp.Store(0)
	}
}

// nudge makes Run look at once.
func (s *Set) nudge() {
	select {
	case s.nudged <- struct{}{}:
	default: // told already
	}
}

func (s *Set) endpointsOf(c *config) *mesh.EndpointSet {
	if c.Kind == mesh.ClusterEDS {
		return s.endpoints[c.endpointName()]
	}
	return c.Endpoints
}

// SetEndpoints swaps the endpoints of one cluster for set, which must not be changed
// afterwards. A set whose cluster is not there yet is kept for it. Hosts that stay keep
// their connections; those that go finish what is under way.
func (s *Set) SetEndpoints(set *mesh.EndpointSet) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[set.Name] = set
	for _, c := range s.users[set.Name] {
		c.setEndpoints(set, true)
	}
}

// Locate tells where we and others are: of the hosts that the control plane names,
// those of our own zone are taken as long as enough of them are healthy, then those
// of our region, then all others, as between priorities.
func (s *Set) Locate(where *mesh.Map) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.where = where
	now := time.Now()
	for _, c := range *s.clusters.Load() {
		if c.config.Load().Kind == mesh.ClusterEDS {
			c.plan(c.hosts.Load().all, now)
		}
	}
}

// Run looks after what time does to clusters: it closes connections that were
// idle for too long, makes those that are wanted beforehand, looks names up, and
// ejects hosts and takes them back. It returns when ctx ends.
func (s *Set) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	lookups := newResolver(s)
	defer lookups.wait()
	var making sync.WaitGroup
	defer making.Wait()
	for {
		select {
		case <-ctx.Done():
			return nil
		case w := <-s.wanted:
			making.Go(func() { w.host.prepare(ctx, w.should) })
			continue
		case <-s.nudged:
		case <-tick.C:
		}
		s.sweep(ctx, lookups, time.Now())
	}
}

func (s *Set) sweep(ctx context.Context, lookups *resolver, now time.Time) {
	for _, c := range *s.clusters.Load() {
		idle, oldest := c.config.Load().idleSince(now)
		hs := c.hosts.Load()
		for _, h := range hs.all {
			if n := h.pool.sweep(idle, oldest) + h.shared.sweep(idle, oldest); n > 0 {
				c.cxIdle.Add(int64(n))
			}
		}
		c.cxIdle.Add(c.originals.sweep(idle, oldest, now))
		c.cxIdle.Add(c.named.sweep(idle, oldest, now))
		lookups.refresh(ctx, c, now)
		c.supervise(ctx, &lookups.running)
		c.examine(now)
		if c.stale.Swap(false) || hs.ramping {
			s.mu.Lock()
			c.plan(c.hosts.Load().all, now)
			s.mu.Unlock()
		}
	}
}

// Close closes all idle connections.
func (s *Set) Close() {
	for _, c := range *s.clusters.Load() {
		c.close()
	}
}

// Stats returns the counters of all clusters, sorted by name.
func (s *Set) Stats() []Stats {
	all := make([]Stats, 0)
	for _, c := range *s.clusters.Load() {
		all = append(all, c.Stats())
	}
	slices.SortFunc(all, func(a, b Stats) int { return strings.Compare(a.Name, b.Name) })
	return all
}
