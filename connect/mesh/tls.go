package mesh

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Leaf is a certificate chain with its key, both PEM.
type Leaf struct {
	CertificatePEM, KeyPEM string
	// Staple is the answer of OCSP that is shown with it, DER; "" for none.
	Staple string
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
	// Curves are names of key exchanges, as Envoy has them; none means crypto/tls's own.
	Curves []string
	ALPN   []string
}

// Chains says which chains of a peer's certificate are taken besides what Roots say.
// The zero value is all.
type Chains struct {
	// MaxDepth is how many certificates may stand above the peer's, the root included;
	// it counts with HasMaxDepth.
	MaxDepth    uint32
	HasMaxDepth bool
	// CRL are revocation lists, PEM: each issuer in a chain must have one that is in
	// force, and none of the chain may be on it; with CRLOfLeaf the peer's alone.
	CRL       string
	CRLOfLeaf bool
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
	Chains Chains
	Params TLSParams
	Resume Resumption
	// TrustDomains maps SPIFFE trust domains to their roots (peering); if set
	// it replaces Roots.
	TrustDomains map[string]Roots
}

// Resumption is how sessions of clients go on. The zero value is by tickets whose keys
// are our own.
type Resumption struct {
	// Off gives out no tickets.
	Off bool
	// Timeout is how long a session may be resumed; 0 means as long as crypto/tls has it.
	Timeout time.Duration
	// Keys are those of tickets, the first for new ones, for several processes that
	// resume one another's sessions.
	Keys []string
}

// Trust names all by which client certificates are believed: with the same Trust
// the same clients are.
func (t *DownstreamTLS) Trust() string {
	h := sha256.New()
	fmt.Fprintf(h, "%t%q", t.RequireClient, t.Roots.PEM)
	for _, domain := range slices.Sorted(maps.Keys(t.TrustDomains)) {
		fmt.Fprintf(h, "%q%q", domain, t.TrustDomains[domain].PEM)
	}
	fmt.Fprintf(h, "%+v%+v%q%q", t.Chains, t.Names, t.Pins.Certificates, t.Pins.Keys)
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
	// AutoSNI takes the host of a request as the SNI, or the field NameHeader of it where
	// there is one; AutoSAN accepts a peer that has it as its DNS name, and no other: URIs,
	// DNSNames, Names and AnyPeer do not count then. Both are for HTTP, where connections
	// serve requests of one such name. All other connections are as without them.
	AutoSNI, AutoSAN bool
	NameHeader       string
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
	Chains Chains
	Params TLSParams
	// TrustDomains as in DownstreamTLS.
	TrustDomains map[string]Roots
}
