package proxy

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// Question is a request, or a connection, of which is asked what would become.
type Question struct {
	// Listener is the name of the listener, or Upstream the service whose local
	// listener it is; with neither it is the public one.
	Listener, Upstream string
	// From is who calls: a SPIFFE ID, or the name of a service beside us; "" for
	// nobody with a certificate. Source is its address, Destination the address
	// before a redirect, ServerName and ALPN what its ClientHello says.
	From, Source, Destination, ServerName string
	ALPN                                  []string
	// Method, Authority and Path (with its query) of the request. Header is in
	// order.
	Method, Authority, Path string
	Header                  [][2]string
	// Ask has services of ext_authz decide on the request: nothing else is sent.
	Ask bool
}

// Explanation is what would become of it, in the order in which it would happen.
type Explanation struct {
	Version  uint64 `json:"version"`
	Listener string `json:"listener"`
	Address  string `json:"address"`
	From     string `json:"from,omitempty"`
	// Chains are those of the listener; none chosen means that the connection is
	// closed.
	Chains []ChainVerdict `json:"chains"`
	// Refusal says why the chain closes every connection.
	Refusal string `json:"refusal,omitempty"`
	// TLS says that the chain wants it, ClientCertificate that it wants one.
	TLS               bool `json:"tls"`
	ClientCertificate bool `json:"client_certificate"`
	// Intentions are the decisions on the connection, Denied that it is closed.
	Intentions []rbac.Verdict `json:"intentions,omitempty"`
	Denied     bool           `json:"denied"`
	// Presumed says who would be asked about the connection, and was not: decisions
	// presume that they allow it.
	Presumed []string `json:"presumed,omitempty"`
	// HTTP is how it goes on with a request; Targets with raw bytes.
	HTTP    *stack.Explanation `json:"http,omitempty"`
	Targets []stack.Share      `json:"targets,omitempty"`
}

// ChainVerdict says whether a filter chain is the one.
type ChainVerdict struct {
	Match  string `json:"match"`
	Kind   string `json:"kind"`
	Chosen bool   `json:"chosen"`
	Why    string `json:"why,omitempty"`
}

var errNothing = errors.New("there is no configuration in force yet")

// Explain tells what would become of q, by the tables that serve.
func (p *Proxy) Explain(q Question) (*Explanation, error) {
	now, in := p.store.Load(), p.chains.index.Load()
	if now == nil || in == nil {
		return nil, errNothing
	}
	found, err := in.find(&q)
	if err != nil {
		return nil, err
	}
	arrival, err := found.arrival(&q, *in)
	if err != nil {
		return nil, err
	}
	e := &Explanation{
		Version: now.Version, Listener: found.listener.Name, Address: found.listener.Address.String(), From: arrival.Peer.ID.String(), Chains: found.verdicts(arrival),
	}
	chain := found.spec.Chains.Find(arrival)
	if chain == nil {
		return e, nil
	}
	d := found.definition(chain)
	e.Refusal, e.TLS = d.Refusal, d.TLS != nil
	e.ClientCertificate = d.TLS != nil && d.TLS.RequireClient
	return e, p.explainChain(e, found.listener, d, now.Routes, arrival.Peer, &q)
}

// explainChain goes on behind the handshake.
func (p *Proxy) explainChain(e *Explanation, l *mesh.Listener, d *mesh.FilterChain, routes map[string]*mesh.Route, peer *wire.Peer, q *Question) error {
	if d.Refusal != "" {
		return nil
	}
	policy, err := rbac.Compile(d.Intentions)
	if err != nil {
		return err
	}
	e.Intentions = policy.Explain(rbac.Input{Peer: peer})
	for i := range e.Intentions {
		e.Denied = e.Denied || !e.Intentions[i].Allowed
	}
	for _, gate := range d.Authz {
		e.Presumed = append(e.Presumed, "ext_authz allows the connection: cluster "+gate.Service.Cluster+" would be asked, and was not")
	}
	switch {
	case d.HTTP != nil:
		req := &wire.Request{
			Method: cmp.Or(q.Method, "GET"), Scheme: "http", Authority: q.Authority, Path: cmp.Or(q.Path, "/"), Proto: 1, Minor: 1,
		}
		if d.TLS != nil {
			req.Scheme = "https"
		}
		for _, field := range q.Header {
			req.Header.Add(strings.ToLower(field[0]), field[1])
		}
		place := p.chains.at(l, d)
		if q.Ask {
			place.Ask = askTimeout
		}
		e.HTTP, err = stack.Explain(d.HTTP, routes, p.clusters, place, peer, req)
	case d.TCP != nil:
		e.Targets = stack.ExplainTCP(d.TCP, p.clusters, peer)
	}
	return err
}

