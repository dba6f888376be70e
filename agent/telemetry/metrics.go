package telemetry

import (
	"iter"
	"sync"
	"sync/atomic"

	"github.com/serai-net/serai/connect/wire"
)

// MetricsConfig bounds what is counted.
//
//	metrics { max_series = 20000 }
type MetricsConfig struct {
	// MaxSeries bounds the combinations of source, destination, route, consumer,
	// code and flag that are told apart; histograms are kept for a tenth as many
	// combinations of source, destination and route. What is beyond is counted
	// with source, route and consumer "other". 0 means 10000.
	MaxSeries int `hcl:"max_series,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells what is wrong, with the block's position in front.
func (c *MetricsConfig) Validate() error {
	if c.MaxSeries != 0 && (c.MaxSeries < minSeries || c.MaxSeries > maxSeries) {
		return at(c.Pos, "metrics: max_series is %d; it can be %d to %d", c.MaxSeries, minSeries, maxSeries)
	}
	return nil
}

const (
	defaultSeries        = 10000
	minSeries, maxSeries = 100, 1000000
)

// Metrics counts exchanges and connections as they end. What owners count
// themselves, such as listeners and clusters, it reads when it is asked. All of
// it is safe for concurrent use; counting what was counted before takes no lock
// and no memory.
type Metrics struct {
	// series and paths that there are; those with "other" in them have room of
	// their own, so that they are there when they are needed
	series, otherSeries, paths, otherPaths quota
	// collapsed counts exchanges and connections counted with "other".
	collapsed atomic.Int64

	mu sync.Mutex // guards:
	// sites are made when listeners are compiled, and stay.
	sites   map[siteKey]*site
	sources []iter.Seq[Sample]
}

type siteKey struct {
	direction Direction
	service   string
	tcp       bool
}

// quota counts what there is, up to a limit.
type quota struct {
	count atomic.Int64
	limit int64
}

func (q *quota) full() bool { return q.count.Load() >= q.limit }

// take takes a place if there is one. It is called by one goroutine at a time.
func (q *quota) take() bool {
	if q.full() {
		return false
	}
	q.count.Add(1)
	return true
}

// NewMetrics returns Metrics that count nothing yet; a nil c has the defaults.
func NewMetrics(c *MetricsConfig) *Metrics {
	most := int64(defaultSeries)
	if c != nil && c.MaxSeries > 0 {
		most = int64(c.MaxSeries)
	}
	m := &Metrics{sites: map[siteKey]*site{}}
	m.series.limit, m.otherSeries.limit = most, most/8
	m.paths.limit, m.otherPaths.limit = most/10, most/80+1
	return m
}

// site returns what counts at p. It outlives configurations.
func (m *Metrics) site(p *Place, tcp bool) *site {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := siteKey{p.Direction, p.Service, tcp}
	s := m.sites[key]
	if s == nil {
		s = &site{
			metrics: m, direction: p.Direction, service: p.Service, tcp: tcp,
			bounds: requestBounds(), paths: map[pathLabels]*path{},
		}
		if tcp {
			s.bounds = connectionBounds()
		}
		s.keys.Store(&map[pathKey]*path{})
		m.sites[key] = s
	}
	return s
}

// request counts an exchange that has ended.
func (s *site) request(p *Place, x *wire.Exchange) {
	path, one := s.count(s.pathOf(p, x), x)
	if x.BytesIn > 0 {
		one.in.Add(x.BytesIn)
	}
	if x.BytesOut > 0 {
		one.out.Add(x.BytesOut)
	}
	upstream, proxy := x.Upstream()
	path.times.observe(inProxy, s.bounds, proxy)
	path.times.observe(inAll, s.bounds, duration(x))
	if tries := len(x.Attempts); tries > 0 {
		path.times.observe(inUpstream, s.bounds, upstream)
		if tries > 1 {
			path.retries.Add(int64(tries - 1))
		}
	}
}

// Add lets what an owner counts be shown with the rest. source is called for
// each scrape, from any goroutine.
func (m *Metrics) Add(source iter.Seq[Sample]) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sources = append(m.sources, source)
}
