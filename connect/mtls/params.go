package mtls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"strings"

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
	if err := curves(config, p.Curves); err != nil {
		return err
	}
	if len(p.CipherSuites) == 0 {
		return nil
	}
	for _, group := range p.CipherSuites {
		// Envoy writes suites that are as good as one another as [A|B].
		for name := range strings.SplitSeq(strings.Trim(group, "[]"), "|") {
			if id, err := Suite(name); err == nil {
				config.CipherSuites = append(config.CipherSuites, id)
			}
		}
	}
	if len(config.CipherSuites) == 0 {
		return fmt.Errorf("tls: none of the cipher suites %v is supported", p.CipherSuites)
	}
	return nil
}

// Reasons for which a suite cannot be chosen.
var (
	// ErrSuite13: TLS 1.3 always has all of its three suites.
	ErrSuite13 = errors.New("is of TLS 1.3, whose suites cannot be chosen")
	// ErrInsecureSuite: it has no forward secrecy, or is broken.
	ErrInsecureSuite = errors.New("is not secure")
	// ErrUnknownSuite is for all other names.
	ErrUnknownSuite = errors.New("is not known")
)

// Suite finds a suite of TLS 1.2 by its name, as IANA and Go, or OpenSSL, Envoy and
// Consul spell it.
func Suite(name string) (uint16, error) {
	if id := openSSL(name); id != 0 {
		return id, nil
	}
	isNamed := func(s *tls.CipherSuite) bool { return s.Name == name }
	all := tls.CipherSuites()
	if i := slices.IndexFunc(all, isNamed); i >= 0 {
		if slices.Contains(all[i].SupportedVersions, tls.VersionTLS12) {
			return all[i].ID, nil
		}
		return 0, ErrSuite13
	}
	// OpenSSL's names without a key exchange are those of RSA, without forward secrecy.
	if slices.ContainsFunc(tls.InsecureCipherSuites(), isNamed) || strings.HasPrefix(name, "AES128-") || strings.HasPrefix(name, "AES256-") {
		return 0, ErrInsecureSuite
	}
	return 0, ErrUnknownSuite
}

// openSSL is a suite by OpenSSL's name, 0 if it is none.
func openSSL(name string) uint16 {
	for _, one := range openSSLNames() {
		if one.name == name {
			return one.id
		}
	}
	return 0
}

// OpenSSLName is what OpenSSL calls a suite of TLS 1.2; "" for others.
func OpenSSLName(id uint16) string {
	for _, one := range openSSLNames() {
		if one.id == id {
			return one.name
		}
	}
	return ""
}

type named struct {
	name string
	id   uint16
}

func openSSLNames() [10]named {
	return [...]named{
		{"ECDHE-ECDSA-AES128-GCM-SHA256", tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		{"ECDHE-ECDSA-AES256-GCM-SHA384", tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		{"ECDHE-ECDSA-CHACHA20-POLY1305", tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		{"ECDHE-RSA-AES128-GCM-SHA256", tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256},
		{"ECDHE-RSA-AES256-GCM-SHA384", tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
		{"ECDHE-RSA-CHACHA20-POLY1305", tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256},
		{"ECDHE-ECDSA-AES128-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
		{"ECDHE-ECDSA-AES256-SHA", tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA},
		{"ECDHE-RSA-AES128-SHA", tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA},
		{"ECDHE-RSA-AES256-SHA", tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA},
	}
}
