package catalog

import (
	"iter"
	"sync/atomic"
)

// counts are what an Index counts of itself.
type counts struct {
	services, followed, remote, sources, displaced, swept atomic.Int64
}

// IndexStats are the counters of an Index since NewIndex.
type IndexStats struct {
	// Services are known in the own datacenter, Left are those that it has above
	// the bound, Followed those with a blocking query.
	Services, Left, Followed int64
	// Remote are the services of other datacenters, Sources the services whose
	// intentions are followed.
	Remote, Sources int64
	// Displaced were dropped for one that was asked for later, Swept counts the
	// queries for services without a blocking query.
	Displaced, Swept int64
	// Queries were sent, Errors of them failed, Held answers were not believed.
	Queries, Errors, Held int64
}

// Stats returns the counters.
func (x *Index) Stats() IndexStats {
	return IndexStats{
		Services: x.counts.services.Load(), Left: x.own.names.left.Load(), Followed: x.counts.followed.Load(),
		Remote: x.counts.remote.Load(), Sources: x.counts.sources.Load(),
		Displaced: x.counts.displaced.Load(), Swept: x.counts.swept.Load(),
		Queries: x.trace.queries.Load(), Errors: x.trace.errors.Load(), Held: x.trace.held.Load(),
	}
}

// All yields the counters by name.
func (s IndexStats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		_ = yield("services", s.Services) &&
			yield("services_left_out", s.Left) &&
			yield("services_followed", s.Followed) &&
			yield("remote_services_followed", s.Remote) &&
			yield("intention_sources_followed", s.Sources) &&
			yield("displaced_total", s.Displaced) &&
			yield("swept_total", s.Swept) &&
			yield("queries_total", s.Queries) &&
			yield("query_errors_total", s.Errors) &&
			yield("answers_held_total", s.Held)
	}
}
