package stack_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// issuer signs tokens (RFC 7519) with ES256.
type issuer struct {
	key  *ecdsa.PrivateKey
	jwks string
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	text := base64.RawURLEncoding.EncodeToString
	return &issuer{key, fmt.Sprintf(`{"keys":[{"kty":"EC","crv":"P-256","x":%q,"y":%q}]}`, text(point[1:33]), text(point[33:]))}
}

func (i *issuer) bearer(t *testing.T, claims string) string {
	t.Helper()
	text := base64.RawURLEncoding.EncodeToString
	signed := text([]byte(`{"alg":"ES256"}`)) + "." + text([]byte(claims))
	sum := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, i.key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return "Bearer " + signed + "." + text(signature[:])
}

// admins is a chain as Consul makes one of intentions on tokens: whatever comes passes
// jwt_authn, and admins are allowed by what their token says.
func admins(p *mesh.JWTProvider) *mesh.HTTP {
	p.Issuer, p.PayloadMetadata = "me", "payload"
	role := &mesh.MetadataMatch{Filter: "envoy.filters.http.jwt_authn", Path: []string{"payload", "role"}, Value: mesh.ValueMatch{String: mesh.StringMatch{Exact: "admin"}}}
	return &mesh.HTTP{
		Filters: []mesh.HTTPFilter{
			{JWT: &mesh.JWT{
				Providers: map[string]*mesh.JWTProvider{"okta": p},
				Rules: []mesh.JWTRule{{Match: mesh.Match{Prefix: "/"}, Requires: &mesh.JWTRequirement{Any: []mesh.JWTRequirement{
					{Provider: "okta"}, {AllowFailed: true},
				}}}},
			}},
			{Intention: &mesh.Intention{Policies: []mesh.IntentionPolicy{{
				Name: "admins", Permissions: []mesh.Permission{{Any: true}}, Principals: []mesh.Principal{{Metadata: role}},
			}}}},
			{ExtAuthz: &mesh.ExtAuthz{Service: mesh.AuthzService{Cluster: "opa"}}},
		},
		Route: toward(nil),
	}
}

// Decisions on what a token says are those that the chain would make, and whatever is
// presumed is said.
func TestExplainTokens(t *testing.T) {
	t.Parallel()
	okta, other := newIssuer(t), newIssuer(t)
	const admin = `{"iss":"me","role":"admin"}`
	var fetches atomic.Int32
	keys := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		fetches.Add(1)
		io.WriteString(w, okta.jwks) //nolint:errcheck // the test will see
	})
	set := clusters(t, map[string]string{"keys": keys})
	place := stack.Place{Listener: "public", Kept: &stack.Kept{}}
	explain := func(h *mesh.HTTP, authorization string) []string {
		t.Helper()
		req := &wire.Request{Method: "GET", Scheme: "http", Authority: "web", Path: "/", Proto: 1, Minor: 1}
		if authorization != "" {
			req.Header.Add("authorization", authorization)
		}
		e, err := stack.Explain(h, nil, set, place, &wire.Peer{}, req)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range e.Filters {
			if f.Name == "extauthz" {
				f.Notes = f.Notes[:1] // what it would be sent has a test of its own
			}
			all = append(all, strings.TrimSpace(f.Name+" "+f.Verdict+" "+strings.Join(f.Notes, "; ")))
		}
		return all
	}
	const asked = "extauthz not asked presumed to allow, and to change nothing: cluster opa would be asked"
	allowed := func(note string) []string { return []string{"jwt passes token of okta: " + note, "rbac passes", asked} }
	denied := func(note string) []string { return []string{"jwt passes token of okta: " + note, "rbac answers"} }
	const presumed = "not good, decisions presume that there is none: "
	for _, row := range []struct {
		what, authorization string
		want                []string
	}{
		{"an admin", okta.bearer(t, admin), allowed("good")},
		{"somebody", okta.bearer(t, `{"iss":"me","role":"user"}`), denied("good")},
		{"no token", "", denied(presumed + "Jwt is missing")},
		{"another's signature", other.bearer(t, admin), denied(presumed + "Jwt verification fails")},
		{"too old", okta.bearer(t, `{"iss":"me","role":"admin","exp":1000}`), denied(presumed + "Jwt is expired")},
	} {
		if diff := cmp.Diff(row.want, explain(admins(&mesh.JWTProvider{Keys: okta.jwks}), row.authorization)); diff != "" {
			t.Errorf("%s: %s", row.what, diff)
		}
	}

	// Keys that are fetched: nobody fetches any to explain, but those are used that are there.
	far := func() *mesh.HTTP {
		return admins(&mesh.JWTProvider{Remote: &mesh.RemoteKeys{Cluster: "keys", URI: "http://okta/keys", Timeout: 10 * time.Second, Ahead: true}})
	}
	token := okta.bearer(t, admin)
	want := denied("it cannot be verified here, decisions presume that there is none: its keys have not been fetched yet, from http://okta/keys by cluster keys")
	if diff := cmp.Diff(want, explain(far(), token)); diff != "" {
		t.Error(diff)
	}
	if n := fetches.Load(); n != 0 {
		t.Errorf("%d fetches to explain", n)
	}
	serving := far()
	serving.Filters = serving.Filters[:2] // nobody to ask
	service, err := stack.HTTPAt(serving, nil, set, place)
	if err != nil {
		t.Fatal(err)
	}
	if got := do(t, service, &wire.Peer{}, request("GET", "/", "authorization", token)); got.Status == http.StatusForbidden {
		t.Errorf("the chain itself: %+v", got)
	}
	if diff := cmp.Diff(allowed("good"), explain(far(), token)); diff != "" {
		t.Error(diff)
	}
	if n := fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != http.StatusForbidden {
		t.Errorf("the chain itself without a token: %+v", got)
	}
}
