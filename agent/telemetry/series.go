package telemetry

import (
	"maps"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/serai-net/serai/connect/wire"
)

// other takes the place of labels for which there is no room any more.
const other = "other"

// site is all that passes in one direction on behalf of one service; HTTP
// exchanges and TCP connections have one each.
//
//	site ── pathKey (as the exchange has it) ──▶ path (by labels) ── seriesKey ──▶ series
type site struct {
	metrics   *Metrics
	direction Direction
	service   string
	tcp       bool
	bounds    *bounds

	// keys finds paths for what exchanges bring. It is replaced whole.
	keys atomic.Pointer[map[pathKey]*path]

	// guarded by metrics.mu
	paths map[pathLabels]*path
}

// pathKey is what an exchange brings, before it is made labels: several keys may
// have the same ones.
type pathKey struct{ source, cluster, api, route string }

// pathLabels tell paths of one site apart.
type pathLabels struct{ source, destination, route string }

// path counts what goes from one source to one destination by one route. What
// each exchange reads and writes stands in front: there may be many paths, of
// which none is in the processor's cache.
type path struct {
	site *site
	// cluster is the one of the exchange for which the path was made.
	cluster string
	// last is the series in which an exchange was counted last.
	last atomic.Pointer[series]
	// times of requests: in the proxy, upstream, and all of it; of connections the
	// last only
	times   histograms
	retries atomic.Int64
	// active are living connections; in and out their bytes, and those of
	// connections that have ended
	active, in, out atomic.Int64

	labels pathLabels
	// collapsed says that these labels stand for too many others.
	collapsed bool

	series atomic.Pointer[map[seriesKey]*series]
}

// seriesKey tells series of one path apart.
type seriesKey struct {
	consumer string
	code     uint16
	flag     wire.Flag
}

// series counts exchanges that ended in one way for one consumer; in and out are
// bytes of bodies.
type series struct {
	key            seriesKey
	count, in, out atomic.Int64
	collapsed      bool
}

// maxKeys bounds site.keys; past it they are found anew.
const maxKeys = 1 << 14

// pathOf returns the path of x at p, which is made if it is not there. It takes
// no lock if it is.
func (s *site) pathOf(p *Place, x *wire.Exchange) *path {
	route, ok := x.Counted.(*Route)
	if !ok || (s.direction != Edge && s.direction != Outbound) {
		return s.lookUp(p, x, true) // or the source is not the same for all exchanges
	}
	before := route.path.Load()
	if before != nil && before.site == s && before.isOf(x.Cluster) {
		return before
	}
	found := s.lookUp(p, x, before != nil)
	route.path.Store(found)
	return found
}

// isOf tells whether p, which was found for a route before, is the path for that
// route and a cluster.
func (p *path) isOf(cluster string) bool {
	// the path of all that has no other has no cluster, as have exchanges that ended early
	return p.cluster == cluster && (cluster != "" || !p.collapsed)
}

// lookUp is pathOf by the names that x has. If keep is false, a path that is not
// among the keys is not put there: the route remembers it.
func (s *site) lookUp(p *Place, x *wire.Exchange, keep bool) *path {
	k := pathKey{cluster: x.Cluster, api: x.API, route: x.Route}
	if s.direction != Edge && s.direction != Outbound {
		k.source = x.Peer.ID.String()
	}
	if found := (*s.keys.Load())[k]; found != nil {
		return found
	}
	return s.addPath(&k, pathLabels{source: p.source(x), destination: p.destination(x), route: routeOf(x.API, x.Route)}, keep)
}

// count counts x, which has ended, in p or, if there are too many series, in the
// path that it returns.
func (s *site) count(p *path, x *wire.Exchange) (*path, *series) {
	sk := seriesKey{consumer: x.Consumer, flag: x.Flag}
	if sk.consumer == "" {
		sk.consumer = none
	}
	if x.Status > 0 && x.Status < codeClass {
		sk.code = uint16(x.Status)
	}
	one := p.last.Load()
	if one == nil || one.key != sk {
		if one = (*p.series.Load())[sk]; one == nil {
			p, one = s.addSeries(p, sk)
		}
		p.last.Store(one)
	}
	one.count.Add(1)
	if one.collapsed {
		s.metrics.collapsed.Add(1)
	}
	return p, one
}

