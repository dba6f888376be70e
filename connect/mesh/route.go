package mesh

import "time"

// Route is a table of virtual hosts (xDS: config.route.v3.RouteConfiguration).
type Route struct {
	Name         string
	VirtualHosts []*VirtualHost
	Edit         HeaderEdit
	// SpecificWins carries out the edits of the table first and those of the rule
	// last, instead of the other way round; those of a target always come first.
	SpecificWins bool
	// ValidateClusters refuses the table if it names an unknown cluster.
	ValidateClusters bool
	// IgnorePort looks for the virtual host without the port of the authority;
	// IgnoreParameters matches paths only up to a ";".
	IgnorePort, IgnoreParameters bool
	// Filters is what is said about filters by their names, unless a virtual host or
	// a rule says otherwise.
	Filters map[string]*FilterOverride
}

// VirtualHost is the rules of some hosts. Domains are lower-case: exact,
// "*.suffix", "prefix.*" or "*".
type VirtualHost struct {
	Name    string
	Domains []string
	Rules   []*Rule
	Edit    HeaderEdit
	// RequestAttempts tells the upstream which try it is (x-envoy-attempt-count),
	// ResponseAttempts the client how many were made.
	RequestAttempts, ResponseAttempts bool
	// TimeoutRetry tells the upstream of a try that follows one which took too long
	// (x-envoy-is-timeout-retry).
	TimeoutRetry bool
	// TLS redirects requests that came without.
	TLS TLSRequirement
	// Filters is as in Route.
	Filters map[string]*FilterOverride
}

// TLSRequirement is VirtualHost.require_tls.
type TLSRequirement uint8

// Who must come by TLS. Nobody is called internal, so that all but those of a unix
// socket are external.
const (
	TLSOptional TLSRequirement = iota
	TLSForExternal
	TLSForAll
)

// Rule is one route: the first of its virtual host that matches is taken.
type Rule struct {
	Name  string
	Match Match
	// Targets share the requests by weight; one target needs none.
	Targets []Target
	// WeightHeader is the field whose number chooses the target instead of chance;
	// WeightHash chooses it by the hash that Hash gives.
	WeightHeader string
	WeightHash   bool
	// Direct answers without an upstream, Redirect sends the client elsewhere.
	Direct   *DirectResponse
	Redirect *Redirect
	// Timeout from the end of the request until the end of the response;
	// 0 means none. (xDS: unset is 15 s, which resource has filled in.)
	Timeout time.Duration
	// IdleTimeout replaces the chain's StreamIdleTimeout if HasIdleTimeout.
	IdleTimeout    time.Duration
	HasIdleTimeout bool
	// PrefixRewrite replaces what Match matched, if HasPrefixRewrite.
	PrefixRewrite    string
	HasPrefixRewrite bool
	// RegexRewrite rewrites the path.
	RegexRewrite *RegexRewrite
	// TemplateRewrite makes a path of the variables of Match.Template.
	TemplateRewrite string
	// HostRewrite replaces the authority, HostHeader takes what a header field says,
	// HostPath makes it of the path; AutoHost takes the endpoint's name. AppendHost
	// tells of the old one in x-forwarded-host.
	HostRewrite, HostHeader string
	HostPath                *RegexRewrite
	AutoHost, AppendHost    bool
	// NoCluster is the status if the target's cluster is not known; 0 is 503.
	NoCluster int
	// Stream bounds the whole exchange instead of Timeout; nil means that it does not.
	Stream *StreamDuration
	// GRPCTimeout makes the timeout of calls of gRPC of their grpc-timeout; nil means
	// that it does not.
	GRPCTimeout *GRPCTimeout
	// Mirrors get copies of requests.
	Mirrors []Mirror
	Retry   *Retry
	Hash    []HashPolicy
	Edit    HeaderEdit
	// Upgrades says of protocols whether they may be switched to, whatever the chain
	// says; nil for none.
	Upgrades map[string]bool
	// Connect makes a raw connection to the target for CONNECT, instead of passing
	// the request on.
	Connect bool
	// Filters is as in Route.
	Filters map[string]*FilterOverride
	// Metadata is for who logs; nil for none.
	Metadata Metadata
	// Refusal says what is not understood: the rule answers 503.
	Refusal string
}

// StreamDuration is max_stream_duration of a route.
type StreamDuration struct {
	// Most is how long an exchange may take, if HasMost; 0 is no bound. Otherwise the
	// chain's bound holds.
	Most    time.Duration
	HasMost bool
	// GRPC, if not nil, bounds calls of gRPC by their grpc-timeout instead.
	GRPC *GRPCTimeout
}

// GRPCTimeout bounds a call by its grpc-timeout, less Offset, and by Most, 0 for no
// bound.
type GRPCTimeout struct {
	Most, Offset time.Duration
}

