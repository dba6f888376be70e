package mesh

import "time"

// AccessLog is one log of exchanges or connections (xDS: config.accesslog.v3).
// Exactly one of Path and OTLP says where it goes.
type AccessLog struct {
	// Filter says what is logged; nil means everything.
	Filter *LogFilter
	// Path is a file, "/dev/stdout" or "/dev/stderr" among them.
	Path string
	// Text is a line with its line break, or JSON the members of an object that
	// makes one, both with Envoy's command operators.
	Text string
	JSON map[string]any
	// OmitEmpty writes nothing for what is not known, instead of "-".
	OmitEmpty bool
	// OTLP sends records to a collector.
	OTLP *LogOTLP
	// Refusal, if not "", says what is not understood: there is no such log then.
	Refusal string
}

// LogOTLP is a collector of logs (xDS: access_loggers.open_telemetry.v3).
type LogOTLP struct {
	// Cluster is where the collector is; Authority "" means Cluster, and Metadata
	// goes with each call. HTTP is the path of a collector that is called by
	// HTTP instead of gRPC, "" for gRPC.
	Cluster, Authority, HTTP string
	Metadata                 []Pair
	// Name is log_name; NoBuiltin leaves out the labels that Envoy adds.
	Name      string
	NoBuiltin bool
	// StatPrefix stands in the names of what is counted; "" for nothing.
	StatPrefix string
	// Body is the record's, nil for none. Values are texts with command operators,
	// or as encoding/json gives them.
	Body                 any
	Attributes, Resource []Attribute
	// Flush is how long a record waits for others; Size how many bytes are sent at a
	// time. 0 means Envoy's defaults: 1 s and 16 KiB.
	Flush time.Duration
	Size  int
}

// Pair is a name and a value.
type Pair struct{ Name, Value string }

// Attribute is a name and a value as encoding/json gives it.
type Attribute struct {
	Name  string
	Value any
}

// LogFilter chooses what is logged. Exactly one field is set.
type LogFilter struct {
	// All and Any are of other filters.
	All, Any []*LogFilter
	// Status and Duration compare the response's code, and milliseconds.
	Status, Duration *LogComparison
	// Flags, if HasFlags, are response flags of which one must be set; none means
	// any.
	Flags    []string
	HasFlags bool
	// GRPC, if not nil, are statuses of gRPC; Exclude logs all others.
	GRPC    []int
	Exclude bool
	// Header must match.
	Header *HeaderMatch
	// Percent, if HasPercent, is a share of all, in millionths.
	Percent    uint32
	HasPercent bool
	// NoHealthCheck leaves out health checks, Traced what is not traced.
	NoHealthCheck, Traced bool
	// Metadata must match.
	Metadata *LogMetadata
	// Types are kinds of log, Exclude logs all others.
	Types []string
}

// LogComparison compares a number with Value.
type LogComparison struct {
	Op    Comparison
	Value uint32
}

// Comparison is how two numbers are compared.
type Comparison uint8

// Comparisons.
const (
	Equal Comparison = iota
	AtLeast
	AtMost
	Unequal
)

// LogMetadata looks at dynamic metadata.
type LogMetadata struct {
	MetadataMatch
	// Missing is the answer if there is none.
	Missing bool
}

// LogMoments say when a line is written besides the one at the end.
type LogMoments struct {
	// Start is when a request or a connection has come, Connected when the upstream of a
	// connection was reached, Tunnel when a request has become a tunnel.
	Start, Connected, Tunnel bool
	// Every is how often it is written of a connection as long as it lasts; 0 means never.
	Every time.Duration
}
