package format

import (
	"crypto/sha1" //nolint:gosec // a fingerprint that somebody asks for by its name
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
)

// end is one end of an exchange: its downstream or upstream connection; nil if there
// is none.
type end func(in *Input) *wire.Peer

func downstream(in *Input) *wire.Peer { return in.Exchange.Peer }

// tlsOperator are those of TLS and certificates.
func tlsOperator(name string) (definition, bool) {
	if what, ok := strings.CutPrefix(name, "DOWNSTREAM_"); ok {
		switch what {
		case "TLS_SESSION_ID", "LOCAL_OTHERNAME_SAN", "PEER_OTHERNAME_SAN":
			return never()
		case "PEER_CHAIN_SERIALS":
			return plainly(chain(ofCertificate("SERIAL")))
		case "PEER_CHAIN_FINGERPRINTS_256":
			return plainly(chain(ofCertificate("FINGERPRINT_256")))
		case "PEER_CHAIN_FINGERPRINTS_1":
			return plainly(chain(ofCertificate("FINGERPRINT_1")))
		case "PEER_SERIAL", "PEER_FINGERPRINT_256", "PEER_FINGERPRINT_1", "PEER_EMAIL_SAN", "LOCAL_SUBJECT", "LOCAL_EMAIL_SAN":
			return certificateOperator(what, downstream)
		}
		return tlsOperatorOf(what, downstream)
	}
	if what, ok := strings.CutPrefix(name, "UPSTREAM_"); ok {
		return tlsOperatorOf(what, (*Input).upstream)
	}
	return definition{}, false
}

// tlsOperatorOf are those that there are of both ends.
func tlsOperatorOf(what string, of end) (definition, bool) {
	switch what {
	case "TLS_VERSION":
		return plainly(word(func(in *Input) string {
			if p := of(in); p != nil {
				return tlsVersion(p.Version)
			}
			return ""
		}))
	case "TLS_CIPHER":
		return plainly(word(func(in *Input) string {
			if p := of(in); p != nil {
				return tlsCipher(p.Cipher)
			}
			return ""
		}))
	case "TLS_SESSION_ID": // which crypto/tls does not tell
		return never()
	case "PEER_CERT_V_START":
		return validity(of, func(c *x509.Certificate) time.Time { return c.NotBefore })
	case "PEER_CERT_V_END":
		return validity(of, func(c *x509.Certificate) time.Time { return c.NotAfter })
	case "PEER_SUBJECT", "PEER_ISSUER", "PEER_CERT", "PEER_URI_SAN", "PEER_DNS_SAN", "PEER_IP_SAN",
		"LOCAL_URI_SAN", "LOCAL_DNS_SAN", "LOCAL_IP_SAN":
		return certificateOperator(what, of)
	}
	return definition{}, false
}

// certificateOperator is PEER_ or LOCAL_ with what is written of the certificate of
// the other side, or of ours.
func certificateOperator(what string, of end) (definition, bool) {
	if theirs, ok := strings.CutPrefix(what, "PEER_"); ok {
		return plainly(certificate(shownBy(of), ofCertificate(theirs)))
	}
	return plainly(certificate(func(in *Input) *x509.Certificate {
		if p := of(in); p != nil {
			return p.Ours
		}
		return nil
	}, ofCertificate(strings.TrimPrefix(what, "LOCAL_"))))
}

// shownBy is the certificate of the other side.
func shownBy(of end) func(in *Input) *x509.Certificate {
	return func(in *Input) *x509.Certificate {
		if p := of(in); p != nil {
			return p.Certificate
		}
		return nil
	}
}

// chain writes what of says of all certificates that the client has shown.
func chain(of func(c *x509.Certificate) string) operator {
	return word(func(in *Input) string { return joined(in.Exchange.Peer.Chain, of) })
}