// find returns the listener that is meant.
func (in index) find(q *Question) (*built, error) {
	if q.Listener != "" {
		if l := in[q.Listener]; l != nil {
			return l, nil
		}
	}
	var names []string
	for name, l := range in {
		short, _, _ := strings.Cut(name, ":")
		switch {
		case q.Listener != "" && short == q.Listener, q.Listener == "" && q.Upstream != "" && short == q.Upstream,
			q.Listener == "" && q.Upstream == "" && l.listener.Direction == mesh.Inbound && short == "public_listener":
			return l, nil
		}
		names = append(names, name)
	}
	if q.Listener == "" && q.Upstream == "" && len(names) == 1 {
		return in[names[0]], nil
	}
	all := make(map[string]string, len(names))
	for _, name := range names {
		all[name] = name
	}
	asked := "the public listener is not there"
	switch {
	case q.Listener != "":
		asked = fmt.Sprintf("there is no listener %q", q.Listener)
	case q.Upstream != "":
		asked = fmt.Sprintf("there is no listener for the upstream %q", q.Upstream)
	}
	return nil, fmt.Errorf("%s; there are %s", asked, strings.Join(sorted(all), ", "))
}

// arrival is the connection that q speaks of.
func (l *built) arrival(q *Question, in index) (*listen.Arrival, error) {
	peer := &wire.Peer{Addr: netip.MustParseAddrPort("127.0.0.1:1024"), Local: l.listener.Address.AddrPort}
	var err error
	if q.Source != "" {
		if peer.Addr, err = address(q.Source, 1024); err != nil {
			return nil, fmt.Errorf("source: %w", err)
		}
	}
	if q.Destination != "" {
		if peer.Local, err = address(q.Destination, peer.Local.Port()); err != nil {
			return nil, fmt.Errorf("destination: %w", err)
		}
		peer.Restored = true
	}
	a := &listen.Arrival{Peer: peer, Direct: peer.Addr, ServerName: strings.ToLower(q.ServerName), ALPN: q.ALPN}
	if q.From != "" || q.ServerName != "" || len(q.ALPN) > 0 {
		a.Transport, peer.TLS, peer.ServerName = mesh.TransportTLS, true, a.ServerName
	}
	if q.From != "" {
		peer.ID, err = l.identity(q.From, in)
	}
	return a, err
}

// address reads an address with or without a port.
func address(text string, port uint16) (netip.AddrPort, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.AddrPortFrom(addr, port), nil
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		err = fmt.Errorf("%q is no address: write it as 10.0.0.1 or 10.0.0.1:80", text)
	}
	return addr, err
}

// identity is a SPIFFE ID, or that of a service in our own trust domain and
// datacenter.
func (l *built) identity(from string, in index) (spiffe.ID, error) {
	if strings.Contains(from, "://") {
		return spiffe.Parse(from)
	}
	own := l.ourID()
	for _, other := range sorted(in) {
		if own == "" {
			own = other.ourID()
		}
	}
	at := strings.LastIndex(own, "/svc/")
	if at < 0 {
		return spiffe.ID{}, fmt.Errorf("from %q: no certificate of ours tells the trust domain, write the SPIFFE ID", from)
	}
	return spiffe.Parse(own[:at] + "/svc/" + from)
}

// ourID is who we are to those that connect; "" if no chain says so.
func (l *built) ourID() string {
	chains, fallback := definitions(l.listener)
	for _, d := range append(append([]*mesh.FilterChain(nil), chains...), fallback) {
		if d == nil || d.TLS == nil {
			continue
		}
		for _, leaf := range d.TLS.Leaves {
			block, _ := pem.Decode([]byte(leaf.CertificatePEM))
			if block == nil {
				continue
			}
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && len(c.URIs) > 0 {
				return c.URIs[0].String()
			}
		}
	}
	return ""
}

// verdicts says of each chain whether it is the one.
func (l *built) verdicts(a *listen.Arrival) []ChainVerdict {
	chosen := l.spec.Chains.Find(a)
	var all []ChainVerdict
	for i := range l.entries {
		e := &l.entries[i]
		v := ChainVerdict{Match: describeChain(&e.Match), Kind: kindOf(l.definition(e.Chain)), Chosen: e.Chain == chosen}
		if !v.Chosen {
			v.Why = "its match does not fit"
			if alone, err := listen.NewTable([]listen.Entry{*e}, nil); err == nil && alone.Find(a) != nil {
				v.Why = "it fits, and a more specific one goes before"
			}
		}
		all = append(all, v)
	}
	found := false
	for _, v := range all {
		found = found || v.Chosen
	}
	for chain := range l.spec.Chains.All() {
		if l.entryOf(chain) {
			continue
		}
		v := ChainVerdict{Match: "the default", Kind: kindOf(l.definition(chain)), Chosen: !found && chain == chosen}
		if !v.Chosen {
			v.Why = "another one fits"
		}
		all = append(all, v)
	}
	return all
}

func (l *built) entryOf(chain *listen.Chain) bool {
	for i := range l.entries {
		if l.entries[i].Chain == chain {
			return true
		}
	}
	return false
}

func kindOf(d *mesh.FilterChain) string {
	switch {
	case d == nil || d.Refusal != "":
		return "refused"
	case d.HTTP != nil:
		return "http"
	default:
		return "tcp"
	}
}
