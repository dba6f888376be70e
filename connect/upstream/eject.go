package upstream

import (
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// offence is why a host is ejected.
type offence uint8

const (
	consecutive5xx offence = iota
	consecutiveGateway
	consecutiveLocalOrigin
	successRate
	localOriginSuccessRate
	failurePercentage
	localOriginFailurePercentage
	offenceCount
)

// String is Envoy's name of the offence in its counters.
func (o offence) String() string {
	return [offenceCount]string{
		"consecutive_5xx", "consecutive_gateway_failure", "consecutive_local_origin_failure",
		"success_rate", "local_origin_success_rate", "failure_percentage", "local_origin_failure_percentage",
	}[o]
}

// enforcing is how likely an offence leads to an ejection, in percent.
func (o offence) enforcing(d *mesh.Outlier) uint32 {
	return [offenceCount]uint32{
		d.EnforcingConsecutive5xx, d.EnforcingConsecutiveGatewayFailure, d.EnforcingConsecutiveLocalOriginFailure,
		d.EnforcingSuccessRate, d.EnforcingLocalOriginSuccessRate,
		d.EnforcingFailurePercentage, d.EnforcingFailurePercentageLocalOrigin,
	}[o]
}

// spell is one ejection, and how many there were of late.
type spell struct {
	since  time.Time
	jitter time.Duration
	// times is what the base time is multiplied with; each interval in which the
	// host behaves takes one off.
	times int
}

// over tells whether the host may come back.
func (s *spell) over(d *mesh.Outlier, now time.Time) bool {
	most := max(d.MaxEjection, d.BaseEjection)
	return now.Sub(s.since) >= min(time.Duration(s.times)*d.BaseEjection, most)+s.jitter
}

// ejections is what outlier detection knows of a cluster.
type ejections struct {
	active, overflow   atomic.Int64
	total              atomic.Int64 // by Envoy's oldest name: enforced or not, of the offences that were known then
	detected, enforced [offenceCount]atomic.Int64
	// rates are average and threshold, of answers and of what went wrong on our side.
	rates [4]rate

	mu sync.Mutex // guards:
	// last is when an interval began.
	last time.Time
}

// detect begins or ends detection as d says. Callers hold the set's lock.
func (c *Cluster) detect(d *mesh.Outlier) {
	switch {
	case d != nil && c.ejections.Load() == nil:
		c.ejections.Store(&ejections{last: time.Now()})
	case d == nil && c.ejections.Load() != nil:
		for _, h := range c.hosts.Load().all {
			c.forget(h)
		}
	}
}

// forget takes back what detection knows of a host.
func (c *Cluster) forget(h *Host) {
	e := c.ejections.Load()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if o := h.outlier.Swap(nil); o != nil && o.ejected.Swap(false) {
		e.active.Add(-1)
	}
}

// eject takes a host out of use for an offence, if it is to be enforced and not
// too many are out already.
func (c *Cluster) eject(h *Host, o *outlier, d *mesh.Outlier, why offence) {
	e := c.ejections.Load()
	e.mu.Lock()
	defer e.mu.Unlock()
	if !o.reset(why, d) {
		return // another exchange was first
	}
	if o.ejected.Load() || h.outlier.Load() != o {
		return
	}
	e.detected[why].Add(1)
	out := e.active.Load()
	share := 100 * float64(out+1) / float64(len(c.hosts.Load().all))
	if share > float64(min(d.MaxEjectionPercent, 100)) && (!d.AlwaysEjectOne || out > 0) {
		e.overflow.Add(1)
		return
	}
	if why == consecutive5xx || why == successRate {
		e.total.Add(1)
	}
	if rand.Uint32N(100) >= why.enforcing(d) {
		return
	}
	e.active.Add(1)
	e.enforced[why].Add(1)
	if time.Duration(o.times)*d.BaseEjection < max(d.MaxEjection, d.BaseEjection)+d.BaseEjection {
		o.times++
	}
	if o.since, o.jitter = time.Now(), 0; d.MaxEjectionJitter > 0 {
		o.jitter = rand.N(d.MaxEjectionJitter)
	}
	o.ejected.Store(true)
	c.set.log.Info("endpoint ejected", "cluster", c.name, "endpoint", h.text, "reason", why.String(), "times", o.times)
	c.unhealthy(h)
	c.stale.Store(true)
	c.set.nudge()
}

// reset begins to count anew if there are as many failures in a row as there may
// be, which may be fewer than before. Other offences count by the interval.
func (o *outlier) reset(why offence, d *mesh.Outlier) bool {
	count, most := &o.fives, d.Consecutive5xx
	switch why {
	case consecutive5xx:
	case consecutiveGateway:
		count, most = &o.gateway, d.ConsecutiveGatewayFailure
	case consecutiveLocalOrigin:
		count, most = &o.local, d.ConsecutiveLocalOriginFailure
	default:
		return true
	}
	if count.Load() < most {
		return false
	}
	count.Store(0)
	return true
}

// examine does what is done once an interval: ejected hosts come back, and hosts
// are compared with one another.
func (c *Cluster) examine(now time.Time) {
	e, d := c.ejections.Load(), c.config.Load().Outlier
	if e == nil || d == nil {
		return
	}
	e.mu.Lock()
	due := now.Sub(e.last) >= d.Interval
	if due {
		e.last = now
	}
	e.mu.Unlock()
	if !due {
		return
	}
	all := c.hosts.Load().all
	for _, h := range all {
		if o := h.outlier.Load(); o != nil && e.restore(o, d, now) {
			h.succeeded() // no pause of before holds it back
			c.set.log.Info("endpoint is back", "cluster", c.name, "endpoint", h.text)
			c.stale.Store(true)
		}
	}
	c.compare(all, d, false)
	if d.SplitLocalOrigin {
		c.compare(all, d, true)
	}
}

// restore takes a host back when it is time, and tells whether it did. A host that
// has behaved since is forgiven one ejection.
func (e *ejections) restore(o *outlier, d *mesh.Outlier, now time.Time) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case !o.ejected.Load():
		o.times = max(0, o.times-1)
		return false
	case !o.over(d, now):
		return false
	}
	e.backLocked(o)
	return true
}

