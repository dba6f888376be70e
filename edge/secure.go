package edge

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/edge/cert"
)

// TLS makes a listener HTTPS. Certificates and client_ca_file are read again when
// they change.
//
//	tls {
//	  certificate_file = "tls/site.pem"
//	  key_file         = "tls/site.key"
//	  certificate "api" {
//	    certificate_file = "tls/api.pem"
//	    key_file         = "tls/api.key"
//	  }
//	  min_version         = "1.3"
//	  client_certificates = "require"
//	  client_ca_file      = "tls/clients.pem"
//	}
type TLS struct {
	// CertificateFile is a PEM file with the certificate first and then its
	// intermediates; relative to the configuration file. It is shown to clients
	// that ask for no name that another one has.
	CertificateFile string `hcl:"certificate_file,path"`
	// KeyFile is the PEM file with the certificate's private key.
	KeyFile string `hcl:"key_file,path"`
	// Certificates are more of them, chosen by the server name that the client asks
	// for: one with the name, else one with a wildcard for it. Two with the same
	// names may have keys of two kinds.
	Certificates []Certificate `hcl:"certificate,block"`
	// MinVersion is "1.2" or "1.3"; "" means 1.2. MaxVersion likewise; "" means 1.3.
	MinVersion string `hcl:"min_version,optional"`
	MaxVersion string `hcl:"max_version,optional"`
	// CipherSuites of TLS 1.2, by IANA's or OpenSSL's names; empty means all that
	// are safe. Those of TLS 1.3 cannot be chosen.
	CipherSuites []string `hcl:"cipher_suites,optional"`
	// ALPN are the protocols that clients may choose, the preferred first: "h2" and
	// "http/1.1". Empty means both in this order.
	ALPN []string `hcl:"alpn,optional"`
	// ClientCertificates is "none", "optional" (a client that shows one must show a
	// good one) or "require"; "" means "none".
	ClientCertificates string `hcl:"client_certificates,optional"`
	// ClientCAFile is a PEM file with those who may have signed them.
	ClientCAFile string `hcl:"client_ca_file,optional,path"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Certificate is one more certificate of a listener.
type Certificate struct {
	// Name tells certificates apart, for people.
	Name string `hcl:"name,label"`
	// CertificateFile and KeyFile as in TLS.
	CertificateFile string `hcl:"certificate_file,path"`
	KeyFile         string `hcl:"key_file,path"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// ProxyProtocol says that connections to a listener begin with a header of the
// PROXY protocol, version 1 or 2, which tells who the client is. Its address counts
// in all that follows: access log, trusted_proxies, x-forwarded-for.
type ProxyProtocol struct {
	// Trusted are the networks of the proxies that may send it; all others are
	// turned away. It must not be empty.
	Trusted []netip.Prefix `hcl:"trusted"`
	// Optional also takes connections without a header, from everybody.
	Optional bool `hcl:"allow_without,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// The values of TLS.ClientCertificates.
const (
	clientsNone     = "none"
	clientsOptional = "optional"
	clientsRequire  = "require"
)

// tlsVersion reads a version; Envoy's and Consul's names are taken, too.
func tlsVersion(text string) (uint16, bool) {
	switch text {
	case "":
		return 0, true
	case "1.2", "TLSv1_2":
		return tls.VersionTLS12, true
	case "1.3", "TLSv1_3":
		return tls.VersionTLS13, true
	}
	return 0, false
}

func (l *Listener) validateSecure(p *problems) {
	if pp := l.ProxyProtocol; pp != nil && len(pp.Trusted) == 0 {
		p.add(pp.Pos.At("trusted"), "proxy_protocol of listener %q: trusted is empty; name the networks of the proxies "+
			"in front, such as [\"10.0.0.0/8\"]", l.Name)
	}
	if l.TLS == nil {
		return
	}
	l.TLS.validate(p, fmt.Sprintf("tls of listener %q", l.Name))
}

func (t *TLS) validate(p *problems, who string) {
	least, ok := tlsVersion(t.MinVersion)
	if !ok {
		p.add(t.Pos.At("min_version"), "%s: min_version is %q; write \"1.2\" or \"1.3\"", who, t.MinVersion)
	}
	most, ok := tlsVersion(t.MaxVersion)
	if !ok {
		p.add(t.Pos.At("max_version"), "%s: max_version is %q; write \"1.2\" or \"1.3\"", who, t.MaxVersion)
	}
	if most != 0 && least > most {
		p.add(t.Pos.At("max_version"), "%s: no version is between min_version 1.3 and max_version 1.2", who)
	}
	if len(t.CipherSuites) > 0 && least == tls.VersionTLS13 {
		p.add(t.Pos.At("cipher_suites"), "%s: cipher_suites are those of TLS 1.2, which min_version excludes; leave them out", who)
	}
	for _, name := range t.CipherSuites {
		switch _, err := mtls.Suite(name); {
		case errors.Is(err, mtls.ErrSuite13):
			p.add(t.Pos.At("cipher_suites"), "%s: cipher suite %q %s; leave it out, they are all good", who, name, err)
		case err != nil:
			p.add(t.Pos.At("cipher_suites"), "%s: cipher suite %q %s; write for example \"ECDHE-ECDSA-AES128-GCM-SHA256\"", who, name, err)
		}
	}
	for i, protocol := range t.ALPN {
		if protocol != "h2" && protocol != "http/1.1" || slices.Contains(t.ALPN[:i], protocol) {
			p.add(t.Pos.At("alpn"), "%s: alpn has %q; it can have \"h2\" and \"http/1.1\", each once", who, protocol)
		}
	}
	t.validateClients(p, who)
	for i := range t.Certificates {
		for j := range i {
			if t.Certificates[i].Name == t.Certificates[j].Name {
				p.add(t.Certificates[i].Pos.At(""), "%s: duplicate certificate %q%s", who, t.Certificates[i].Name,
					firstAt(t.Certificates[j].Pos.At("")))
			}
		}
	}
}

func (t *TLS) validateClients(p *problems, who string) {
	switch t.ClientCertificates {
	case "", clientsNone:
		if t.ClientCAFile != "" {
			p.add(t.Pos.At("client_ca_file"), "%s: client_ca_file is given, but clients are not asked; "+
				"add client_certificates = \"require\" or \"optional\"", who)
		}
	case clientsOptional, clientsRequire:
		if t.ClientCAFile == "" {
			p.add(t.Pos.At("client_certificates"), "%s: client_certificates needs client_ca_file, a PEM file with who signs them", who)
		}
	default:
		p.add(t.Pos.At("client_certificates"), "%s: client_certificates is %q; write \"none\", \"optional\" or \"require\"",
			who, t.ClientCertificates)
	}
}

// config is what package cert needs; t is valid.
func (t *TLS) config() cert.Config {
	c := cert.Config{
		Pairs: []cert.Pair{{Certificate: t.CertificateFile, Key: t.KeyFile}}, ALPN: t.ALPN,
		ClientCA: t.ClientCAFile, RequireClient: t.ClientCertificates == clientsRequire,
	}
	c.MinVersion, _ = tlsVersion(t.MinVersion)
	c.MaxVersion, _ = tlsVersion(t.MaxVersion)
	for i := range t.Certificates {
		c.Pairs = append(c.Pairs, cert.Pair{Certificate: t.Certificates[i].CertificateFile, Key: t.Certificates[i].KeyFile})
	}
	for _, name := range t.CipherSuites {
		if id, err := mtls.Suite(name); err == nil {
			c.CipherSuites = append(c.CipherSuites, id)
		}
	}
	return c
}

// withoutHTTP2 tells whether the protocols are named and HTTP/2 is not among them; t
// may be nil.
func (t *TLS) withoutHTTP2() bool {
	return t != nil && len(t.ALPN) > 0 && !slices.Contains(t.ALPN, "h2")
}

// identity is all that a change of makes a new listener; t may be nil.
func (t *TLS) identity() string {
	if t == nil {
		return ""
	}
	return fmt.Sprintf("%+v", t.config())
}

// header is what package listen needs, nil for none.
func (p *ProxyProtocol) header() *listen.ProxyHeader {
	if p == nil {
		return nil
	}
	return &listen.ProxyHeader{Trusted: p.Trusted, Optional: p.Optional}
}

// identity is all that a change of makes a new listener; p may be nil.
func (p *ProxyProtocol) identity() string {
	if p == nil {
		return ""
	}
	var networks []string
	for _, prefix := range p.Trusted {
		networks = append(networks, prefix.String())
	}
	return fmt.Sprintf("%s optional=%t", strings.Join(networks, " "), p.Optional)
}
