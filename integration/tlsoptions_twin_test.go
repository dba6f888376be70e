package integration_test

import (
	"bufio"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// crl is a list on which a CA has these serials.
func (a *signingCA) crl(t *testing.T, serials ...int64) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	for _, serial := range serials {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{SerialNumber: big.NewInt(serial), RevocationTime: time.Now().Add(-time.Minute)})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	must(t, err)
	return pemOf("X509 CRL", der)
}

// below is an authority that a has signed.
func (a *signingCA) below(t *testing.T, name string) *signingCA {
	t.Helper()
	b := newSigningCA(t, name)
	template := *b.certificate
	template.SerialNumber = big.NewInt(7)
	der, err := x509.CreateCertificate(rand.Reader, &template, a.certificate, b.key.Public(), a.key)
	must(t, err)
	b.certificate, err = x509.ParseCertificate(der)
	must(t, err)
	return b
}

// TestTLSOptionsAsEnvoy takes and refuses the same clients by key exchange, length of chain and revocation, and resumes the
// same sessions.
func TestTLSOptionsAsEnvoy(t *testing.T) {
	t.Parallel()
	ca, stranger := newSigningCA(t, "one"), newSigningCA(t, "stranger")
	middle := ca.below(t, "middle")
	server := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"twin.example"} })
	socket := func(validation, before, common string) string {
		text := downstreamTLS(t, server, validation)
		return strings.Replace(text, `"commonTlsContext":{`, before+`"commonTlsContext":{`+common, 1)
	}
	trusted := func(more string) string {
		return fmt.Sprintf(`{"trustedCa":{"inlineString":%q},%s}`, ca.pem(), more)
	}
	list := func(text string) string { return fmt.Sprintf(`"crl":{"inlineString":%q}`, text) }
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 80)))
	w := newTwin(t, map[string]chainSpec{
		"curves":    {tls: socket("", "", `"tlsParams":{"ecdhCurves":["P-256","P-384"]},`)},
		"depth1":    {tls: socket(trusted(`"maxVerifyDepth":1`), "", "")},
		"depth2":    {tls: socket(trusted(`"maxVerifyDepth":2`), "", "")},
		"crl":       {tls: socket(trusted(list(ca.crl(t, 3)+middle.crl(t, 3))), "", "")},
		"crlofroot": {tls: socket(trusted(list(ca.crl(t, 3))), "", "")},
		"crlofleaf": {tls: socket(trusted(`"onlyVerifyLeafCertCrl":true,`+list(middle.crl(t))), "", "")},
		"revoked":   {tls: socket(trusted(list(ca.crl(t, 7)+middle.crl(t))), "", "")},
		"other":     {tls: socket(trusted(list(stranger.crl(t))), "", "")},
		"tickets":   {tls: socket("", fmt.Sprintf(`"sessionTicketKeys":{"keys":[{"inlineBytes":%q}]},"sessionTimeout":"3600s",`, key), "")},
		"none":      {tls: socket("", `"disableStatelessSessionResumption":true,"disableStatefulSessionResumption":true,`, "")},
	})
	for _, curve := range []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521} {
		w.as(nil)
		w.client.CurvePreferences = []tls.CurveID{curve}
		got := w.ask(t, "curves", request("GET /"))
		if want := curve == tls.CurveP256 || curve == tls.CurveP384; (got.status == http.StatusOK) != want {
			t.Errorf("%v: %s", curve, got)
		}
	}
	serial := func(n int64) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.SerialNumber = big.NewInt(n) }
	}
	good, bad, deep := ca.issue(t, serial(2)), ca.issue(t, serial(3)), middle.issue(t, serial(2))
	for _, chain := range []string{"depth1", "depth2", "crl", "crlofroot", "crlofleaf", "revoked", "other"} {
		taken := ""
		for _, client := range []struct {
			leaf *tls.Certificate
			more [][]byte
		}{{&good, nil}, {&bad, nil}, {&deep, [][]byte{middle.certificate.Raw}}} {
			w.as(client.leaf, client.more...)
			taken += fmt.Sprint(w.ask(t, chain, request("GET /")).status/100, " ")
		}
		// Those by the root itself, of which the second may be revoked, and one by the authority below.
		want := map[string]string{"depth1": "2 2 0 ", "depth2": "2 2 2 ", "crl": "2 0 2 ", "crlofroot": "2 0 0 ", "crlofleaf": "0 0 2 ", "revoked": "2 2 0 ", "other": "0 0 0 "}
		if taken != want[chain] {
			t.Errorf("%s: %s, not %s", chain, taken, want[chain])
		}
	}
	for chain, want := range map[string]bool{"tickets": true, "none": false} {
		for _, addr := range []string{w.chains[chain].ours, w.chains[chain].theirs} {
			if got := resumes(t, addr); got != want {
				t.Errorf("%s of %s: a session is resumed: %t", chain, addr, got)
			}
		}
	}
}

// resumes tells whether a second connection goes on with the session of the first.
func resumes(t *testing.T, addr string) (resumed bool) {
	t.Helper()
	config := &tls.Config{InsecureSkipVerify: true, ServerName: "twin.example", ClientSessionCache: tls.NewLRUClientSessionCache(1)} //nolint:gosec // both are ours
	for range 2 {
		conn, err := (&tls.Dialer{NetDialer: &net.Dialer{Timeout: patience}, Config: config}).DialContext(t.Context(), "tcp", addr)
		must(t, err)
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		_, err = io.WriteString(conn, request("GET /", "Connection: close"))
		must(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		must(t, err)
		_, err = io.Copy(io.Discard, resp.Body)
		must(t, err)
		resp.Body.Close()
		resumed = conn.(*tls.Conn).ConnectionState().DidResume //nolint:errcheck,forcetypeassert // it is one
		drop(conn)
	}
	return resumed
}
