package mtls

import (
	"crypto/tls"
	"crypto/x509"
)

// Shown is the certificate that a server shows to who asks for a name; nil if
// there is none. Of several with the same names it is the first, whatever the
// client can check.
func Shown(config *tls.Config, serverName string) *x509.Certificate {
	if config.GetCertificate != nil {
		certificate, err := config.GetCertificate(&tls.ClientHelloInfo{ServerName: serverName})
		if err == nil && certificate != nil {
			return certificate.Leaf
		}
	}
	if len(config.Certificates) > 0 {
		return config.Certificates[0].Leaf
	}
	return nil
}
