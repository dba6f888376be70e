package rbac

import (
	"crypto/x509"
	"net/url"
	"slices"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
)

// condition is one node of a permission or a principal. Nodes that look at the
// request are asked only if there is one.
type condition interface {
	holds(in Input) bool
}

// always holds.
type always struct{}

func (always) holds(Input) bool { return true }

// allOf holds if each does.
type allOf []condition

func (all allOf) holds(in Input) bool {
	for _, c := range all {
		if !c.holds(in) {
			return false
		}
	}
	return true
}

// anyOf holds if one does.
type anyOf []condition

func (list anyOf) holds(in Input) bool {
	for _, c := range list {
		if c.holds(in) {
			return true
		}
	}
	return false
}

// not holds if the other does not.
type not struct{ other condition }

func (n not) holds(in Input) bool { return !n.other.holds(in) }

// path looks at the path without its query.
type path struct{ value *match.StringMatcher }

func (p path) holds(in Input) bool {
	return in.Request != nil && p.value.Match(in.Request.PathOnly())
}

// header looks at a header field.
type header struct{ value *match.HeaderMatcher }

func (h header) holds(in Input) bool { return in.Request != nil && h.value.Match(in.Request) }

// metadata looks at what an earlier filter has found.
type metadata struct {
	filter string
	path   []string
	value  *match.ValueMatcher
	invert bool
}

func (m *metadata) holds(in Input) bool {
	found := false
	if in.Metadata != nil {
		found = m.value.Match(in.Metadata.Lookup(m.filter, m.path))
	}
	return found != m.invert
}

// authenticated holds for every peer with a verified certificate.
type authenticated struct{}

func (authenticated) holds(in Input) bool { return verified(in.Peer) }

func verified(peer *wire.Peer) bool {
	return !peer.ID.IsZero() || peer.Certificate != nil
}

// name looks at the peer's URI names, its DNS names and its subject.
type name struct{ value *match.StringMatcher }

func (n name) holds(in Input) bool {
	if !in.Peer.ID.IsZero() && n.value.Match(in.Peer.ID.String()) {
		return true
	}
	return in.Peer.Certificate != nil && n.certificate(in.Peer.Certificate)
}

func (n name) certificate(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(leaf.URIs, func(uri *url.URL) bool { return n.value.Match(uri.String()) }) ||
		slices.ContainsFunc(leaf.DNSNames, n.value.Match) ||
		n.value.Match(spiffe.Subject(leaf))
}
