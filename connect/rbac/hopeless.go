package rbac

import "github.com/serai-net/serai/connect/mesh"

// Hopeless tells whether no request of in.Peer at all could be allowed, whatever it
// asks for: then a connection of it has no reason to live on.
func (p *Policy) Hopeless(in Input) bool {
	for i := range p.filters {
		if p.filters[i].hopeless(in) {
			return true
		}
	}
	return false
}

func (f *filter) hopeless(in Input) bool {
	switch {
	case f.refused:
		return true
	case f.open:
		return false
	}
	for i := range f.policies {
		permission, principal := within(f.policies[i].permissions, in), within(f.policies[i].principals, in)
		switch {
		case f.action == mesh.Deny && permission.sure && principal.sure:
			return true
		case f.action == mesh.Allow && permission.possible && principal.possible:
			return false
		}
	}
	return f.action == mesh.Allow
}

// bounds say of a condition whether it holds for every request of a peer, and for
// any.
type bounds struct{ sure, possible bool }

func within(c condition, in Input) bounds {
	switch c := c.(type) {
	case allOf:
		all := bounds{true, true}
		for _, part := range c {
			b := within(part, in)
			all.sure, all.possible = all.sure && b.sure, all.possible && b.possible
		}
		return all
	case anyOf:
		var one bounds
		for _, part := range c {
			b := within(part, in)
			one.sure, one.possible = one.sure || b.sure, one.possible || b.possible
		}
		return one
	case not:
		b := within(c.other, in)
		return bounds{!b.possible, !b.sure}
	case always, authenticated, name:
		holds := c.holds(in)
		return bounds{holds, holds}
	default: // looks at the request
		return bounds{false, true}
	}
}
