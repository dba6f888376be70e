package mesh

import (
	"net/netip"
	"time"
)

// Policy is a load-balancing policy.
type Policy uint8

// Load-balancing policies (xDS: Cluster.LbPolicy).
const (
	RoundRobin Policy = iota
	// LeastRequest takes the one with the fewest requests of some drawn at random.
	LeastRequest
	// Random ignores weights, as Envoy does.
	Random
	RingHash
	Maglev
)

// String is Consul's name of the policy.
func (p Policy) String() string {
	switch p {
	case LeastRequest:
		return "least_request"
	case Random:
		return "random"
	case RingHash:
		return "ring_hash"
	case Maglev:
		return "maglev"
	default:
		return "round_robin"
	}
}

// Balance is how endpoints are chosen.
type Balance struct {
	Policy Policy
	// Choices of LeastRequest; 0 means 2.
	Choices uint32
	// Bias of LeastRequest says how much requests under way count where weights
	// differ; without HasBias it is 1, and 0 makes it RoundRobin.
	Bias    float64
	HasBias bool
	// MinRing and MaxRing of RingHash; 0 means 1024 and 8 Mi.
	MinRing, MaxRing uint64
	// Murmur places endpoints on the ring by MurmurHash2 and not by xxHash.
	Murmur bool
	// Table is the size of Maglev's table, a prime; 0 means 65537.
	Table uint64
	// HashHostname places endpoints by their host name where they have one, and
	// not by their address.
	HashHostname bool
	// LocalityWeighted spreads requests over localities by their weights first.
	LocalityWeighted bool
	SlowStart        SlowStart
}

// SlowStart lets an endpoint that is new take its full share only by and by. It
// holds for RoundRobin and LeastRequest.
type SlowStart struct {
	// Window is how long that takes; 0 means no slow start.
	Window time.Duration
	// Aggression bends the way up; 0 means 1, which is straight.
	Aggression float64
	// MinPercent of the weight that is there from the start; without HasMin 10.
	MinPercent float64
	HasMin     bool
}

// Limits are circuit-breaker thresholds; HasX false means Envoy's default of
// 1024 (3 for retries).
type Limits struct {
	MaxConnections, MaxPending, MaxRequests, MaxRetries uint32
	HasConnections, HasPending, HasRequests, HasRetries bool
	// MaxHostConnections is how many connections one endpoint may have; without
	// HasHostConnections that is not bounded by itself.
	MaxHostConnections uint32
	HasHostConnections bool
	// Budget takes the place of MaxRetries; nil means none.
	Budget *RetryBudget
	// TrackRemaining counts what is left of each limit.
	TrackRemaining bool
}

// RetryBudget limits the retries under way to Percent of the requests under way,
// but not to fewer than MinConcurrency.
type RetryBudget struct {
	Percent        float64
	MinConcurrency uint32
}

// Pool is how connections to an endpoint are kept. Zero values are defaults.
type Pool struct {
	// MaxRequests of one connection, after which it is closed; 0 means no limit.
	MaxRequests uint32
	// IdleTimeout closes a connection without a request; 0 means 55 s, less than 0 never.
	IdleTimeout time.Duration
	// MaxAge is how old a connection may be and still take a request; 0 means no limit.
	MaxAge time.Duration
	// Preconnect is how many connections there should be for each request under way
	// (per_upstream_preconnect_ratio, 1 to 3); 0 means 1: none are made beforehand.
	Preconnect float64
	// Keepalive probes connections on which nothing comes.
	Keepalive Keepalive
	// Bind is the address that connections are made from; the zero value means that
	// the system chooses. It does not hold for unix sockets.
	Bind netip.AddrPort
	// Race is the order in which the addresses of one endpoint are tried.
	Race Race
	// CloseUnhealthy closes the raw connections to an endpoint that turns out to be
	// unhealthy.
	CloseUnhealthy bool
}

// Race is the order of the addresses of one endpoint (RFC 8305 section 4): families
// take turns.
type Race struct {
	// First is the family that begins, 4 or 6; 0 means that of the first address.
	First int
	// Count is how many of that family are tried before one of the other; 0 means 1.
	Count int
}

// Keepalive is that of TCP. Zero values mean 15 s, 15 s and 9 probes.
type Keepalive struct {
	Idle, Interval time.Duration
	Probes         int
}

// Outlier is outlier detection: endpoints are ejected by how they answer. All
// fields hold what is meant, so whoever makes one begins with [DefaultOutlier].
// Percentages beside MaxEjectionPercent are 0 to 100; "enforcing" ones are how
// likely what was detected is acted upon. 0 consecutive failures detects nothing.
type Outlier struct {
	Consecutive5xx, EnforcingConsecutive5xx                       uint32
	ConsecutiveGatewayFailure, EnforcingConsecutiveGatewayFailure uint32
	// SplitLocalOrigin tells failures to connect, timeouts and resets apart from
	// answers; the next two count only with it.
	SplitLocalOrigin                                                      bool
	ConsecutiveLocalOriginFailure, EnforcingConsecutiveLocalOriginFailure uint32

	Interval, BaseEjection, MaxEjection, MaxEjectionJitter time.Duration
	MaxEjectionPercent                                     uint32
	AlwaysEjectOne                                         bool
	// KeepEjected does not take an endpoint back because it passes its health check.
	KeepEjected bool

	// SuccessRate: endpoints far below the mean, in thousandths of the standard deviation.
	SuccessRateMinimumHosts, SuccessRateRequestVolume, SuccessRateStdevFactor uint32
	EnforcingSuccessRate, EnforcingLocalOriginSuccessRate                     uint32
	// FailurePercentage: endpoints at or above a fixed threshold.
	FailurePercentageThreshold                                        uint32
	FailurePercentageMinimumHosts, FailurePercentageRequestVolume     uint32
	EnforcingFailurePercentage, EnforcingFailurePercentageLocalOrigin uint32
}

// DefaultOutlier is detection with Envoy's defaults.
func DefaultOutlier() *Outlier {
	return &Outlier{
		Consecutive5xx: 5, EnforcingConsecutive5xx: 100,
		ConsecutiveGatewayFailure: 5, EnforcingConsecutiveGatewayFailure: 0,
		ConsecutiveLocalOriginFailure: 5, EnforcingConsecutiveLocalOriginFailure: 100,
		Interval: 10 * time.Second, BaseEjection: 30 * time.Second, MaxEjection: 300 * time.Second,
		MaxEjectionPercent:      10,
		SuccessRateMinimumHosts: 5, SuccessRateRequestVolume: 100, SuccessRateStdevFactor: 1900,
		EnforcingSuccessRate: 100, EnforcingLocalOriginSuccessRate: 100,
		FailurePercentageThreshold: 85, FailurePercentageMinimumHosts: 5, FailurePercentageRequestVolume: 50,
	}
}
