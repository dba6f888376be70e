package mesh

import "time"

// HealthCheck answers requests that ask for our health (xDS:
// filters.http.health_check.v3).
type HealthCheck struct {
	// Headers tell which requests do: all must match.
	Headers []HeaderMatch
	// PassThrough asks the upstream; CacheTime, if not 0, for so long only once.
	PassThrough bool
	CacheTime   time.Duration
	// Clusters must have so many healthy endpoints, in percent, else we are not
	// healthy.
	Clusters map[string]float64
}
