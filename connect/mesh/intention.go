package mesh

// Action is what an intention filter does with what its policies match.
type Action uint8

// Actions (xDS: config.rbac.v3.RBAC.Action). With Allow and no policies nothing
// is allowed; with Deny and no policies everything is.
const (
	Allow Action = iota
	Deny
)

// Intention is one RBAC filter as Consul compiles intentions into it. A request
// (or connection) is allowed if a policy matches and Action is Allow, or none
// matches and Action is Deny.
type Intention struct {
	Action   Action
	Policies []IntentionPolicy
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
}

// Principal is who asks. Exactly one field is set.
type Principal struct {
	Any bool
	And []Principal
	Or  []Principal
	Not *Principal
	// Name matches the peer's URI name, or else DNS name, or else subject.
	Name *StringMatch
	// Authenticated matches any peer with a verified certificate.
	Authenticated bool
	Header        *HeaderMatch
	Metadata      *MetadataMatch
}

// MetadataMatch looks up a value that an earlier filter has put under
// Filter and Path.
type MetadataMatch struct {
	Filter string
	Path   []string
	Value  StringMatch
	Invert bool
}
