package integration_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"testing"
)

// TestTrap15XFCCAsEnvoy has Envoy and us write x-forwarded-client-cert of the same certificates, byte by byte.
func TestTrap15XFCCAsEnvoy(t *testing.T) {
	t.Parallel()
	ca := newSigningCA(t, "ca")
	details := map[string]string{
		"":    "",
		"all": `"setCurrentClientCertDetails":{"subject":true,"cert":true,"chain":true,"dns":true,"uri":true},`,
		"uri": `"setCurrentClientCertDetails":{"uri":true},`,
		"dns": `"setCurrentClientCertDetails":{"dns":true,"subject":true},`,
	}
	specs := map[string]chainSpec{}
	server := ca.issue(t, uris("spiffe://td.consul/ns/default/dc/dc1/svc/api", "https://second.example/x?y=z"))
	optional := downstreamTLS(t, server, "")
	required := downstreamTLS(t, server, trusting(ca))
	for _, mode := range []string{"SANITIZE", "FORWARD_ONLY", "APPEND_FORWARD", "SANITIZE_SET", "ALWAYS_FORWARD_ONLY"} {
		for name, set := range details {
			specs[mode+name] = chainSpec{options: `"forwardClientCertDetails":"` + mode + `",` + set, tls: required}
		}
		specs[mode+"-none"] = chainSpec{options: `"forwardClientCertDetails":"` + mode + `",` + details["all"], tls: optional}
	}
	w := newTwin(t, specs)
	subject := func(name pkix.Name) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			uris("spiffe://td.consul/x")(c)
			c.Subject = name
		}
	}
	raw := func(oid []int, value any) pkix.Name {
		return pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{{Type: asn1.ObjectIdentifier(oid), Value: value}}}
	}
	for name, edit := range map[string]func(*x509.Certificate){
		"consul's":     uris("spiffe://td.consul/ns/default/dc/dc1/svc/web"),
		"no names":     func(*x509.Certificate) {},
		"two uris":     uris("spiffe://td.consul/a", "spiffe://td.consul/b"),
		"dns":          func(c *x509.Certificate) { c.DNSNames = []string{"a.example", "*.b.example"} },
		"escaped uri":  uris("spiffe://td.consul/a%2Fb%20c"),
		"one name":     subject(pkix.Name{CommonName: "web"}),
		"many names":   subject(pkix.Name{Country: []string{"DE"}, Province: []string{"B"}, Locality: []string{"L"}, Organization: []string{"O1", "O2"}, OrganizationalUnit: []string{"U"}, CommonName: "web", SerialNumber: "7", StreetAddress: []string{"S"}, PostalCode: []string{"1"}}),
		"quotes":       subject(pkix.Name{CommonName: `a"b`, Organization: []string{`c,d+e<f>g\h`}}),
		"spaces":       subject(pkix.Name{CommonName: " a b ", Organization: []string{"#x#", "=y="}}),
		"umlauts":      subject(pkix.Name{CommonName: "äöü€"}),
		"e-mail":       subject(raw([]int{1, 2, 840, 113549, 1, 9, 1}, "a@b")),
		"user id":      subject(raw([]int{0, 9, 2342, 19200300, 100, 1, 1}, "u")),
		"title":        subject(raw([]int{2, 5, 4, 12}, "t")),
		"given name":   subject(raw([]int{2, 5, 4, 42}, "g")),
		"unknown name": subject(raw([]int{1, 2, 3, 4}, "x")),
	} {
		leaf := ca.issue(t, edit)
		for mode := range specs {
			for _, chain := range [][][]byte{nil, {ca.certificate.Raw}} {
				w.as(&leaf, chain...)
				before := t.Failed()
				w.ask(t, mode, request("GET /"))
				w.ask(t, mode, request("GET /", "X-Forwarded-Client-Cert: By=x;URI=y", "X-Forwarded-Client-Cert: Hash=z"))
				if t.Failed() && !before {
					t.Logf("with the certificate %q", name)
				}
			}
		}
	}
	w.as(nil)
	for mode := range specs {
		w.ask(t, mode, request("GET /", "X-Forwarded-Client-Cert: By=x"))
	}
}
