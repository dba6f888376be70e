package mtls

import (
	"crypto/tls"
	"strings"
)

// Choice chooses among certificates by the name that a client asks for: one that
// has the name, else one with a wildcard for it, else the first. Of several with
// one name it takes the first whose key the client can check, so that there may be
// an ECDSA and an RSA certificate for the same. It is immutable.
type Choice struct {
	first []*tls.Certificate
	names map[string][]*tls.Certificate // "*.x" for wildcards
}

// NewChoice needs one certificate at least, each with its Leaf.
func NewChoice(certificates []*tls.Certificate) *Choice {
	c := &Choice{first: certificates[:1], names: map[string][]*tls.Certificate{}}
	for _, certificate := range certificates {
		for _, name := range certificate.Leaf.DNSNames {
			name = strings.ToLower(name)
			c.names[name] = append(c.names[name], certificate)
		}
	}
	// The default may be there twice as well.
	if names := certificates[0].Leaf.DNSNames; len(names) > 0 {
		c.first = c.names[strings.ToLower(names[0])]
	}
	return c
}

// Get is for [tls.Config.GetCertificate].
func (c *Choice) Get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	found := c.find(strings.ToLower(strings.TrimSuffix(hello.ServerName, ".")))
	if len(found) > 1 {
		for _, certificate := range found {
			if hello.SupportsCertificate(certificate) == nil {
				return certificate, nil
			}
		}
		// The name may be none of theirs; what counts is then the key.
		nameless := *hello
		nameless.ServerName = ""
		for _, certificate := range found {
			if nameless.SupportsCertificate(certificate) == nil {
				return certificate, nil
			}
		}
	}
	return found[0], nil
}

func (c *Choice) find(name string) []*tls.Certificate {
	if found := c.names[name]; found != nil && name != "" {
		return found
	}
	if _, rest, ok := strings.Cut(name, "."); ok {
		if found := c.names["*."+rest]; found != nil {
			return found
		}
	}
	return c.first
}