// addPath finds or makes the path for k by its labels, and keeps k.
func (s *site) addPath(k *pathKey, labels pathLabels, keep bool) *path {
	s.metrics.mu.Lock()
	defer s.metrics.mu.Unlock()
	labels = labels.clone()
	cluster := strings.Clone(k.cluster)
	p := s.pathLocked(labels, cluster, &s.metrics.paths)
	if p == nil {
		labels.source, labels.route = other, other
		p = s.pathLocked(labels, cluster, &s.metrics.otherPaths)
	}
	if p == nil {
		p = s.lastLocked()
	}
	if !keep {
		return p
	}
	keys := *s.keys.Load()
	next := make(map[pathKey]*path, len(keys)+1)
	if len(keys) < maxKeys {
		maps.Copy(next, keys)
	}
	next[pathKey{strings.Clone(k.source), cluster, strings.Clone(k.api), strings.Clone(k.route)}] = p
	s.keys.Store(&next)
	return p
}

// pathLocked finds or makes a path, nil if there is no room in limit.
func (s *site) pathLocked(labels pathLabels, cluster string, limit *quota) *path {
	if p := s.paths[labels]; p != nil {
		return p
	}
	if !limit.take() {
		return nil
	}
	p := &path{site: s, cluster: cluster, labels: labels, collapsed: labels.source == other && labels.route == other}
	p.series.Store(&map[seriesKey]*series{})
	s.paths[labels] = p
	return p
}

// lastLocked is the path of all that has no other.
func (s *site) lastLocked() *path {
	return s.pathLocked(pathLabels{other, other, other}, "", &quota{limit: 1})
}

// addSeries makes a series of p, or of the last path, with fewer labels if there
// are too many.
func (s *site) addSeries(p *path, sk seriesKey) (*path, *series) {
	m := s.metrics
	if one := m.addTo(p, sk, &m.series); one != nil {
		return p, one
	}
	sk.consumer = other
	if one := (*p.series.Load())[sk]; one != nil {
		return p, one
	}
	if one := m.addTo(p, sk, &m.otherSeries); one != nil {
		return p, one
	}
	m.mu.Lock()
	p = s.lastLocked()
	m.mu.Unlock()
	if sk.code > 0 {
		sk.code = codeClass + sk.code/100
	}
	if one := (*p.series.Load())[sk]; one != nil {
		return p, one
	}
	return p, m.addTo(p, sk, &quota{limit: 1}) // few classes, few flags
}

// addTo finds or makes a series of p, nil if there is no room in limit.
func (m *Metrics) addTo(p *path, sk seriesKey, limit *quota) *series {
	if limit.full() {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if sk.consumer != none {
		sk.consumer = valid(sk.consumer)
	}
	before := *p.series.Load()
	if one := before[sk]; one != nil {
		return one
	}
	if !limit.take() {
		return nil
	}
	next := maps.Clone(before)
	next[sk] = &series{key: sk, collapsed: p.collapsed || sk.consumer == other}
	p.series.Store(&next)
	return next[sk]
}

// clone makes labels of their own memory, which any exposition can show.
func (l pathLabels) clone() pathLabels {
	return pathLabels{valid(l.source), valid(l.destination), valid(l.route)}
}

// valid is text as UTF-8: names in certificates are percent-encoded bytes.
func valid(text string) string { return strings.Clone(strings.ToValidUTF8(text, "\ufffd")) }

// codeText is the label of a code: "-" for connections, "0" where no response
// was sent.
func codeText(code uint16, tcp bool) string {
	switch {
	case tcp:
		return none
	case code >= codeClass:
		return strconv.Itoa(int(code-codeClass)) + "xx"
	default:
		return strconv.Itoa(int(code))
	}
}

// codeClass is added to the first digit of a code, for the class.
const codeClass = 1000
