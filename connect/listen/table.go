package listen

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Entry is a chain with the connections that it is for.
type Entry struct {
	Match mesh.ChainMatch
	Chain *Chain
}

// Table finds the chain of a connection, as Envoy does: field by field in the order
// of [mesh.ChainMatch], in each the most specific of what there is. A step is never
// taken back: where the most specific name has chains, and none of them fits by what
// comes after the name, then no chain of a less specific name is taken, but the
// default. So the table is a tree of maps, and a connection goes down it once,
// however many chains there are. It is immutable; a nil Table has no chains.
type Table struct {
	entries   []Entry
	otherwise *Chain
	root      node
}

// Arrival is what is known of a connection when its chain is chosen.
type Arrival struct {
	// Peer is never nil. Its Local is the address before a redirect, if that is
	// known, its Addr what a PROXY protocol header says, if there was one.
	Peer *wire.Peer
	// Direct is the address of the socket's other end.
	Direct netip.AddrPort
	// ServerName (lower-case) and ALPN are those of a ClientHello, or ALPN is what
	// HTTP was seen; Transport is "" for mesh.TransportRaw.
	ServerName, Transport string
	ALPN                  []string
}

// NewTable makes a table; otherwise serves what no entry matches, and may be nil.
// Two entries that no connection could tell apart are an error, and so is a name
// with a wildcard that is not its first label.
func NewTable(entries []Entry, otherwise *Chain) (*Table, error) {
	rules := make([]*Entry, len(entries))
	for i := range entries {
		for _, name := range entries[i].Match.ServerNames {
			if strings.Contains(strings.TrimPrefix(name, "*."), "*") || name == "*." {
				return nil, fmt.Errorf("filter chain match: server name %q: a wildcard can only be the first label", name)
			}
		}
		rules[i] = &entries[i]
	}
	root, err := build(rules, levels())
	if err != nil {
		return nil, err
	}
	return &Table{entries: entries, otherwise: otherwise, root: root}, nil
}

// Single is the table of one chain that serves every connection.
func Single(chain *Chain) *Table { return &Table{otherwise: chain} }

// Find returns the chain for a, nil if there is none.
func (t *Table) Find(a *Arrival) *Chain {
	if t == nil {
		return nil
	}
	if t.root != nil {
		if chain := t.root.find(a); chain != nil {
			return chain
		}
	}
	return t.otherwise
}

// All yields every chain once, the default included.
func (t *Table) All() iter.Seq[*Chain] {
	return func(yield func(*Chain) bool) {
		if t == nil {
			return
		}
		for i := range t.entries {
			if !yield(t.entries[i].Chain) {
				return
			}
		}
		if t.otherwise != nil {
			yield(t.otherwise)
		}
	}
}

// node is a branch of the tree, or a chain at its end. find returns nil if there is
// no chain for a on this branch.
type node interface {
	find(a *Arrival) *Chain
}

// find makes a chain the end of a branch.
func (c *Chain) find(*Arrival) *Chain { return c }

// level is one field of the match: it makes a branch by it of rules, of which at
// least one looks at the field.
type level struct {
	// looks tells whether a rule has something to say of the field.
	looks func(m *mesh.ChainMatch) bool
	make  func(rules []*Entry, below []level) (node, error)
}

func levels() []level {
	return []level{
		{func(m *mesh.ChainMatch) bool { return m.DestinationPort != 0 }, byPort},
		{func(m *mesh.ChainMatch) bool { return len(m.Prefixes) > 0 }, byPrefix(
			func(m *mesh.ChainMatch) []netip.Prefix { return m.Prefixes },
			func(a *Arrival) netip.Addr { return a.Peer.Local.Addr() },
		)},
		{func(m *mesh.ChainMatch) bool { return len(m.ServerNames) > 0 }, byName},
		{func(m *mesh.ChainMatch) bool { return m.Transport != "" }, byTransport},
		{func(m *mesh.ChainMatch) bool { return len(m.ALPN) > 0 }, byALPN},
		{func(m *mesh.ChainMatch) bool { return len(m.DirectSourcePrefixes) > 0 }, byPrefix(
			func(m *mesh.ChainMatch) []netip.Prefix { return m.DirectSourcePrefixes },
			func(a *Arrival) netip.Addr { return a.Direct.Addr() },
		)},
		{func(m *mesh.ChainMatch) bool { return m.SourceType != mesh.AnySource }, bySourceType},
		{func(m *mesh.ChainMatch) bool { return len(m.SourcePrefixes) > 0 }, byPrefix(
			func(m *mesh.ChainMatch) []netip.Prefix { return m.SourcePrefixes },
			func(a *Arrival) netip.Addr { return a.Peer.Addr.Addr() },
		)},
		{func(m *mesh.ChainMatch) bool { return len(m.SourcePorts) > 0 }, bySourcePort},
	}
}

// build makes the branch of rules by the levels that are left. Those that no rule
// looks at cost nothing.
func build(rules []*Entry, left []level) (node, error) {
	if len(rules) == 0 {
		return nil, nil
	}
	for i := range left {
		if slices.ContainsFunc(rules, func(e *Entry) bool { return left[i].looks(&e.Match) }) {
			return left[i].make(rules, left[i+1:])
		}
	}
	if len(rules) > 1 && rules[0] != rules[1] {
		return nil, fmt.Errorf("filter chains %q and %q match the same connections", rules[0].Chain.Name, rules[1].Chain.Name)
	}
	return rules[0].Chain, nil
}

// grouped makes a branch for each key that rules have, and one for those without.
func grouped[K comparable](rules []*Entry, keys func(m *mesh.ChainMatch) []K, below []level) (map[K]node, node, error) {
	groups := map[K][]*Entry{}
	var order []K // so that an error is always the same
	var none []*Entry
	for _, e := range rules {
		of := keys(&e.Match)
		if len(of) == 0 {
			none = append(none, e)
		}
		for _, key := range of {
			switch group := groups[key]; {
			case group == nil:
				order = append(order, key)
				groups[key] = []*Entry{e}
			case group[len(group)-1] != e: // and not named twice by one chain
				groups[key] = append(group, e)
			}
		}
	}
	nodes := make(map[K]node, len(groups))
	for _, key := range order {
		made, err := build(groups[key], below)
		if err != nil {
			return nil, nil, err
		}
		nodes[key] = made
	}
	rest, err := build(none, below)
	return nodes, rest, err
}

// descend goes on at n, which may be missing.
func descend(n node, a *Arrival) *Chain {
	if n == nil {
		return nil
	}
	return n.find(a)
}
