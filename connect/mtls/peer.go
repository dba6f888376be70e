package mtls

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
)

var (
	// errNotNamed is for clients, who learn nothing of names that would be right.
	errNotNamed = errors.New("the client's certificate has none of the names that are accepted")
	// errNotPinned is for certificates that are none of those named by their hash.
	errNotPinned = errors.New("the peer's certificate is none of those that are accepted")
)

// expected is who a peer must be: one of all these.
type expected struct {
	any        bool
	uris, dns  []string
	names      []name
	namesAsked []mesh.PeerName
}

func expectedOf(t *mesh.UpstreamTLS) (*expected, error) {
	names, err := namesOf(t.Names)
	return &expected{any: t.AnyPeer, uris: t.URIs, dns: t.DNSNames, names: names, namesAsked: t.Names}, err
}

// check tells whether leaf has one of the names that the control plane asked for.
func (e *expected) check(leaf *x509.Certificate) error {
	if e.any {
		return nil
	}
	for _, uri := range leaf.URIs {
		if slices.Contains(e.uris, uri.String()) {
			return nil
		}
	}
	for _, name := range e.dns {
		if hasDNS(leaf, name) {
			return nil
		}
	}
	for i := range e.names {
		if e.names[i].of(leaf) {
			return nil
		}
	}
	asked := fmt.Sprint(slices.Concat(e.uris, e.dns))
	if len(e.namesAsked) > 0 {
		asked = fmt.Sprintf("%s or %d more", asked, len(e.namesAsked))
	}
	id, err := spiffe.FromCertificate(leaf)
	if err != nil {
		return fmt.Errorf("the peer is not who we asked for, %s: %w", asked, err)
	}
	return fmt.Errorf("the peer is %s, we asked for %s", id, asked)
}

// name is a compiled [mesh.PeerName].
type name struct {
	kind  mesh.NameKind
	value *match.StringMatcher
	// host is a DNS name that matches exactly, by the rules for host names.
	host string
}

func namesOf(all []mesh.PeerName) ([]name, error) {
	var names []name
	for _, n := range all {
		value, err := match.String(n.Value)
		if err != nil {
			return nil, fmt.Errorf("tls: name of a peer: %w", err)
		}
		compiled := name{kind: n.Kind, value: value}
		if n.Kind == mesh.NameDNS && n.Value.Kind == mesh.MatchExact {
			compiled.host = n.Value.Exact
		}
		names = append(names, compiled)
	}
	return names, nil
}

// of tells whether leaf has the name.
func (n *name) of(leaf *x509.Certificate) bool {
	switch n.kind {
	case mesh.NameURI:
		return slices.ContainsFunc(leaf.URIs, func(u *url.URL) bool { return n.value.Match(u.String()) })
	case mesh.NameEmail:
		return slices.ContainsFunc(leaf.EmailAddresses, n.value.Match)
	case mesh.NameIP:
		return slices.ContainsFunc(leaf.IPAddresses, func(ip net.IP) bool { return n.value.Match(ip.String()) })
	case mesh.NameDNS:
		if n.host != "" {
			return hasDNS(leaf, n.host)
		}
		return slices.ContainsFunc(leaf.DNSNames, n.value.Match)
	default:
		return false
	}
}

// hasDNS tells whether leaf has a DNS name, by the rules for host names. What looks
// like an address is no address here.
func hasDNS(leaf *x509.Certificate, name string) bool {
	if net.ParseIP(strings.Trim(name, "[]")) != nil {
		return slices.Contains(leaf.DNSNames, name)
	}
	return leaf.VerifyHostname(name) == nil
}

// pinned tells whether the certificate or its key is one of those in p.
func pinned(leaf *x509.Certificate, p *mesh.Pins) bool {
	certificate, key := sha256.Sum256(leaf.Raw), sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return slices.Contains(p.Certificates, hex.EncodeToString(certificate[:])) ||
		slices.Contains(p.Keys, base64.StdEncoding.EncodeToString(key[:]))
}
