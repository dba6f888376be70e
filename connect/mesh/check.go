package mesh

import "time"

// ActiveCheck asks each endpoint of a cluster every now and then whether it is healthy
// (xDS: core.v3.HealthCheck). One that was not asked yet is not. Exactly one of HTTP,
// TCP and GRPC is set; all times and thresholds hold what is meant.
type ActiveCheck struct {
	// Timeout of one check, connection included.
	Timeout time.Duration
	// Interval between two; the first comes after at most InitialJitter. Each is longer
	// by up to Jitter and JitterPercent, at random.
	Interval, InitialJitter, Jitter time.Duration
	JitterPercent                   uint32
	// NoTraffic is the interval as long as nobody has used the cluster, NoTrafficHealthy
	// that of healthy endpoints then.
	NoTraffic, NoTrafficHealthy time.Duration
	// UnhealthyInterval is that of unhealthy endpoints. Where a check came out against
	// what was known, but not often enough to count, UnhealthyEdge or HealthyEdge is, by
	// that outcome.
	UnhealthyInterval, UnhealthyEdge, HealthyEdge time.Duration
	// UnhealthyAfter and HealthyAfter are how many checks in a row make an endpoint so.
	// An answer that says that it is unhealthy is enough, and so is the first one ever.
	UnhealthyAfter, HealthyAfter uint32
	// NoReuse makes a connection for each check.
	NoReuse bool

	HTTP *HTTPCheck
	TCP  *TCPCheck
	GRPC *GRPCCheck
}

// HTTPCheck asks by a request.
type HTTPCheck struct {
	// Host is the authority; Method is "" for GET.
	Host, Path, Method string
	HTTP2              bool
	Add                []HeaderValue
	Remove             []string
	// Expected are the statuses of a healthy endpoint. Retriable ones count like a
	// connection that fails: only when they come often.
	Expected, Retriable []StatusRange
	// Receive must be in the body, one after the other.
	Receive [][]byte
	// Service, if not nil, must match what the endpoint says that it is.
	Service *StringMatch
}

// StatusRange is statuses from From to To, which is not one of them.
type StatusRange struct{ From, To int }

// TCPCheck sends Send and waits for Receive, one after the other; without any it is
// enough to connect.
type TCPCheck struct {
	Send    []byte
	Receive [][]byte
}

// GRPCCheck asks by grpc.health.v1.
type GRPCCheck struct {
	Service, Authority string
	Metadata           []HeaderValue
}
