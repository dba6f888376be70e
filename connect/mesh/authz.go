package mesh

import "time"

// ExtAuthz asks an external service about each request or connection (xDS:
// filters.http.ext_authz.v3, filters.network.ext_authz.v3).
type ExtAuthz struct {
	// StatPrefix tells the counters of several filters apart; may be "".
	StatPrefix string
	// Service is who is asked.
	Service AuthzService
	// FailOpen lets through what nobody could be asked about; FailOpenHeader then
	// says so to the upstream.
	FailOpen, FailOpenHeader bool
	// StatusOnError is the answer if nobody could be asked; 0 means 403.
	StatusOnError int
	// ClearRoute chooses the route only after the service has changed the request.
	ClearRoute bool
	// Body, if not nil, shows the service the body of a request. NoBody, in what a route
	// says (a FilterOverride's Filter), does not show it there.
	Body   *AuthzBody
	NoBody bool
	// Context is what a service of gRPC is told besides (context_extensions).
	Context map[string]string
	// Namespaces of metadata that the service is told.
	Namespaces []string
	// PeerCertificate and TLSSession tell the client's certificate and SNI.
	PeerCertificate, TLSSession bool
	// Allowed and Disallowed choose the header fields that the service is told; nil
	// Allowed means all for gRPC and none for HTTP.
	Allowed, Disallowed []StringMatch
	// Enabled is the share of requests that is asked about; nil means all.
	// DenyDisabled denies the others.
	Enabled      *Fraction
	DenyDisabled bool
	// IgnoreMetadata takes no metadata from the service.
	IgnoreMetadata bool
	// MaxDenied cuts the body of a denial, in bytes; 0 means not at all.
	MaxDenied uint32
	// LabelsKey is where in the node's metadata the labels of the destination stand.
	LabelsKey string
}

// AuthzService is a service that authorizes, in gRPC unless HTTP is set.
type AuthzService struct {
	Cluster string
	Timeout time.Duration
	// Authority of a gRPC call; "" means Cluster.
	Authority string
	// Metadata are fields of a gRPC call.
	Metadata []HeaderValue
	// HTTP, if not nil, asks by a request like the client's.
	HTTP *AuthzHTTP
}

// AuthzHTTP is how a service of HTTP is asked and understood.
type AuthzHTTP struct {
	// PathPrefix stands before the path asked for.
	PathPrefix string
	// Add are fields added to the question.
	Add []HeaderValue
	// Retries are made where there is no answer or one of 5xx, with pauses of up to
	// PauseBase, which double up to PauseMax.
	Retries             int
	PauseBase, PauseMax time.Duration
	// Upstream and UpstreamAppend choose fields of the answer that go to the
	// upstream; Client those of a denial that go to the client (nil means all),
	// ClientOK those of a consent; Metadata those that become metadata.
	Upstream, UpstreamAppend, Client, ClientOK, Metadata []StringMatch
}

// AuthzBody is how much of a body the service is shown.
type AuthzBody struct {
	// Max in bytes. A larger body is refused with 413, or, if Partial, shown in part.
	Max     uint32
	Partial bool
	// Raw shows bytes instead of UTF-8 text.
	Raw bool
}

// Fraction is Numerator of Denominator (xDS: type.v3.FractionalPercent).
type Fraction struct{ Numerator, Denominator uint32 }

// Includes tells whether a draw (any number, evenly distributed) is within f. A nil
// Fraction includes all.
func (f *Fraction) Includes(draw uint64) bool {
	return f == nil || f.Denominator > 0 && draw%uint64(f.Denominator) < uint64(f.Numerator)
}