// Mirror is a cluster that gets copies of requests, and whose answers nobody reads
// (xDS: RequestMirrorPolicy).
type Mirror struct {
	// Cluster, or a header field that names it.
	Cluster, ClusterHeader string
	// Share of the requests in millionths.
	Share uint32
	// PlainHost leaves the authority as it is, without "-shadow".
	PlainHost bool
}

// Match chooses a rule. Exactly one of Prefix, Path, Regex and Template is set; the
// query does not take part.
type Match struct {
	Prefix, Path, Regex string
	// Template is Envoy's language of URI templates: "/a/{name}/*/**".
	Template string
	// PathPrefix matches whole path segments: "/a" matches "/a" and "/a/b".
	PathPrefix string
	IgnoreCase bool
	Headers    []HeaderMatch
	Query      []QueryMatch
	// GRPC matches only requests of gRPC.
	GRPC bool
	// Share, if HasShare, is how many of the requests match, in millionths.
	Share    uint32
	HasShare bool
	// Certificate, if not nil, asks whether the client has shown one.
	Certificate *bool
}

// StringMatch compares a string. Exactly one field besides IgnoreCase is set.
type StringMatch struct {
	Exact, Prefix, Suffix, Contains string
	// Regex is RE2 and matches in full.
	Regex string
	// Kind tells which field counts, since each may be "".
	Kind       MatchKind
	IgnoreCase bool
}

// MatchKind names a field of StringMatch.
type MatchKind uint8

// Kinds of string match.
const (
	MatchExact MatchKind = iota
	MatchPrefix
	MatchSuffix
	MatchContains
	MatchRegex
)

// HeaderMatch looks at one header field. ":method", ":path" (with its query),
// ":authority" and ":scheme" are the pseudo-header fields.
type HeaderMatch struct {
	Name string
	// Present, if true, asks only whether the field is there; else Value counts.
	Present bool
	Value   StringMatch
	Invert  bool
	// TreatMissingAsEmpty matches a missing field as "".
	TreatMissingAsEmpty bool
	// Range, if not nil, is what the value must be in as a number, instead of Value.
	Range *NumberRange
}

// NumberRange is a range of numbers: First is in it, End is not.
type NumberRange struct{ First, End int64 }

// QueryMatch looks at one query parameter.
type QueryMatch struct {
	Name    string
	Present bool
	Value   StringMatch
}

// Target is a cluster that takes a share of requests or connections.
type Target struct {
	Cluster string
	// Header is the field that names the cluster, if Cluster is "".
	Header string
	Weight uint32
	Edit   HeaderEdit
	// HostRewrite replaces the authority, before the rule may.
	HostRewrite string
	// Filters is as in Route, and more specific than what the rule says.
	Filters map[string]*FilterOverride
}

// DirectResponse answers without an upstream.
type DirectResponse struct {
	Status int
	Body   string
}

// Redirect sends the client elsewhere; "" keeps that part.
type Redirect struct {
	Scheme, Host, Path string
	Port               uint16
	Status             int
	// Prefix replaces what Match matched of the path; Regex rewrites the path.
	Prefix string
	Regex  *RegexRewrite
	// StripQuery leaves the query out.
	StripQuery bool
}

// RegexRewrite replaces what Pattern (RE2) finds in the path; Substitution has
// \1 to \9. StripPrefix is set instead where the pattern is Consul's
// `^<prefix>(/?)(.*)` -> `/\2`, which cuts the prefix off.
type RegexRewrite struct {
	Pattern, Substitution string
	StripPrefix           string
}

// HashPolicy gives a hash for consistent load balancing. One kind is set.
type HashPolicy struct {
	Header, Query string
	SourceIP      bool
	Cookie        *HashCookie
	Terminal      bool
}

// HashCookie makes a cookie where there is none, if TTL is set.
type HashCookie struct {
	Name, Path string
	// Attributes are further ones of the cookie; one without a value is only named.
	Attributes []Pair
	TTL        time.Duration
	HasTTL     bool
}

// HeaderEdit changes the header fields of request and response.
type HeaderEdit struct {
	RequestSet, ResponseSet       []HeaderValue
	RequestRemove, ResponseRemove []string
}

// IsZero tells whether there is nothing to change.
func (e *HeaderEdit) IsZero() bool {
	return len(e.RequestSet)+len(e.ResponseSet)+len(e.RequestRemove)+len(e.ResponseRemove) == 0
}

// HeaderValue sets one field.
type HeaderValue struct {
	Name, Value string
	// Text, if not "", is the value instead, with Envoy's command operators; a field
	// whose text comes out empty is not set unless KeepEmpty.
	Text      string
	KeepEmpty bool
	Append    EditAction
}

// EditAction is append_action.
type EditAction uint8

// What to do where the field is already there.
const (
	AppendOrAdd EditAction = iota
	AddIfAbsent
	OverwriteOrAdd
	OverwriteIfExists
)
