package mesh

// GRPCStats is the grpc_stats filter: it counts calls of gRPC by service and
// method, on the cluster that they go to.
type GRPCStats struct {
	// AllMethods counts each by its own name. Otherwise those of Methods are, which
	// are "service/method", and the others together.
	AllMethods bool
	Methods    []string
	// UpstreamTime also counts how long calls take upstream.
	UpstreamTime bool
	// PlainServices writes underscores for the dots of a service's name.
	PlainServices bool
}