// ofCertificate is what is written of a peer's certificate; nil for what is unknown.
func ofCertificate(what string) func(c *x509.Certificate) string {
	switch what {
	case "URI_SAN":
		return func(c *x509.Certificate) string { return joined(c.URIs, (*url.URL).String) }
	case "DNS_SAN":
		return func(c *x509.Certificate) string { return strings.Join(c.DNSNames, ",") }
	case "IP_SAN":
		return func(c *x509.Certificate) string {
			var all []string
			for _, ip := range c.IPAddresses {
				all = append(all, ip.String())
			}
			return strings.Join(all, ",")
		}
	case "EMAIL_SAN":
		return func(c *x509.Certificate) string { return strings.Join(c.EmailAddresses, ",") }
	case "SUBJECT":
		return spiffe.Subject
	case "ISSUER":
		return spiffe.Issuer
	case "SERIAL":
		return func(c *x509.Certificate) string { return hex.EncodeToString(c.SerialNumber.Bytes()) }
	case "FINGERPRINT_256":
		return func(c *x509.Certificate) string { sum := sha256.Sum256(c.Raw); return hex.EncodeToString(sum[:]) }
	case "FINGERPRINT_1":
		return func(c *x509.Certificate) string { sum := sha1.Sum(c.Raw); return hex.EncodeToString(sum[:]) } //nolint:gosec // see the import
	case "CERT":
		return func(c *x509.Certificate) string {
			text := url.QueryEscape(string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})))
			return strings.ReplaceAll(text, "+", "%20")
		}
	}
	return nil
}

func joined[T any](all []T, name func(T) string) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = name(one)
	}
	return strings.Join(names, ",")
}

// maxCertificates bounds what is remembered; past it, it starts anew.
const maxCertificates = 256

// certificate writes what of says of a certificate, which is remembered: it is the
// same for all exchanges of a connection.
func certificate(find func(in *Input) *x509.Certificate, of func(c *x509.Certificate) string) operator {
	var known atomic.Pointer[map[*x509.Certificate]string] // never changed, but replaced
	known.Store(&map[*x509.Certificate]string{})
	return word(func(in *Input) string {
		c := find(in)
		if c == nil {
			return ""
		}
		before := *known.Load()
		if value, ok := before[c]; ok {
			return value
		}
		next := map[*x509.Certificate]string{c: of(c)}
		if len(before) < maxCertificates {
			maps.Copy(next, before)
		}
		known.Store(&next)
		return next[c]
	})
}

func validity(whose end, of func(c *x509.Certificate) time.Time) (definition, bool) {
	shown := shownBy(whose)
	return definition{syntax: takesArg, make: func(arg string) (operator, error) {
		c, err := newClock(arg, false)
		if err != nil {
			return nil, err
		}
		return clockOperator(c, func(in *Input) time.Time {
			if c := shown(in); c != nil {
				return of(c)
			}
			return time.Time{}
		}), nil
	}}, true
}

func tlsVersion(version uint16) string {
	switch version {
	case tls.VersionTLS10:
		return "TLSv1"
	case tls.VersionTLS11:
		return "TLSv1.1"
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return ""
}

// tlsCipher is the name that OpenSSL has for a suite; those of TLS 1.3 have one.
func tlsCipher(suite uint16) string {
	switch suite {
	case 0:
		return ""
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256:
		return "ECDHE-RSA-AES128-GCM-SHA256"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384:
		return "ECDHE-RSA-AES256-GCM-SHA384"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256:
		return "ECDHE-ECDSA-AES128-GCM-SHA256"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384:
		return "ECDHE-ECDSA-AES256-GCM-SHA384"
	case tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256:
		return "ECDHE-RSA-CHACHA20-POLY1305"
	case tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return "ECDHE-ECDSA-CHACHA20-POLY1305"
	case tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA:
		return "ECDHE-RSA-AES128-SHA"
	case tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA:
		return "ECDHE-RSA-AES256-SHA"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA:
		return "ECDHE-ECDSA-AES128-SHA"
	case tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA:
		return "ECDHE-ECDSA-AES256-SHA"
	}
	return tls.CipherSuiteName(suite)
}
