package mtls

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// chains are compiled [mesh.Chains].
type chains struct {
	maxDepth int // -1 for any
	revoked  []*revocations
	ofLeaf   bool
}

// revocations are one list, with the serial numbers on it.
type revocations struct {
	*x509.RevocationList
	serials map[string]bool
}

var (
	errTooDeep = errors.New("its chain is longer than it may be")
	errRevoked = errors.New("it was revoked, or its issuer was")
	errNoCRL   = errors.New("an issuer has no revocation list that is in force")
)

// chainsOf is nil if all chains are taken.
func chainsOf(c *mesh.Chains) (*chains, error) {
	if !c.HasMaxDepth && c.CRL == "" {
		return nil, nil //nolint:nilnil // nil is all
	}
	out := &chains{maxDepth: -1, ofLeaf: c.CRLOfLeaf}
	if c.HasMaxDepth {
		out.maxDepth = int(c.MaxDepth)
	}
	for rest := []byte(c.CRL); c.CRL != ""; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "X509 CRL" {
			continue
		}
		list, err := x509.ParseRevocationList(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("tls: crl: %w", err)
		}
		r := &revocations{list, make(map[string]bool, len(list.RevokedCertificateEntries))}
		for i := range list.RevokedCertificateEntries {
			r.serials[list.RevokedCertificateEntries[i].SerialNumber.String()] = true
		}
		out.revoked = append(out.revoked, r)
	}
	if c.CRL != "" && len(out.revoked) == 0 {
		return nil, errors.New("tls: crl: there is none in it")
	}
	return out, nil
}

// check tells why none of the chains of a certificate is taken; nil if one is.
func (c *chains) check(all [][]*x509.Certificate, now time.Time) error {
	var last error
	for _, chain := range all {
		if c.maxDepth >= 0 && len(chain)-1 > c.maxDepth {
			last = errTooDeep
			continue
		}
		if last = c.revocation(chain, now); last == nil {
			return nil
		}
	}
	return last
}

func (c *chains) revocation(chain []*x509.Certificate, now time.Time) error {
	if len(c.revoked) == 0 {
		return nil
	}
	for i, certificate := range chain {
		if i > 0 && c.ofLeaf {
			break
		}
		// That of the last has to be its own.
		list := c.listOf(chain[min(i+1, len(chain)-1)], now)
		if list == nil {
			return errNoCRL
		}
		if list.serials[certificate.SerialNumber.String()] {
			return errRevoked
		}
	}
	return nil
}

// listOf is the list of an issuer that is in force, nil if there is none.
func (c *chains) listOf(issuer *x509.Certificate, now time.Time) *revocations {
	for _, list := range c.revoked {
		if bytes.Equal(list.RawIssuer, issuer.RawSubject) && list.CheckSignatureFrom(issuer) == nil &&
			!now.Before(list.ThisUpdate) && (list.NextUpdate.IsZero() || now.Before(list.NextUpdate)) {
			return list
		}
	}
	return nil
}
