package proxy

import (
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds"
)

// quietTime is how long a plain connection from outside may be silent before the
// application learns of it. A TCP check has left by then.
const quietTime = 50 * time.Millisecond

// building is the chains of one snapshot in the making. Those that live already are
// found again, and nothing of them changes before its commits run.
type building struct {
	chains  *chains
	routes  map[string]*mesh.Route
	built   index
	refused []xds.Refusal // what cannot be compiled
	commits []func()
	changed bool // something was compiled
}

// newBuilding begins the chains of next.
func (cs *chains) newBuilding(next *mesh.Snapshot) *building {
	return &building{chains: cs, routes: next.Routes, built: make(index, len(next.Listeners))}
}

// listeners says what all of them should be. Of several that want one address it is
// whose it was, or else the first one's by name: the others are refused alone, so that
// what the update says of all else holds. One that was somewhere else before goes on there
// as it was, unless that is what another one wants.
func (b *building) listeners(all map[string]*mesh.Listener) []*listen.Spec {
	key := func(l *mesh.Listener) listen.Key { return listen.KeyOf(l.Address, l.Unbound) }
	owners := make(map[listen.Key]string, len(all))
	for name, before := range b.chains.built {
		if l := all[name]; l != nil && key(l) == key(before.listener) {
			owners[key(l)] = name
		}
	}
	wanted := make(map[listen.Key]bool, len(all))
	for _, l := range all {
		wanted[key(l)] = true
	}
	specs := make([]*listen.Spec, 0, len(all))
	for _, l := range sorted(all) {
		if l.Address == (mesh.Address{}) { // it is refused, and nothing says where it would be
			continue
		}
		if owner, taken := owners[key(l)]; taken && owner != l.Name {
			reason := fmt.Sprintf("its address %s is that of listener %q: give it another one", l.Address.String(), owner)
			b.refused = append(b.refused, xds.Refusal{Kind: "listener", Name: l.Name, Reason: reason})
			if before := b.chains.built[l.Name]; before != nil && !wanted[key(before.listener)] {
				specs = append(specs, b.listener(before.listener))
			}
			continue
		}
		owners[key(l)] = l.Name
		specs = append(specs, b.listener(l))
	}
	return specs
}

// listener says what l should be. What would be made again as it is, is not.
func (b *building) listener(l *mesh.Listener) *listen.Spec {
	made := b.chains.built[l.Name]
	if made == nil || !made.stands(l, b) {
		made = b.make(l, made)
		b.changed = true
	}
	b.built[l.Name] = made
	b.refused = append(b.refused, made.refused...)
	return made.spec
}

// make makes the chains of l out of those that it had; before is nil if it is new.
func (b *building) make(l *mesh.Listener, before *built) *built {
	b.chains.compiled.Add(1)
	spec := &listen.Spec{
		Name: l.Name, Address: l.Address, StatName: l.StatName, Outbound: l.Direction == mesh.Outbound,
		Inspect: l.Inspect, HandOff: l.HandOff, Unbound: l.Unbound, ReusePort: !l.Exclusive,
	}
	if l.ProxyProtocol != nil {
		spec.ProxyHeader = &listen.ProxyHeader{Optional: l.ProxyProtocol.Optional}
	}
	if logs := b.chains.logs.Compile(l.AccessLogs).At(accesslog.Listener, ""); logs != nil {
		spec.Unmatched = func(peer *wire.Peer) { unmatched(logs, peer) }
	}
	m := &making{building: b, now: &built{listener: l, spec: spec}, old: newRelatives(l, before)}
	m.now.names(b.routes)
	var otherwise *listen.Chain
	chains, fallback := definitions(l)
	for _, d := range chains {
		m.now.entries = append(m.now.entries, listen.Entry{Match: d.Match, Chain: m.chain(d)})
	}
	if fallback != nil {
		otherwise = m.chain(fallback)
	}
	table, err := listen.NewTable(m.now.entries, otherwise)
	if err != nil {
		// Which of them is meant cannot be told, and none of them lives on.
		m.now.parts = nil
		m.now.refused = append(m.now.refused, xds.Refusal{Kind: "listener", Name: l.Name, Reason: err.Error()})
		table = listen.Single(m.refuse(l.Default, err.Error()))
	}
	spec.Chains = table
	return m.now
}

// making is the chains of one listener in the making.
type making struct {
	*building
	now *built
	old *relatives
}

// definitions are the chains of l, and the one for what matches none of them.
func definitions(l *mesh.Listener) (chains []*mesh.FilterChain, fallback *mesh.FilterChain) {
	if l.Refusal != "" {
		return nil, &mesh.FilterChain{Name: l.Name, Refusal: l.Refusal}
	}
	return l.Chains, l.Default
}

