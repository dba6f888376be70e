package trace

import "github.com/serai-net/serai/connect/stats"

// Counts tells of requests why they were traced, by Envoy's names below
// http.<stat_prefix>.tracing. The zero value is ready for use, by any goroutine.
type Counts struct {
	clientAsked, sampled, forced, untraced stats.Counter
}

// Each yields all that it counts.
func (c *Counts) Each(yield func(stats.Stat) bool) {
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"client_enabled", c.clientAsked.Load()},
		{"random_sampling", c.sampled.Load()},
		{"service_forced", c.forced.Load()},
		{"not_traceable", c.untraced.Load()},
		// What a health check is shows later than whether it is traced, in Envoy, too.
		{"health_check", 0},
	} {
		if !yield(stats.Stat{Name: one.name, Value: one.value}) {
			return
		}
	}
}

// Count lets c count what is decided, and returns t. It is called before Layer.
func (t *Tracer) Count(c *Counts) *Tracer {
	if t != nil {
		t.counts = c
	}
	return t
}

// count notes what was decided, here or by the proxies before us.
func (c *Counts) count(reason byte) {
	if c == nil {
		return
	}
	switch reason {
	case clientAsked:
		c.clientAsked.Add(1)
	case sampled:
		c.sampled.Add(1)
	case forced:
		c.forced.Add(1)
	default:
		c.untraced.Add(1)
	}
}
