package mtls

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/tls"
	"strings"
)

// agreement is what a handshake has agreed on by Envoy's names of counters: version,
// suite, curve and the peer's signature; "" for what is not known.
func agreement(state *tls.ConnectionState) [4]string {
	return [4]string{version(state.Version), cipher(state.CipherSuite), curve(state.CurveID), signature(state)}
}

func version(v uint16) string {
	switch v {
	case tls.VersionTLS12:
		return "ssl.versions.TLSv1.2"
	case tls.VersionTLS13:
		return "ssl.versions.TLSv1.3"
	}
	return ""
}

func cipher(id uint16) string {
	if name := OpenSSLName(id); name != "" {
		return "ssl.ciphers." + name
	}
	return "ssl.ciphers." + tls.CipherSuiteName(id)
}

func curve(id tls.CurveID) string {
	if id == 0 {
		return ""
	}
	name := id.String()
	if bits, nist := strings.CutPrefix(name, "CurveP"); nist {
		name = "P-" + bits
	}
	return "ssl.curves." + name
}

// signature is how the peer has signed. crypto/tls does not tell, but of these keys
// there is one way in TLS 1.3 (RFC 8446 section 4.2.3).
func signature(state *tls.ConnectionState) string {
	if len(state.PeerCertificates) == 0 || state.Version != tls.VersionTLS13 {
		return ""
	}
	switch key := state.PeerCertificates[0].PublicKey.(type) {
	case ed25519.PublicKey:
		return "ssl.sigalgs.ed25519"
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
			return "ssl.sigalgs.ecdsa_secp256r1_sha256"
		case elliptic.P384():
			return "ssl.sigalgs.ecdsa_secp384r1_sha384"
		case elliptic.P521():
			return "ssl.sigalgs.ecdsa_secp521r1_sha512"
		}
	}
	return ""
}
