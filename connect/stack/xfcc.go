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
		header.Set(xfcc, elements.of(peer.Certificate))
	case mode == mesh.ForwardAppend:
		element := elements.of(peer.Certificate)
		if came := header.Joined(xfcc); came != "" {
			element = came + "," + element
		}
		header.Set(xfcc, element)
	}
}

// elements remembers what was written of a certificate: hash and encoding of one
// cost more than all else that is done with a request.
type elements struct {
	details mesh.ForwardClientCert
	known   atomic.Pointer[map[*x509.Certificate]string] // never changed, but replaced
}

// maxElements bounds elements; past it, it starts anew.
const maxElements = 256

func newElements(details mesh.ForwardClientCert) *elements {
	e := &elements{details: details}
	e.known.Store(&map[*x509.Certificate]string{})
	return e
}

func (e *elements) of(c *x509.Certificate) string {
	known := *e.known.Load()
	if element, ok := known[c]; ok {
		return element
	}
	next := map[*x509.Certificate]string{c: certElement(e.details, c)}
	if len(known) < maxElements {
		maps.Copy(next, known)
	}
	e.known.Store(&next)
	return next[c]
}

// certElement writes one element in Envoy's order: Hash, Cert, Chain, Subject,
// URI, DNS. By is left out, since our own certificate is not at hand here and
// Consul's patterns do not read it.
//
// Consul's patterns look for ";URI=" and know nothing of quotes, so no name in a
// certificate may bring separators of its own: they are percent-encoded.
func certElement(f mesh.ForwardClientCert, c *x509.Certificate) string {
	hash := sha256.Sum256(c.Raw)
	parts := []string{"Hash=" + hex.EncodeToString(hash[:])}
	text := url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
	text = strings.ReplaceAll(text, "+", "%20") // a plus sign itself is %2B by now
	quoted := strings.NewReplacer(`\`, `\\`, `"`, `\"`, ";", "%3B")
	plain := strings.NewReplacer(",", "%2C", ";", "%3B", "=", "%3D", `"`, "%22")
	if f.Cert {
		parts = append(parts, `Cert="`+text+`"`)
	}
	if f.Chain {
		parts = append(parts, `Chain="`+text+`"`)
	}
	if f.Subject {
		parts = append(parts, `Subject="`+quoted.Replace(c.Subject.String())+`"`)
	}
	if f.URI {
		for _, uri := range c.URIs {
			parts = append(parts, "URI="+plain.Replace(uri.String()))
		}
	}
	if f.DNS {
		for _, name := range c.DNSNames {
			parts = append(parts, "DNS="+plain.Replace(name))
		}
	}
	return strings.Join(parts, ";")
}
