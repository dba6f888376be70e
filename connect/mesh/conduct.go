package mesh

import "net/netip"

// Conduct is what an HTTP connection manager says of itself, and of the client, in
// header fields. The zero Conduct is Envoy's default.
type Conduct struct {
	// ServerName is the value of server in responses; "" is "envoy". Server says
	// what is done with it.
	ServerName string
	Server     ServerHeader
	// NoRequestID makes no x-request-id. PreserveRequestID keeps that of a client
	// from outside, ReturnRequestID gives it back in the response.
	NoRequestID, PreserveRequestID, ReturnRequestID bool
	// UseRemote takes the peer for the client, and appends it to x-forwarded-for
	// unless NoForwardedFor. Otherwise the client is the last in x-forwarded-for, or
	// so many before it as there are TrustedHops.
	UseRemote, NoForwardedFor bool
	TrustedHops               uint32
	// ForwardedPort tells in x-forwarded-port which port the client has come to.
	ForwardedPort bool
	// Via is appended to via, both ways; "" is not.
	Via string
	// UserAgent says to the upstream who we are: Cluster in user-agent, where the client
	// says nothing, and both in fields of Envoy's.
	UserAgent     bool
	Cluster, Node string
	// Detect are ways to find out who the client is, in order, instead of that; nil is
	// not. They do not go along with UseRemote and TrustedHops.
	Detect []Detection
	// Scheme is what requests are said to have been made by, whatever they say: "http"
	// or "https"; "" leaves it. MatchScheme tells the upstream the scheme of the
	// connection to it.
	Scheme      string
	MatchScheme bool
	// Suppress leaves out Envoy's own fields, x-envoy-*.
	Suppress bool
}

// ServerHeader is server_header_transformation.
type ServerHeader uint8

// What to do with server in responses.
const (
	ServerOverwrite ServerHeader = iota
	ServerIfAbsent
	ServerPassThrough
)

// Detection is one way to find out who the client is: by x-forwarded-for, or by another
// field (original_ip_detection_extensions).
type Detection struct {
	// Hops are the trusted proxies before us; Trusted, if there are any, are their
	// addresses instead. Append adds the peer to x-forwarded-for.
	Hops    uint32
	Trusted []netip.Prefix
	Append  bool
	// Header, if not "", is the field with the address; Reject is the status for
	// requests without a good one, 0 if they may go on.
	Header string
	Reject int
}
