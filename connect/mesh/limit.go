package mesh

import "time"

// ConnectionLimit bounds the connections of a chain (xDS:
// filters.network.connection_limit.v3).
type ConnectionLimit struct {
	// Max connections at one time.
	Max uint64
	// Delay is how long a connection over it is left open, so that its client does
	// not try again at once; 0 closes it at once.
	Delay time.Duration
	// First counts a connection before intentions have decided on it, where the
	// filter stands before them. Consul puts it behind.
	First bool
	// StatPrefix names its counters.
	StatPrefix string
}
