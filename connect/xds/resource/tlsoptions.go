package resource

import (
	"errors"
	"fmt"

	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// ticketKey is how long a key of session tickets is, in bytes: its name, and what
// secrets are of it.
const ticketKey = 80

// chains reads which chains of a peer's certificate are taken.
func (d *decoder) chains(msg *tlsv3.CertificateValidationContext, t *commonTLS) error {
	c := &t.chains
	if depth := msg.GetMaxVerifyDepth(); depth != nil {
		c.MaxDepth, c.HasMaxDepth = depth.GetValue(), true
	}
	if msg.GetCrl() == nil {
		return nil
	}
	if msg.GetTrustedCa() == nil {
		return errors.New("crl without a trusted_ca")
	}
	var err error
	if c.CRL, err = d.text(msg.GetCrl()); err != nil {
		return fmt.Errorf("crl: %w", err)
	}
	c.CRLOfLeaf = msg.GetOnlyVerifyLeafCertCrl()
	return nil
}

// resumption reads how sessions go on.
func (d *decoder) resumption(msg *tlsv3.DownstreamTlsContext) (mesh.Resumption, error) {
	r := mesh.Resumption{Off: msg.GetDisableStatelessSessionResumption(), Timeout: duration(msg.GetSessionTimeout(), 0)}
	keys := msg.GetSessionTicketKeys()
	if keys == nil {
		return r, nil
	}
	if len(keys.GetKeys()) == 0 {
		return r, errors.New("session_ticket_keys without a key")
	}
	for _, source := range keys.GetKeys() {
		key, err := d.text(source)
		if err == nil && len(key) != ticketKey {
			err = fmt.Errorf("it has %d bytes, not %d", len(key), ticketKey)
		}
		if err != nil {
			return r, fmt.Errorf("session_ticket_keys: %w", err)
		}
		r.Keys = append(r.Keys, key)
	}
	return r, nil
}

// stapled tells what is wrong with leaves that are shown by a policy of OCSP.
func stapled(policy tlsv3.DownstreamTlsContext_OcspStaplePolicy, leaves []mesh.Leaf) error {
	if policy != tlsv3.DownstreamTlsContext_MUST_STAPLE {
		return nil
	}
	for i := range leaves {
		if leaves[i].Staple == "" {
			return errors.New("a certificate without an ocsp_staple, which it must have")
		}
	}
	return nil
}
