package mesh

import (
	"net/netip"
	"time"
)

// Action is what an intention filter does with what its policies match.
type Action uint8

// Actions (xDS: config.rbac.v3.RBAC.Action). With Allow and no policies nothing
// is allowed; with Deny and no policies everything is.
const (
	Allow Action = iota
	Deny
	// Log allows everything, and marks what a policy matches for the access log.
	Log
)

// Intention is one RBAC filter as Consul compiles intentions into it. A request
// (or connection) is allowed if a policy matches and Action is Allow, or none
// matches and Action is Deny.
type Intention struct {
	Action   Action
	Policies []IntentionPolicy
	// Unenforced says that there are no rules at all: everything is allowed. (No
	// policies, on the other hand, allow nothing.)
	Unenforced bool
	// DelayDeny is how long a connection that is denied is kept before it is closed, of
	// which nothing is read; only of the network.
	DelayDeny time.Duration
	// Shadow, if not nil, decides without a consequence, for who counts.
	Shadow *Intention
	// StatPrefix stands before the names of what is counted.
	StatPrefix string
	// Refusal says what is not understood: nothing is allowed.
	Refusal string
}

// IntentionPolicy matches if one of Permissions and one of Principals do.
type IntentionPolicy struct {
	Name        string
	Permissions []Permission
	Principals  []Principal
}

// Permission is what is asked for. Exactly one field is set.
type Permission struct {
	Any    bool
	And    []Permission
	Or     []Permission
	Not    *Permission
	Path   *StringMatch // url_path: without the query
	Header *HeaderMatch
	// Metadata set by an earlier filter.
	Metadata *MetadataMatch
	// Destination is where the peer connected to; Ports its port.
	Destination *netip.Prefix
	Ports       *PortRange
	// ServerName is the SNI.
	ServerName *StringMatch
}

// PortRange is a range of ports, both ends within.
type PortRange struct{ First, Last uint16 }

// Principal is who asks. Exactly one field is set.
type Principal struct {
	Any bool
	And []Principal
	Or  []Principal
	Not *Principal
	// Name matches one of the peer's URI names, of its DNS names, or its subject.
	Name *StringMatch
	// Authenticated matches any peer with a verified certificate.
	Authenticated bool
	Header        *HeaderMatch
	Metadata      *MetadataMatch
	Path          *StringMatch // url_path: without the query
	// Source is the peer's address; Direct the connection's own, whatever a header
	// of the PROXY protocol says.
	Source, Direct *netip.Prefix
	// Remote is the client's address, where a proxy before us has told of it.
	Remote *netip.Prefix
}
