package mtls

import (
	"crypto/tls"
	"fmt"
	"slices"

	"github.com/serai-net/serai/connect/mesh"
)

// params sets versions, suites and ALPN. The suites of TLS 1.3 are not
// configurable in crypto/tls, which offers all three.
func params(config *tls.Config, p *mesh.TLSParams) error {
	config.MinVersion = max(p.MinVersion, tls.VersionTLS12)
	config.MaxVersion = p.MaxVersion
	if p.MaxVersion != 0 && p.MaxVersion < config.MinVersion {
		return fmt.Errorf("tls: no version between %s and %s", tls.VersionName(config.MinVersion), tls.VersionName(p.MaxVersion))
	}
	// Nothing is agreed on that the codecs here do not speak.
	for _, protocol := range p.ALPN {
		if protocol == "h2" || protocol == "http/1.1" {
			config.NextProtos = append(config.NextProtos, protocol)
		}
	}
	if len(p.CipherSuites) == 0 {
		return nil
	}
	for _, name := range p.CipherSuites {
		if id := suite(name); id != 0 {
			config.CipherSuites = append(config.CipherSuites, id)
		}
	}
	if len(config.CipherSuites) == 0 {
		return fmt.Errorf("tls: none of the cipher suites %v is supported", p.CipherSuites)
	}
	return nil
}

// suite finds a secure TLS 1.2 suite by its OpenSSL or IANA name, 0 if there is
// none.
func suite(name string) uint16 {
	openssl := map[string]uint16{
		"ECDHE-ECDSA-AES128-GCM-SHA256": tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-ECDSA-AES256-GCM-SHA384": tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-ECDSA-CHACHA20-POLY1305": tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		"ECDHE-RSA-AES128-GCM-SHA256":   tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
		"ECDHE-RSA-AES256-GCM-SHA384":   tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		"ECDHE-RSA-CHACHA20-POLY1305":   tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
	}
	if id, ok := openssl[name]; ok {
		return id
	}
	all := tls.CipherSuites()
	i := slices.IndexFunc(all, func(s *tls.CipherSuite) bool { return s.Name == name })
	if i < 0 {
		return 0
	}
	return all[i].ID
}
