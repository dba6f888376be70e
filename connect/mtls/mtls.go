// Package mtls makes crypto/tls configurations of what a control plane says
// about TLS, and checks SPIFFE identities.
//
// All checks of a peer happen in VerifyConnection, which crypto/tls also calls
// for resumed sessions (VerifyPeerCertificate is not called for those).
package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
)

// errNoCertificate is what a peer without a certificate gets.
var errNoCertificate = errors.New("the peer showed no certificate")

// Loader makes TLS configurations and remembers what it has parsed: after a
// rotation all listeners and clusters come with the same new leaf and roots.
// The zero Loader is ready for use. It is safe for concurrent use.
type Loader struct {
	mu     sync.Mutex // guards:
	leaves map[mesh.Leaf]*tls.Certificate
	roots  map[mesh.Roots]*x509.CertPool
}

// maxKept bounds the memory of a Loader; past it, it starts anew.
const maxKept = 256

// Server returns the configuration for connections that we accept, and by what it
// believes clients, as Clients does. Neither must be changed afterwards. Each has
// session ticket keys of its own, so a session can only be resumed where it was made, or
// where [Tickets] are used for several.
func (l *Loader) Server(t *mesh.DownstreamTLS) (*tls.Config, *Clients, error) {
	if len(t.Leaves) == 0 {
		return nil, nil, errors.New("tls: no certificate to show")
	}
	config := &tls.Config{
		MinVersion: tls.VersionTLS12, // params may raise it
		// Records are not begun small: nobody in the mesh renders a page meanwhile.
		DynamicRecordSizingDisabled: true,
	}
	var certificates []*tls.Certificate
	for _, leaf := range t.Leaves {
		certificate, err := l.leaf(leaf)
		if err != nil {
			return nil, nil, err
		}
		certificates = append(certificates, certificate)
	}
	if len(certificates) == 1 {
		config.Certificates = []tls.Certificate{*certificates[0]}
	} else {
		config.GetCertificate = NewChoice(certificates).Get
	}
	if err := params(config, &t.Params); err != nil {
		return nil, nil, err
	}
	resumption(config, &t.Resume)
	if slices.Contains(config.NextProtos, "http/1.1") && !slices.Contains(config.NextProtos, "h2") {
		// Who knows only that gets it: both are served on every port, and crypto/tls
		// would end the connection, which others do not.
		config.NextProtos = append(config.NextProtos, "h2")
	}
	clients, err := l.Clients(t)
	if err != nil {
		return nil, nil, err
	}
	if clients == nil {
		return config, nil, nil
	}
	config.ClientAuth = tls.RequireAnyClientCert
	if clients.optional {
		config.ClientAuth = tls.RequestClientCert
	}
	config.VerifyConnection = func(state tls.ConnectionState) error { return clients.verify(state.PeerCertificates, time.Now()) }
	return config, clients, nil
}

// Client is TLS on connections that we make, as one [mesh.UpstreamTLS] asks for it. It
// holds little as long as there is none: of many upstreams few are called. It is
// immutable.
type Client struct {
	asked       *mesh.UpstreamTLS
	trust       *trust
	expected    *expected
	certificate *tls.Certificate // nil for none
}

// Client compiles t, which must not be changed afterwards. What cannot be understood is
// found now.
func (l *Loader) Client(t *mesh.UpstreamTLS) (*Client, error) {
	c := &Client{asked: t}
	var err error
	if c.trust, err = l.upstreamTrust(t); err != nil {
		return nil, err
	}
	if c.expected, err = expectedOf(t); err != nil {
		return nil, err
	}
	if err = params(&tls.Config{MinVersion: tls.VersionTLS12}, &t.Params); err != nil {
		return nil, err
	}
	if t.Leaf != (mesh.Leaf{}) {
		c.certificate, err = l.leaf(t.Leaf)
	}
	return c, err
}

// Config makes a configuration. Sessions are kept in a cache of its own, so a new leaf
// never resumes what an old one began.
func (c *Client) Config() *tls.Config {
	config := &tls.Config{
		MinVersion:         tls.VersionTLS12,
		ServerName:         c.asked.ServerName,
		InsecureSkipVerify: true, // VerifyConnection below verifies
		ClientSessionCache: tls.NewLRUClientSessionCache(32),
		// Records are not begun small: nobody in the mesh renders a page meanwhile.
		DynamicRecordSizingDisabled: true,
	}
	if err := params(config, &c.asked.Params); err != nil { // there was none before
		config.VerifyConnection = func(tls.ConnectionState) error { return err }
		return config
	}
	if c.certificate != nil {
		config.Certificates = []tls.Certificate{*c.certificate}
	}
	config.VerifyConnection = func(state tls.ConnectionState) error {
		leaf, err := c.trust.verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
		if err != nil {
			return err
		}
		return because(FailureName, c.expected.check(leaf))
	}
	return config
}

// Signed asks of a peer only that it is signed by whom is trusted: in front of [ForName],
// which asks for its name.
func (c *Client) Signed(state tls.ConnectionState) error {
	_, err := c.trust.verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
	return err
}

// ForHost returns config for one endpoint, as t wants it: host is its host name, or
// its address if it has none. It returns config itself where all endpoints are alike.
func ForHost(config *tls.Config, t *mesh.UpstreamTLS, host string) *tls.Config {
	name := t.ServerName
	if t.HostSNI {
		name = host
	}
	if name == t.ServerName && !t.VerifySNI {
		return config
	}
	config = config.Clone()
	config.ServerName = name // an address is no SNI, which crypto/tls knows
	if !t.VerifySNI {
		return config
	}
	if name == "" {
		name = host
	}
	config.VerifyConnection = hostNamed(config.VerifyConnection, name)
	return config
}

