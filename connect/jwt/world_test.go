package jwt_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"

	"github.com/serai-net/serai/connect/jwt"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// signer has a key and its JWKS.
type signer struct {
	key  *ecdsa.PrivateKey
	jwks string
}

func newSigner(tb testing.TB) *signer {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k"}}})
	if err != nil {
		tb.Fatal(err)
	}
	return &signer{key, string(text)}
}

func (s *signer) token(tb testing.TB, claims map[string]any) string {
	tb.Helper()
	text, err := json.Marshal(claims)
	if err != nil {
		tb.Fatal(err)
	}
	sign, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: s.key}, (&jose.SignerOptions{}).WithHeader("kid", "k"))
	if err != nil {
		tb.Fatal(err)
	}
	signed, err := sign.Sign(text)
	if err != nil {
		tb.Fatal(err)
	}
	compact, err := signed.CompactSerialize()
	if err != nil {
		tb.Fatal(err)
	}
	return compact
}

// ask has a filter look at a request with some fields, and returns what is wrong
// ("" if nothing is), and what metadata says.
func ask(tb testing.TB, layer wire.Layer, fields ...wire.Field) (string, map[string]any) {
	tb.Helper()
	x, req := &wire.Exchange{}, &wire.Request{Method: "GET", Scheme: "http", Authority: "a", Path: "/p"}
	x.Reset(nil, &wire.Peer{}, time.Now())
	for _, f := range fields {
		req.Header.Add(f.Name, f.Value)
	}
	service := layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return &wire.Response{Status: 200}, nil
	}))
	_, err := service.Serve(x, req)
	x.Done(time.Now())
	if err != nil {
		return wire.AsFault(err).Text, x.Metadata.Namespace(jwt.Namespace)
	}
	return "", x.Metadata.Namespace(jwt.Namespace)
}

func bearer(token string) wire.Field {
	return wire.Field{Name: "authorization", Value: "Bearer " + token}
}

// requiring is a filter with one provider, whose token it requires.
func requiring(p *mesh.JWTProvider) *mesh.JWT {
	return &mesh.JWT{
		Providers: map[string]*mesh.JWTProvider{"one": p},
		Rules:     []mesh.JWTRule{{Requires: &mesh.JWTRequirement{Provider: "one"}}},
	}
}

func first(*wire.Exchange, *wire.Request) int { return 0 }