// back takes a host back whatever its time, if it is ejected.
func (e *ejections) back(o *outlier) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if o.ejected.Load() {
		e.backLocked(o)
	}
}

func (e *ejections) backLocked(o *outlier) {
	o.ejected.Store(false)
	o.fives.Store(0)
	o.gateway.Store(0)
	o.local.Store(0)
	e.active.Add(-1)
}

// record is how one host did in an interval.
type record struct {
	host *Host
	o    *outlier
	rate float64 // of success, in percent
	all  uint32
}

// compare looks at how hosts did in an interval: by what they answered, or by what
// went wrong on our side of them.
func (c *Cluster) compare(all []*Host, d *mesh.Outlier, local bool) {
	var records []record
	for _, h := range all {
		o := h.outlier.Load()
		if o == nil {
			continue
		}
		v := &o.external
		if local {
			v = &o.localOrigin
		}
		v.rate.forget()
		if n, well := v.take(); n > 0 && !o.ejected.Load() {
			records = append(records, record{h, o, 100 * float64(well) / float64(n), n})
			if n >= d.SuccessRateRequestVolume {
				v.rate.set(100 * float64(well) / float64(n))
			}
		}
	}
	byRate, byPercentage := successRate, failurePercentage
	if local {
		byRate, byPercentage = localOriginSuccessRate, localOriginFailurePercentage
	}
	average, threshold := c.ejections.Load().seen(local)
	average.forget()
	threshold.forget()
	if known := enough(records, d.SuccessRateRequestVolume, d.SuccessRateMinimumHosts); len(known) > 0 {
		mean, deviation := spreadOf(known)
		least := mean - deviation*float64(d.SuccessRateStdevFactor)/1000
		average.set(mean)
		threshold.set(least)
		for _, r := range known {
			if r.rate < least {
				c.eject(r.host, r.o, d, byRate)
			}
		}
	}
	for _, r := range enough(records, d.FailurePercentageRequestVolume, d.FailurePercentageMinimumHosts) {
		if 100-r.rate >= float64(d.FailurePercentageThreshold) {
			c.eject(r.host, r.o, d, byPercentage)
		}
	}
}

