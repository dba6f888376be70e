// Package rbac decides whether a peer may do what it asks for: it compiles
// intentions, as the control plane writes them into a chain of RBAC filters.
//
//	intentions ── Compile ──▶ Policy ── Decide(peer, request, metadata) ──▶ allowed, policy
//
// Every filter must allow. One with the action Allow allows what a policy of
// its matches; one with Deny allows what none matches. So Allow without
// policies allows nothing. What is not understood denies.
package rbac

import (
	"fmt"
	"net/netip"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Input is what a decision is made on.
type Input struct {
	// Peer is never nil.
	Peer *wire.Peer
	// Request is nil for a connection. A policy that asks about requests then
	// never allows, and always denies whom it names.
	Request *wire.Request
	// Remote is the client's address if it is not the peer's; invalid otherwise.
	Remote netip.AddrPort
	// Metadata is what earlier filters have found out; nil if nothing can have been.
	Metadata *wire.Metadata
}

// Policy is compiled intentions. It is safe for concurrent use. The zero Policy
// has no filters and allows all, as a chain without an RBAC filter does.
type Policy struct {
	filters []filter
}

// filter is one RBAC filter.
type filter struct {
	action   mesh.Action
	policies []policy
	refused  bool
	open     bool // there are no rules
}

// policy matches if a permission and a principal hold.
type policy struct {
	name        string
	permissions anyOf
	principals  anyOf
	// askRequest tell that a request is asked about.
	permissionsAskRequest, principalsAskRequest bool
}

// Refused is the name of the policy that denies all because of something that
// is not understood.
const Refused = "refused"

// Compile makes a policy of a chain's intentions, in their order. It fails for
// a pattern that is no regular expression and a rule that asks for nothing;
// whoever made the intentions had to see to that, and nothing may be served
// then. An intention with a Refusal is no error: it denies all.
func Compile(intentions []*mesh.Intention) (*Policy, error) {
	p := &Policy{}
	for _, in := range intentions {
		f := filter{action: in.Action, refused: in.Refusal != "", open: in.Unenforced}
		for i := range in.Policies {
			compiled, err := compilePolicy(&in.Policies[i])
			if err != nil {
				return nil, fmt.Errorf("intention policy %q: %w", in.Policies[i].Name, err)
			}
			f.policies = append(f.policies, compiled)
		}
		p.filters = append(p.filters, f)
	}
	return p, nil
}

// Decide tells whether in is allowed, and the name of the policy that decided;
// "" if it was that none matched.
func (p *Policy) Decide(in Input) (allowed bool, name string) {
	for i := range p.filters {
		if allowed, name = p.filters[i].decide(in); !allowed {
			return false, name
		}
	}
	return true, name
}

func (f *filter) decide(in Input) (allowed bool, name string) {
	if f.refused {
		return false, Refused
	}
	if f.open {
		return true, ""
	}
	for i := range f.policies {
		if f.policies[i].matches(in, f.action) {
			return f.action != mesh.Deny, f.policies[i].name
		}
	}
	return f.action != mesh.Allow, ""
}

func (p *policy) matches(in Input, action mesh.Action) bool {
	if in.Request != nil {
		return p.permissions.holds(in) && p.principals.holds(in)
	}
	if action == mesh.Allow && (p.permissionsAskRequest || p.principalsAskRequest) {
		return false
	}
	return (p.permissionsAskRequest || p.permissions.holds(in)) &&
		(p.principalsAskRequest || p.principals.holds(in))
}
