package spiffe_test

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/spiffe"
)

const domain = "11111111-2222-3333-4444-555555555555.consul"

func TestParse(t *testing.T) {
	t.Parallel()
	type parts struct{ Domain, Service string }
	tests := []struct {
		uri  string
		want parts
	}{
		{"spiffe://" + domain + "/ns/default/dc/dc1/svc/web", parts{domain, "web"}},
		{"spiffe://" + domain + "/ap/part/ns/default/dc/dc1/svc/web", parts{domain, "web"}},
		{"spiffe://td/ns/default/dc/dc1/svc/my%20web", parts{"td", "my web"}},
		{"spiffe://td/ns/default/dc/dc1/svc/100%", parts{"td", "100%"}},
		{"spiffe://td/ns/svc/dc/svc/svc/svc", parts{"td", "svc"}},
		{"spiffe://svc/ns/default/dc/dc1/svc/web", parts{"svc", "web"}},
		{"spiffe://td/gateway/mesh/dc/dc1", parts{"td", ""}},
		{"spiffe://td/agent/client/dc/dc1/id/svc/x", parts{"td", ""}},
		{"spiffe://td/ns/default/dc/dc1/svc/web/more", parts{"td", ""}},
		{"spiffe://td/ns/default/dc/dc1/svc", parts{"td", ""}},
		{"spiffe://td/ns/default/svc/web", parts{"td", ""}},
		{"spiffe://td/svc/web", parts{"td", ""}},
		{"spiffe://td/ap/ns/ns/default/dc/dc1/svc/web", parts{"td", "web"}},
		{"spiffe://td", parts{"td", ""}},
		{"spiffe://a_b-c.d0", parts{"a_b-c.d0", ""}},
	}
	for _, tt := range tests {
		id, err := spiffe.Parse(tt.uri)
		if err != nil {
			t.Errorf("%s: %v", tt.uri, err)
			continue
		}
		if diff := cmp.Diff(tt.want, parts{id.TrustDomain(), id.Service()}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.uri, diff)
		}
		if id.String() != tt.uri || id.IsZero() {
			t.Errorf("%s: String %q, IsZero %v", tt.uri, id, id.IsZero())
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	tests := []struct{ uri, because string }{
		{"", "scheme"},
		{"spiffe:", "scheme"},
		{"spiffe:/td/x", "scheme"},
		{"SPIFFE://td/x", "scheme"},
		{"https://td/x", "scheme"},
		{" spiffe://td/x", "scheme"},
		{"spiffe://", "no trust domain"},
		{"spiffe:///x", "no trust domain"},
		{"spiffe://TD/x", "trust domain"},
		{"spiffe://user@td/x", "trust domain"},
		{"spiffe://td:80/x", "trust domain"},
		{"spiffe://t%64/x", "trust domain"},
		{"spiffe://tdü/x", "trust domain"},
		{"spiffe://td?x", "trust domain"},
		{"spiffe://td#x", "trust domain"},
		{"spiffe://td/", "segment"},
		{"spiffe://td/x/", "segment"},
		{"spiffe://td//x", "segment"},
		{"spiffe://td/./x", "segment"},
		{"spiffe://td/a/../x", "segment"},
		{"spiffe://td/a/..", "segment"},
		{"spiffe://td/x?y", "not allowed"},
		{"spiffe://td/x#y", "not allowed"},
		{"spiffe://td/x y", "not allowed"},
		{"spiffe://td/x\x00", "not allowed"},
		{"spiffe://td/x\n", "not allowed"},
		{"spiffe://td/\u212a", "not allowed"},
		{"spiffe://td/" + strings.Repeat("x", 2048), "limit"},
	}
	for _, tt := range tests {
		id, err := spiffe.Parse(tt.uri)
		if err == nil || !strings.Contains(err.Error(), tt.because) {
			t.Errorf("%.80q: got error %v, want one about %q", tt.uri, err, tt.because)
		}
		if !id.IsZero() {
			t.Errorf("%.80q: an ID beside an error: %s", tt.uri, id)
		}
		if err != nil && len(err.Error()) > 4096 {
			t.Errorf("%.80q: an error of %d bytes", tt.uri, len(err.Error()))
		}
	}
}

func TestZero(t *testing.T) {
	t.Parallel()
	var id spiffe.ID
	if !id.IsZero() || id.String() != "" || id.TrustDomain() != "" || id.Service() != "" {
		t.Errorf("the zero ID is somebody: %q %q %q", id, id.TrustDomain(), id.Service())
	}
}

func TestFromCertificate(t *testing.T) {
	t.Parallel()
	uris := func(texts ...string) *x509.Certificate {
		t.Helper()
		c := &x509.Certificate{}
		for _, text := range texts {
			u, err := url.Parse(text)
			if err != nil {
				t.Fatal(err)
			}
			c.URIs = append(c.URIs, u)
		}
		return c
	}
	const web = "spiffe://td/ns/default/dc/dc1/svc/web"
	id, err := spiffe.FromCertificate(uris(web))
	if err != nil || id.String() != web {
		t.Errorf("got %q, %v", id, err)
	}
	if other, err := spiffe.Parse(web); err != nil || other != id {
		t.Errorf("the same identity is not equal: %q, %q, %v", other, id, err)
	}
	for name, c := range map[string]*x509.Certificate{
		"no certificate":  nil,
		"no URI":          {},
		"two URIs":        uris(web, web),
		"not spiffe":      uris("https://td/ns/default/dc/dc1/svc/web"),
		"with a query":    uris(web + "?x=1"),
		"with a user":     uris("spiffe://root@td/ns/default/dc/dc1/svc/web"),
		"with a fragment": uris(web + "#x"),
	} {
		if id, err := spiffe.FromCertificate(c); err == nil || !id.IsZero() {
			t.Errorf("%s: got %q, %v", name, id, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("spiffe://" + domain + "/ns/default/dc/dc1/svc/web")
	f.Add("spiffe://td/gateway/mesh/dc/dc1")
	f.Add("spiffe://td/ap/x/ns/default/dc/dc1/svc/a%2fb")
	f.Add("spiffe://td:1/../x?y#z")
	f.Fuzz(func(t *testing.T, uri string) {
		id, err := spiffe.Parse(uri)
		if err != nil {
			if !id.IsZero() {
				t.Fatalf("an ID beside an error: %q", id)
			}
			return
		}
		if id.String() != uri || len(uri) > 2048 {
			t.Fatalf("%q became %q", uri, id)
		}
		if d := id.TrustDomain(); d == "" || strings.ContainsAny(d, "/:@%?#") || strings.ToLower(d) != d {
			t.Fatalf("%q: trust domain %q", uri, d)
		}
		id.Service()
		// What a URL library makes of it is the same identity, or nothing.
		if u, err := url.Parse(uri); err == nil && u.Host != id.TrustDomain() {
			t.Fatalf("%q: trust domain %q, but the URL's host is %q", uri, id.TrustDomain(), u.Host)
		}
	})
}
