// Package spiffe reads the workload identities that Consul writes into
// certificates: SPIFFE IDs as URI subject alternative names.
//
//	spiffe://<trust domain>/ns/<namespace>/dc/<datacenter>/svc/<service>
//	spiffe://<trust domain>/gateway/mesh/dc/<datacenter>
//
// A partition stands before the namespace, as /ap/<partition>.
//
// Source: the SPIFFE ID standard, section 2, and Consul's "Service mesh
// certificate authority" documentation.
package spiffe

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// maxLength bounds an ID as the SPIFFE ID standard does (section 2.3).
const maxLength = 2048

// ID is one SPIFFE identity. The zero ID is "nobody" and equals no real one.
// IDs are comparable with == and safe for concurrent use.
type ID struct {
	uri string
}

// Parse checks that uri is a SPIFFE ID and returns it. Errors say what is
// wrong with it. Segments may have characters that the standard does not allow,
// since Consul's names may: they come percent-encoded.
func Parse(uri string) (ID, error) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return ID{}, fmt.Errorf("spiffe id %.80q: the scheme is not spiffe://", uri)
	}
	if len(uri) > maxLength {
		return ID{}, fmt.Errorf("spiffe id of %d bytes: the limit is %d", len(uri), maxLength)
	}
	domain, path, hasPath := strings.Cut(rest, "/")
	if domain == "" {
		return ID{}, fmt.Errorf("spiffe id %q: no trust domain", uri)
	}
	for i := range len(domain) {
		if c := domain[i]; !lowerOrDigit(c) && c != '.' && c != '-' && c != '_' {
			return ID{}, fmt.Errorf("spiffe id %q: character %q is not allowed in a trust domain", uri, c)
		}
	}
	for i := range len(path) {
		if c := path[i]; c <= ' ' || c >= 0x7f || c == '?' || c == '#' || c == '@' {
			return ID{}, fmt.Errorf("spiffe id %q: character %q is not allowed", uri, c)
		}
	}
	if hasPath {
		for segment := range strings.SplitSeq(path, "/") {
			if segment == "" || segment == "." || segment == ".." {
				return ID{}, fmt.Errorf("spiffe id %q: segment %q is not allowed", uri, segment)
			}
		}
	}
	return ID{uri: uri}, nil
}

func lowerOrDigit(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }

// FromCertificate returns the identity in a leaf certificate. A certificate
// with no URI, with more than one, or with one that is no SPIFFE ID has none
// (X.509-SVID standard, section 2: exactly one URI SAN).
func FromCertificate(leaf *x509.Certificate) (ID, error) {
	if leaf == nil {
		return ID{}, fmt.Errorf("no certificate")
	}
	if n := len(leaf.URIs); n != 1 {
		return ID{}, fmt.Errorf("certificate %q has %d URI names, an identity needs exactly one", leaf.Subject, n)
	}
	return Parse(leaf.URIs[0].String())
}

// String returns the ID as a URI, "" for the zero ID.
func (id ID) String() string { return id.uri }

// IsZero tells whether id is "nobody".
func (id ID) IsZero() bool { return id.uri == "" }

// TrustDomain returns the part between the scheme and the path.
func (id ID) TrustDomain() string {
	rest := strings.TrimPrefix(id.uri, "spiffe://")
	domain, _, _ := strings.Cut(rest, "/")
	return domain
}

// Service returns the name of the service in a Consul service identity, and ""
// for every other kind of identity.
func (id ID) Service() string {
	_, path, _ := strings.Cut(strings.TrimPrefix(id.uri, "spiffe://"), "/")
	if partition, ok := strings.CutPrefix(path, "ap/"); ok {
		_, path, _ = strings.Cut(partition, "/")
	}
	for _, key := range []string{"ns/", "dc/"} {
		rest, ok := strings.CutPrefix(path, key)
		if !ok {
			return ""
		}
		_, path, _ = strings.Cut(rest, "/")
	}
	service, ok := strings.CutPrefix(path, "svc/")
	if !ok || strings.Contains(service, "/") {
		return ""
	}
	if name, err := url.PathUnescape(service); err == nil {
		return name
	}
	return service
}
