package stack

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
)

// xfcc is the header in which proxies tell of a client's certificate.
const xfcc = "x-forwarded-client-cert"

// forwardCert applies forward_client_cert_details. Without a client certificate
// only ForwardAlways keeps what came.
func forwardCert(elements *elements, peer *wire.Peer, header *wire.Header) {
	mode := elements.details.Mode
	switch {
	case mode == mesh.ForwardSanitize || peer.Certificate == nil:
		header.Del(xfcc)
	case mode == mesh.ForwardOnly:
	case mode == mesh.ForwardSanitizeSet:
		header.Set(xfcc, elements.of(peer))
	case mode == mesh.ForwardAppend:
		element := elements.of(peer)
		if came := header.Joined(xfcc); came != "" {
			element = came + "," + element
		}
		header.Set(xfcc, element)
	}
}

// elements remembers what was written of certificates: hash and encoding of one
// cost more than all else that is done with a request.
type elements struct {
	details mesh.ForwardClientCert
	known   atomic.Pointer[map[ends]string] // never changed, but replaced
}

// ends are the certificates of both ends of a connection, and how many the peer
// has shown.
type ends struct {
	theirs, ours *x509.Certificate
	shown        int
}

// maxElements bounds elements; past it, it starts anew.
const maxElements = 256

func newElements(details mesh.ForwardClientCert) *elements {
	e := &elements{details: details}
	e.known.Store(&map[ends]string{})
	return e
}

func (e *elements) of(peer *wire.Peer) string {
	known := *e.known.Load()
	key := ends{peer.Certificate, peer.Ours, len(peer.Chain)}
	if element, ok := known[key]; ok {
		return element
	}
	next := map[ends]string{key: certElement(e.details, peer)}
	if len(known) < maxElements {
		maps.Copy(next, known)
	}
	e.known.Store(&next)
	return next[key]
}

// certElement writes one element as Envoy does: By, Hash, Cert, Chain, Subject,
// URI, DNS.
//
// Consul's patterns look for ";URI=" and know nothing of quotes, so no name in a
// certificate may bring separators of its own. Other than by Envoy, they are
// percent-encoded: ";" in a subject, and also "," and quotes in URI and DNS names.
func certElement(f mesh.ForwardClientCert, peer *wire.Peer) string {
	c := peer.Certificate
	plain := strings.NewReplacer(",", "%2C", ";", "%3B", `"`, "%22")
	var parts []string
	if peer.Ours != nil {
		for _, uri := range peer.Ours.URIs {
			parts = append(parts, "By="+plain.Replace(uri.String()))
		}
	}
	hash := sha256.Sum256(c.Raw)
	parts = append(parts, "Hash="+hex.EncodeToString(hash[:]))
	if f.Cert {
		parts = append(parts, `Cert="`+pemText(c)+`"`)
	}
	if f.Chain {
		var text strings.Builder
		text.WriteString(pemText(c))
		for _, other := range peer.Chain[min(1, len(peer.Chain)):] {
			text.WriteString(pemText(other))
		}
		parts = append(parts, `Chain="`+text.String()+`"`)
	}
	if f.Subject {
		parts = append(parts, `Subject="`+strings.ReplaceAll(spiffe.Subject(c), `\;`, "%3B")+`"`)
	}
	if f.URI {
		for _, uri := range c.URIs {
			parts = append(parts, "URI="+plain.Replace(uri.String()))
		}
		if len(c.URIs) == 0 {
			parts = append(parts, "URI=")
		}
	}
	if f.DNS {
		for _, name := range c.DNSNames {
			parts = append(parts, "DNS="+plain.Replace(name))
		}
	}
	return strings.Join(parts, ";")
}

// pemText is a certificate as PEM, percent-encoded.
func pemText(c *x509.Certificate) string {
	text := url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	return strings.ReplaceAll(text, "+", "%20") // a plus sign itself is %2B by now
}
