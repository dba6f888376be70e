package dns

import (
	"iter"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// counts counts the responses of a zone by rcode; the last place is all rcodes
// that have none.
type counts [dns.RcodeNotZone + 2]atomic.Int64

func (c *counts) add(rcode int) {
	if rcode < 0 || rcode >= len(c) {
		rcode = len(c) - 1
	}
	c[rcode].Add(1)
}

// dropped counts packets and connections that got no response.
type dropped struct {
	// short packets have no header, responses are no queries, queries and
	// connections were over their bounds.
	short, responses, queries, connections atomic.Int64
}

// Stats are the counters of a Server since it was made.
type Stats struct {
	// Queries by UDP and by TCP that were read.
	UDP, TCP int64
	// Connections are those by TCP that live.
	Connections int64
	// Short and Responses are packets that got no answer since they have no
	// header or are no query; Overflow are queries over MaxQueries, and
	// ConnectionOverflow connections over MaxConnections.
	Short, Responses, Overflow, ConnectionOverflow int64
	// Forwarded counts queries to resolvers, ForwardRetries those that were
	// repeated to another one or by TCP, ForwardFailures those that no resolver
	// has answered, ForwardShared those that took the answer to an equal one,
	// ForwardOverflow those over MaxForwards.
	Forwarded, ForwardRetries, ForwardFailures, ForwardShared, ForwardOverflow int64
	// Rcodes are responses by zone and rcode, as "mesh.NOERROR"; the zone of
	// what no zone has got is "refused", that of all other names ".".
	Rcodes map[string]int64
}

// All yields the counters by name.
func (s Stats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, one := range []struct {
			name  string
			value int64
		}{
			{"queries.udp", s.UDP},
			{"queries.tcp", s.TCP},
			{"connections", s.Connections},
			{"dropped.short", s.Short},
			{"dropped.responses", s.Responses},
			{"dropped.overflow", s.Overflow},
			{"dropped.connections", s.ConnectionOverflow},
			{"forward.total", s.Forwarded},
			{"forward.retries", s.ForwardRetries},
			{"forward.failures", s.ForwardFailures},
			{"forward.shared", s.ForwardShared},
			{"forward.overflow", s.ForwardOverflow},
		} {
			if !yield(one.name, one.value) {
				return
			}
		}
		for name, value := range s.Rcodes {
			if !yield("zone."+name, value) {
				return
			}
		}
	}
}

// addTo puts the counters of a zone into a map.
func (c *counts) addTo(all map[string]int64, origin string) {
	name := strings.TrimSuffix(origin, ".")
	if name == "" {
		name = origin
	}
	for rcode := range c {
		if n := c[rcode].Load(); n > 0 {
			text := dns.RcodeToString[rcode]
			if rcode == len(c)-1 {
				text = "OTHER"
			}
			all[name+"."+text] += n
		}
	}
}