// enough are the records of at least so many exchanges, if there are enough of them.
func enough(records []record, volume, hosts uint32) []record {
	var some []record
	for _, r := range records {
		if r.all >= volume {
			some = append(some, r)
		}
	}
	if len(some) < int(max(1, hosts)) {
		return nil
	}
	return some
}

// spreadOf are the mean and the standard deviation of rates.
func spreadOf(records []record) (mean, deviation float64) {
	variance := 0.0
	for _, r := range records {
		mean += r.rate / float64(len(records))
	}
	for _, r := range records {
		variance += (r.rate - mean) * (r.rate - mean) / float64(len(records))
	}
	return mean, math.Sqrt(variance)
}

// seen are the average and the threshold of the rates of success in the last interval.
func (e *ejections) seen(local bool) (average, threshold *rate) {
	if local {
		return &e.rates[2], &e.rates[3]
	}
	return &e.rates[0], &e.rates[1]
}

// OutlierStats are the counters of outlier detection.
type OutlierStats struct {
	// Active hosts are ejected now; Overflow were not, since too many are. Total
	// is what Envoy calls ejections_total: by failures in a row or by the rate of
	// success, enforced or not.
	Active, Overflow, Total int64
	// Detected and Enforced are ejections by Envoy's name of their reason.
	Detected, Enforced map[string]int64
	// Average and Threshold are those of the rates of success of hosts in the last
	// interval, in percent, LocalAverage and LocalThreshold of what went wrong on our
	// side of them; -1 if there were too few exchanges, or hosts.
	Average, Threshold, LocalAverage, LocalThreshold float64
}

func (e *ejections) stats() *OutlierStats {
	s := &OutlierStats{
		Average: e.rates[0].load(), Threshold: e.rates[1].load(), LocalAverage: e.rates[2].load(), LocalThreshold: e.rates[3].load(),
		Active: e.active.Load(), Overflow: e.overflow.Load(), Total: e.total.Load(),
		Detected: make(map[string]int64, offenceCount), Enforced: make(map[string]int64, offenceCount),
	}
	for o := range offenceCount {
		s.Detected[o.String()], s.Enforced[o.String()] = e.detected[o].Load(), e.enforced[o].Load()
	}
	return s
}

// EnforcedTotal is the sum of Enforced.
func (s *OutlierStats) EnforcedTotal() int64 {
	total := int64(0)
	for _, n := range s.Enforced {
		total += n
	}
	return total
}

func (s *OutlierStats) all(yield func(string, int64) bool) {
	const prefix = "outlier_detection."
	if !yield(prefix+"ejections_active", s.Active) || !yield(prefix+"ejections_overflow", s.Overflow) ||
		!yield(prefix+"ejections_enforced_total", s.EnforcedTotal()) || !yield(prefix+"ejections_total", s.Total) {
		return
	}
	for _, o := range []offence{consecutive5xx, successRate} { // their older names
		if !yield(prefix+"ejections_"+o.String(), s.Detected[o.String()]) {
			return
		}
	}
	for o := range offenceCount {
		if !yield(prefix+"ejections_detected_"+o.String(), s.Detected[o.String()]) ||
			!yield(prefix+"ejections_enforced_"+o.String(), s.Enforced[o.String()]) {
			return
		}
	}
}
