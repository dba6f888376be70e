package mtls

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// Clients is by what clients are believed. It is immutable.
type Clients struct {
	trust    *trust
	names    []name // one of them; nil for no matter what
	optional bool   // they may also show nothing
}

// Clients returns by what t believes clients; nil if it asks for no certificate.
func (l *Loader) Clients(t *mesh.DownstreamTLS) (*Clients, error) {
	if !t.RequireClient && t.Roots.PEM == "" && len(t.TrustDomains) == 0 && t.Pins.IsZero() {
		return nil, nil //nolint:nilnil // nil asks for none
	}
	c := &Clients{optional: !t.RequireClient}
	var err error
	if c.trust, err = l.trust(t.Roots, t.TrustDomains, &t.Pins); err != nil {
		return nil, err
	}
	if c.trust.chains, err = chainsOf(&t.Chains); err != nil {
		return nil, err
	}
	c.names, err = namesOf(t.Names)
	return c, err
}

// Distrust tells why a client that was believed once would not be any more, by the
// chain that it has shown; nil if it still would. That its certificate has expired
// since is no reason: certificates are for handshakes. A nil Clients believes all.
func (c *Clients) Distrust(chain []*x509.Certificate) error {
	if c == nil {
		return nil
	}
	at := time.Now()
	if len(chain) > 0 && at.After(chain[0].NotAfter) {
		at = chain[0].NotAfter
	}
	return c.verify(chain, at)
}

func (c *Clients) verify(chain []*x509.Certificate, at time.Time) error {
	if c.optional && len(chain) == 0 {
		return nil
	}
	leaf, err := c.trust.verify(chain, x509.ExtKeyUsageClientAuth, at)
	if err != nil || len(c.names) == 0 || slices.ContainsFunc(c.names, func(n name) bool { return n.of(leaf) }) {
		return err
	}
	return because(FailureName, errNotNamed)
}
