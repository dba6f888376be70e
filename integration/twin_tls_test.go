package integration_test

import (
	"crypto/tls"
	"fmt"
	"testing"
)

// downstreamTLS is a transport socket that shows a certificate and believes an authority.
func downstreamTLS(t *testing.T, leaf tls.Certificate, validation string) string {
	t.Helper()
	chain, key := pems(t, leaf)
	return fmt.Sprintf(`{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"requireClientCertificate":%t,"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineString":%q},"privateKey":{"inlineString":%q}}]%s}}}`,
		validation != "", chain, key, prefixedBy(`,"validationContext":`, validation))
}

func prefixedBy(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func trusting(a *signingCA) string {
	return fmt.Sprintf(`{"trustedCa":{"inlineString":%q}}`, a.pem())
}

// as has the next requests made with a certificate, over TLS.
func (w *twin) as(leaf *tls.Certificate, more ...[]byte) {
	w.client = &tls.Config{InsecureSkipVerify: true, ServerName: "twin.example"} //nolint:gosec // both are ours
	if leaf != nil {
		shown := *leaf
		shown.Certificate = append(shown.Certificate[:1:1], more...)
		w.client.Certificates = []tls.Certificate{shown}
	}
}