// chain returns the living chain of a definition. It never fails: what is not
// understood closes its connections, and says so in the log, while the rest serves.
func (m *making) chain(d *mesh.FilterChain) *listen.Chain {
	if d.Refusal != "" {
		return m.refuse(d, d.Refusal)
	}
	c, behind, commit, err := m.chains.compile(m.now.listener, d, m.routes, m.old.of(d))
	if err != nil {
		m.now.refused = append(m.now.refused, xds.Refusal{Kind: "filter chain", Name: m.now.listener.Name, Reason: err.Error()})
		return m.refuse(d, err.Error())
	}
	if behind != "" {
		m.now.refused = append(m.now.refused, xds.Refusal{Kind: "filter chain", Name: m.now.listener.Name, Reason: behind})
	}
	m.now.parts = append(m.now.parts, part{definition: d, key: m.old.identity(d), chain: c})
	m.commits = append(m.commits, commit)
	return c.listen
}

// refuse is a chain that closes every connection. d may be nil.
func (m *making) refuse(d *mesh.FilterChain, reason string) *listen.Chain {
	cs, l, match := m.chains, m.now.listener, "the default"
	if d != nil && d != l.Default {
		match = d.Match.String()
	}
	key := fmt.Sprintf("%s/refused/%s/%s", l.Name, match, reason)
	c := m.old.living[key]
	if c == nil {
		c = &chain{kin: key, listen: &listen.Chain{Name: key, Handler: refusing{cs.observe.TCP(cs.place(l))}}}
		m.commits = append(m.commits, func() {
			cs.log.Error("filter chain refused: it closes every connection", "listener", l.Name, "chain", match, "reason", reason)
		})
	}
	m.now.parts = append(m.now.parts, part{definition: &mesh.FilterChain{Refusal: reason}, key: key, chain: c})
	return c.listen
}

// identity names the chain of a definition: of a listener no two can have the same
// match. With the same identity it is the same living chain, wherever it stands
// among the others.
func identity(l *mesh.Listener, d *mesh.FilterChain) string {
	match := "the default"
	if d != l.Default {
		match = d.Match.String()
	}
	return shape(l, d) + "/" + match
}

// shape is what a chain must keep to be the same one.
func shape(l *mesh.Listener, d *mesh.FilterChain) string {
	kind, codec := "tcp", ""
	if d.HTTP != nil {
		kind = "http"
		if d.HTTP.Codec != (mesh.Codec{}) {
			codec = fmt.Sprintf("/%+v", d.HTTP.Codec) // which connections do not outlive
		}
	}
	return fmt.Sprintf("%s/%s/tls=%t%s", l.Name, kind, d.TLS != nil, codec)
}

// kin names what a chain is for, besides its match: when only the destinations of a
// chain have changed, such as the virtual addresses of an upstream, then it is found
// by its kin, and its connections live on. Whoever might use it must be the same.
func kin(l *mesh.Listener, d *mesh.FilterChain) string {
	purpose := ""
	switch {
	case d.TCP != nil:
		purpose = fmt.Sprintf("%s %t", d.TCP.StatPrefix, d.TCP.ServerName)
		for i := range d.TCP.Targets {
			purpose += " " + d.TCP.Targets[i].Cluster
		}
	case d.HTTP != nil:
		purpose = d.HTTP.StatPrefix + " " + d.HTTP.RouteName
	}
	return fmt.Sprintf("%s/%t/%s/%s", shape(l, d), d == l.Default, purpose, d.Match.Source())
}

// quiet is how long a chain waits for the first byte. Where TLS comes first, a check
// does not come so far, and our own application is not kept waiting.
func quiet(l *mesh.Listener, d *mesh.FilterChain) time.Duration {
	if l.Direction == mesh.Inbound && d.TLS == nil {
		return quietTime
	}
	return 0
}

// intentions are all of a chain, those of its HTTP filters included that hold for every
// route.
func intentions(d *mesh.FilterChain, routes map[string]*mesh.Route) []*mesh.Intention {
	all := append([]*mesh.Intention(nil), d.Intentions...)
	table := d.HTTP.Route
	if table == nil {
		table = routes[d.HTTP.RouteName]
	}
	for i := range d.HTTP.Filters {
		f := &d.HTTP.Filters[i]
		if in := f.Intention; in != nil && !f.Disabled && !table.Overrides(f.Name) {
			all = append(all, in)
		}
	}
	return all
}