// hostNamed asks for a name besides what verify does.
func hostNamed(verify func(tls.ConnectionState) error, name string) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		if err := verify(state); err != nil {
			return err
		}
		if err := state.PeerCertificates[0].VerifyHostname(name); err != nil {
			return because(FailureName, fmt.Errorf("the peer is not who we asked for: %w", err))
		}
		return nil
	}
}

// ForName returns config for the connections that are made for one name, as t wants it.
// With AutoSAN the name comes on top of signed, in place of all names that are configured.
func ForName(config *tls.Config, t *mesh.UpstreamTLS, signed func(tls.ConnectionState) error, name string) *tls.Config {
	config = config.Clone()
	if t.AutoSNI && net.ParseIP(name) == nil { // an address is no SNI
		config.ServerName = name
	}
	switch {
	case t.AutoSAN && signed != nil:
		config.VerifyConnection = hostNamed(signed, name)
	case t.AutoSAN, t.VerifySNI:
		config.VerifyConnection = hostNamed(config.VerifyConnection, name)
	}
	return config
}

func (l *Loader) upstreamTrust(t *mesh.UpstreamTLS) (*trust, error) {
	signers, err := l.signers(t)
	if err != nil {
		return nil, err
	}
	signers.chains, err = chainsOf(&t.Chains)
	return signers, err
}

func (l *Loader) signers(t *mesh.UpstreamTLS) (*trust, error) {
	if !t.SystemRoots {
		return l.trust(t.Roots, t.TrustDomains, &t.Pins)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("tls: trusted authorities of this machine: %w", err)
	}
	return &trust{roots: roots, pins: t.Pins}, nil
}

// trust is who may sign a peer's certificate.
type trust struct {
	roots   *x509.CertPool            // nil if pins are all there is
	domains map[string]*x509.CertPool // if not nil, by the peer's trust domain
	pins    mesh.Pins
	chains  *chains // nil for all
}

func (l *Loader) trust(roots mesh.Roots, domains map[string]mesh.Roots, pins *mesh.Pins) (*trust, error) {
	switch {
	case len(domains) == 0 && roots.PEM == "" && !pins.IsZero():
		return &trust{pins: *pins}, nil
	case len(domains) == 0:
		pool, err := l.pool(roots)
		return &trust{roots: pool, pins: *pins}, err
	}
	t := &trust{domains: make(map[string]*x509.CertPool, len(domains)), pins: *pins}
	for domain, roots := range domains {
		pool, err := l.pool(roots)
		if err != nil {
			return nil, fmt.Errorf("trust domain %q: %w", domain, err)
		}
		t.domains[domain] = pool
	}
	return t, nil
}

// verify returns the leaf of a chain that was good at that time.
func (t *trust) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, at time.Time) (*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, because(FailureNoCertificate, errNoCertificate)
	}
	if !t.pins.IsZero() && !pinned(chain[0], &t.pins) {
		return nil, because(FailurePin, errNotPinned)
	}
	roots := t.roots
	if roots == nil && t.domains == nil {
		return chain[0], nil
	}
	if t.domains != nil {
		id, err := spiffe.FromCertificate(chain[0])
		if err == nil && signs(chain[0]) {
			err = errSigns
		}
		if err != nil {
			return nil, because(FailureChain, err)
		}
		if roots = t.domains[id.TrustDomain()]; roots == nil {
			return nil, because(FailureChain, fmt.Errorf("trust domain %q of %s is not known here", id.TrustDomain(), id))
		}
	}
	intermediates := x509.NewCertPool()
	for _, certificate := range chain[1:] {
		intermediates.AddCert(certificate)
	}
	found, err := chain[0].Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: at,
	})
	if err != nil {
		return nil, because(FailureChain, fmt.Errorf("the peer's certificate: %w", err))
	}
	if t.chains != nil {
		if err := t.chains.check(found, time.Now()); err != nil {
			return nil, because(FailureChain, fmt.Errorf("the peer's certificate: %w", err))
		}
	}
	return chain[0], nil
}

// errSigns: who may sign certificates is no workload (X.509-SVID standard, section 4).
var errSigns = errors.New("the peer's certificate is one that signs others, and no workload's")

func signs(c *x509.Certificate) bool {
	return c.IsCA || c.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0
}

func (l *Loader) leaf(leaf mesh.Leaf) (*tls.Certificate, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if kept := l.leaves[leaf]; kept != nil {
		return kept, nil
	}
	certificate, err := tls.X509KeyPair([]byte(leaf.CertificatePEM), []byte(leaf.KeyPEM))
	if err != nil {
		return nil, fmt.Errorf("our certificate: %w", err)
	}
	if l.leaves == nil || len(l.leaves) >= maxKept {
		l.leaves = map[mesh.Leaf]*tls.Certificate{}
	}
	if leaf.Staple != "" {
		certificate.OCSPStaple = []byte(leaf.Staple)
	}
	l.leaves[leaf] = &certificate
	return &certificate, nil
}

func (l *Loader) pool(roots mesh.Roots) (*x509.CertPool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if kept := l.roots[roots]; kept != nil {
		return kept, nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(roots.PEM)) {
		return nil, errors.New("tls: no root certificate to verify the peer with")
	}
	if l.roots == nil || len(l.roots) >= maxKept {
		l.roots = map[mesh.Roots]*x509.CertPool{}
	}
	l.roots[roots] = pool
	return pool, nil
}
