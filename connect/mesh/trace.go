package mesh

// Tracing is how exchanges of a chain are traced (xDS: HttpConnectionManager.Tracing).
type Tracing struct {
	// Provider is who gets the spans; nil means the bootstrap file's, if that has one.
	Provider *TraceProvider
	// Client, Random and Overall are shares in millionths: of requests whose client
	// asks for it (x-client-trace-id), of all, and of those that were chosen so.
	Client, Random, Overall uint32
	// Tags are added to each span.
	Tags []TraceTag
	// Spawn makes a span of its own of what the upstream is asked.
	Spawn bool
	// Operation and UpstreamOperation are texts with command operators that spans are
	// called by: that of the request, and that of what the upstream is asked; "" for
	// Envoy's names.
	Operation, UpstreamOperation string
	// Alone hands nothing on.
	Alone bool
	// Verbose tells when things happened, where the collector has room for it.
	Verbose bool
	// MaxPath is how much of the path is told, in bytes.
	MaxPath int
}

// TraceProvider is who gets spans, and in which fields a trace is handed on.
type TraceProvider struct {
	Kind TraceKind
	// Cluster is where the collector is; Authority "" means Cluster, Path is that of
	// the collector. GRPC calls it by gRPC. Metadata goes with each call.
	Cluster, Authority, Path string
	GRPC                     bool
	Metadata                 []Pair
	// Service is what we are called; "" is the node's cluster.
	Service string
	// Wide makes 128-bit identifiers of traces, Alone a span of our own where the
	// caller's might be shared, and Protobuf encodes so: all of Zipkin.
	Wide, Alone, Protobuf bool
	// W3C also reads and hands on traceparent: of Zipkin.
	W3C bool
	// AlwaysOn traces all that the caller has not decided on, whatever the chain's
	// shares are.
	AlwaysOn bool
	// Resource are attributes of OpenTelemetry's resource.
	Resource []Pair
	// Refusal, if not "", says what is not understood: nothing is traced then.
	Refusal string
}

// TraceKind is a kind of tracer.
type TraceKind uint8

// Kinds of tracer.
const (
	Zipkin TraceKind = iota
	OpenTelemetry
	Datadog
)

// TraceTag is one tag. Exactly one of Literal, Env, Header, Path and Text is set.
type TraceTag struct {
	Name, Literal string
	// Env is an environment variable, Header a field of the request; Default is the
	// value where there is none.
	Env, Header, Default string
	// Path is where in dynamic metadata of Namespace.
	Namespace string
	Path      []string
	// Text has command operators.
	Text string
}
