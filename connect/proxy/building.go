package proxy

import (
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds"
)

const (
	// quietTime is how long a plain connection from outside may be silent before the
	// application learns of it. A TCP check has left by then.
	quietTime = 50 * time.Millisecond
	// grace is how long requests of a peer may go on whom new intentions do not
	// allow anything any more. With what Consul takes it must stay under 2 s.
	grace = 750 * time.Millisecond
)

// building is the chains of one snapshot in the making. Those that live already are
// found again, and nothing of them changes before its commits run.
type building struct {
	chains  *chains
	routes  map[string]*mesh.Route
	living  map[string]*chain
	names   map[string][]string // of the living chains of each listener
	known   map[*mesh.FilterChain]string
	index   *index
	refused []xds.Refusal // what cannot be compiled
	commits []func()
}

// newBuilding begins the chains of next.
func (cs *chains) newBuilding(next *mesh.Snapshot) *building {
	return &building{
		chains: cs, routes: next.Routes,
		living: map[string]*chain{}, names: map[string][]string{}, known: map[*mesh.FilterChain]string{}, index: newIndex(),
	}
}

// identity is that of a definition. One that has not changed is still the same value.
func (b *building) identity(l *mesh.Listener, d *mesh.FilterChain) string {
	if key, ok := b.known[d]; ok {
		return key
	}
	key, ok := b.chains.known[d]
	if !ok {
		key = identity(l, d)
	}
	b.known[d] = key
	return key
}

// listener makes the chains of l and says what the listener should be.
func (b *building) listener(l *mesh.Listener) *listen.Spec {
	spec := &listen.Spec{
		Name: l.Name, Address: l.Address, Outbound: l.Direction == mesh.Outbound,
		Inspect: l.Inspect, HandOff: l.HandOff, Unbound: l.Unbound, ReusePort: !l.Exclusive,
	}
	if l.ProxyProtocol != nil {
		spec.ProxyHeader = &listen.ProxyHeader{Optional: l.ProxyProtocol.Optional}
	}
	if logs := b.chains.logs.Compile(l.AccessLogs).At(accesslog.Listener, ""); logs != nil {
		spec.Unmatched = func(peer *wire.Peer) { unmatched(logs, peer) }
	}
	old := &relatives{building: b, listener: l}
	var entries []listen.Entry
	var otherwise *listen.Chain
	chains, fallback := definitions(l)
	for _, d := range chains {
		entries = append(entries, listen.Entry{Match: d.Match, Chain: b.chain(l, d, old)})
	}
	if fallback != nil {
		otherwise = b.chain(l, fallback, old)
	}
	table, err := listen.NewTable(entries, otherwise)
	if err != nil {
		// Which of them is meant cannot be told.
		b.refused = append(b.refused, xds.Refusal{Kind: "listener", Name: l.Name, Reason: err.Error()})
		table = listen.Single(b.refuse(l, l.Default, err.Error()))
	}
	spec.Chains = table
	b.index.listeners[l.Name] = &indexed{listener: l, entries: entries, table: table}
	return spec
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
func (b *building) chain(l *mesh.Listener, d *mesh.FilterChain, old *relatives) *listen.Chain {
	if d.Refusal != "" {
		return b.refuse(l, d, d.Refusal)
	}
	c, commit, err := b.chains.compile(l, d, b.routes, old.of(d))
	if err != nil {
		b.refused = append(b.refused, xds.Refusal{Kind: "filter chain", Name: l.Name, Reason: err.Error()})
		return b.refuse(l, d, err.Error())
	}
	if c.behind != "" {
		b.refused = append(b.refused, xds.Refusal{Kind: "filter chain", Name: l.Name, Reason: c.behind})
	}
	key := b.identity(l, d)
	b.living[key] = c
	b.names[l.Name] = append(b.names[l.Name], key)
	b.commits = append(b.commits, commit)
	b.index.chains[c.listen] = d
	return c.listen
}

// refuse is a chain that closes every connection. d may be nil.
func (b *building) refuse(l *mesh.Listener, d *mesh.FilterChain, reason string) *listen.Chain {
	cs, match := b.chains, "the default"
	if d != nil && d != l.Default {
		match = d.Match.String()
	}
	key := fmt.Sprintf("%s/refused/%s/%s", l.Name, match, reason)
	c := cs.living[key]
	if c == nil {
		c = &chain{kin: key, listen: &listen.Chain{Name: key, Handler: refusing{cs.observe.TCP(cs.place(l))}}}
		b.commits = append(b.commits, func() {
			cs.log.Error("filter chain refused: it closes every connection", "listener", l.Name, "chain", match, "reason", reason)
		})
	}
	b.living[key] = c
	b.index.chains[c.listen] = &mesh.FilterChain{Refusal: reason}
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

// relatives are the living chains of a listener that may become those of the next
// snapshot.
type relatives struct {
	building *building
	listener *mesh.Listener
	// orphans are those whose match nobody has any more, by their kin; nil until
	// somebody looks for one.
	orphans map[string][]*chain
}

// of is the living chain that d goes on with, nil if it is a new one.
func (r *relatives) of(d *mesh.FilterChain) *chain {
	living := r.building.chains.living
	if c := living[r.building.identity(r.listener, d)]; c != nil {
		return c
	}
	if r.orphans == nil {
		r.find(living)
	}
	key := kin(r.listener, d)
	left := r.orphans[key]
	if len(left) == 0 {
		return nil
	}
	r.orphans[key] = left[1:]
	return left[0]
}

// find finds the orphans.
func (r *relatives) find(living map[string]*chain) {
	r.orphans = map[string][]*chain{}
	before := r.building.chains.before[r.listener.Name]
	if len(before) == 0 {
		return
	}
	wanted := map[string]bool{}
	chains, fallback := definitions(r.listener)
	for _, d := range chains {
		wanted[r.building.identity(r.listener, d)] = true
	}
	if fallback != nil {
		wanted[r.building.identity(r.listener, fallback)] = true
	}
	for _, key := range before {
		if c := living[key]; c != nil && !wanted[key] {
			r.orphans[c.kin] = append(r.orphans[c.kin], c)
		}
	}
}

// quiet is how long a chain waits for the first byte. Where TLS comes first, a check
// does not come so far, and our own application is not kept waiting.
func quiet(l *mesh.Listener, d *mesh.FilterChain) time.Duration {
	if l.Direction == mesh.Inbound && d.TLS == nil {
		return quietTime
	}
	return 0
}

// intentions are all of a chain, those of its HTTP filters included.
func intentions(d *mesh.FilterChain) []*mesh.Intention {
	all := append([]*mesh.Intention(nil), d.Intentions...)
	for i := range d.HTTP.Filters {
		if in := d.HTTP.Filters[i].Intention; in != nil {
			all = append(all, in)
		}
	}
	return all
}

// sever ends the connections of peers to whom new intentions allow nothing any more,
// with whatever streams they have, after a while in which short requests may end.
func (c *chain) sever() {
	hopeless := func(peer *wire.Peer) bool { return c.policy.Load().Hopeless(rbac.Input{Peer: peer}) }
	found := false
	c.listen.Peers(func(peer *wire.Peer, _ func()) { found = found || hopeless(peer) })
	if !found {
		return
	}
	time.AfterFunc(grace, func() {
		c.listen.Peers(func(peer *wire.Peer, kill func()) {
			if hopeless(peer) {
				kill()
			}
		})
	})
}
