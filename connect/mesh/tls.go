package mesh

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
)

// Leaf is a certificate chain with its key, both PEM.
type Leaf struct {
	CertificatePEM, KeyPEM string
}

// Roots are trusted CA certificates, PEM, one after the other.
type Roots struct {
	PEM string
}

// TLSParams are the limits of a TLS context; zero values are Envoy's defaults
// (server 1.2 to 1.3, client 1.2). Versions are the wire's: 0x0303 is 1.2.
type TLSParams struct {
	MinVersion, MaxVersion uint16
	// CipherSuites are OpenSSL's names.
	CipherSuites []string
	ALPN         []string
}

// DownstreamTLS is TLS on connections that we accept.
type DownstreamTLS struct {
	// Leaves are chosen by server name; the first is the default.
	Leaves []Leaf
	// Roots verify client certificates; without any, and without Pins, clients are
	// not asked for one.
	Roots Roots
	// RequireClient refuses a connection without a client certificate. One that is
	// shown must be valid in any case.
	RequireClient bool
	// Names are what a client's certificate must have one of; nil for no matter what.
	Names  []PeerName
	Pins   Pins
	Params TLSParams
	// TrustDomains maps SPIFFE trust domains to their roots (peering); if set
	// it replaces Roots.
	TrustDomains map[string]Roots
}

// Trust names all by which client certificates are believed: with the same Trust
// the same clients are.
func (t *DownstreamTLS) Trust() string {
	h := sha256.New()
	fmt.Fprintf(h, "%t%q", t.RequireClient, t.Roots.PEM)
	for _, domain := range slices.Sorted(maps.Keys(t.TrustDomains)) {
		fmt.Fprintf(h, "%q%q", domain, t.TrustDomains[domain].PEM)
	}
	fmt.Fprintf(h, "%+v%q%q", t.Names, t.Pins.Certificates, t.Pins.Keys)
	return string(h.Sum(nil))
}

// UpstreamTLS is TLS on connections that we make.
type UpstreamTLS struct {
	// Leaf is ours; zero if we show none.
	Leaf  Leaf
	Roots Roots
	// SystemRoots takes those of the machine in place of Roots.
	SystemRoots bool
	// ServerName is the SNI; with HostSNI it is the host name of the endpoint, where
	// it has one.
	ServerName string
	HostSNI    bool
	// VerifySNI accepts a peer that has the SNI as its DNS name, or the address of
	// the endpoint if there is no SNI. It comes on top of all else.
	VerifySNI bool
	// URIs that the peer's certificate may have as its URI name: one must match
	// exactly. For a mesh cluster none means that no peer is accepted.
	URIs []string
	// DNSNames are accepted as well, by the rules for host names; so are Names.
	DNSNames []string
	Names    []PeerName
	// AnyPeer accepts whoever the Roots signed: only where the control plane
	// sets no names at all for a service outside of the mesh.
	AnyPeer bool
	// Pins, if there are any, must be right too. Without Roots they are all there is.
	Pins   Pins
	Params TLSParams
	// TrustDomains as in DownstreamTLS.
	TrustDomains map[string]Roots
}
