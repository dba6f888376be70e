package integration_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	jose "github.com/go-jose/go-jose/v4"
)

// issuer signs tokens with keys of all kinds.
type issuer struct {
	keys map[string]any // by kid
	algs map[string]jose.SignatureAlgorithm
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	must(t, err)
	i := &issuer{
		keys: map[string]any{"rs": rsaKey, "ed": edKey, "hs": []byte(strings.Repeat("secret", 12))},
		algs: map[string]jose.SignatureAlgorithm{"rs": jose.RS256, "ed": jose.EdDSA, "hs": jose.HS256},
	}
	for kid, curve := range map[string]elliptic.Curve{"es": elliptic.P256(), "es3": elliptic.P384(), "es5": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		must(t, err)
		i.keys[kid] = key
	}
	i.algs["es"], i.algs["es3"], i.algs["es5"] = jose.ES256, jose.ES384, jose.ES512
	return i
}

// jwks is the public side of some keys.
func (i *issuer) jwks(t *testing.T, kids ...string) string {
	t.Helper()
	set := jose.JSONWebKeySet{}
	for _, kid := range kids {
		key := jose.JSONWebKey{Key: i.keys[kid], KeyID: kid}
		if kid != "hs" {
			key = key.Public()
		}
		set.Keys = append(set.Keys, key)
	}
	text, err := json.Marshal(set)
	must(t, err)
	return string(text)
}

// claims with changes; nil takes a claim away.
func claims(changes map[string]any) map[string]any {
	all := map[string]any{"iss": "one", "sub": "alice", "aud": "app", "exp": time.Now().Add(time.Hour).Unix()}
	maps.Copy(all, changes)
	maps.DeleteFunc(all, func(_ string, v any) bool { return v == nil })
	return all
}

func (i *issuer) token(t *testing.T, kid string, changes map[string]any) string {
	t.Helper()
	return i.sign(t, kid, i.algs[kid], kid, claims(changes))
}

func (i *issuer) sign(t *testing.T, key string, alg jose.SignatureAlgorithm, kid string, payload any) string {
	t.Helper()
	options := &jose.SignerOptions{}
	if kid != "" {
		options.WithHeader("kid", kid)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: i.keys[key]}, options)
	must(t, err)
	text, err := json.Marshal(payload)
	must(t, err)
	signed, err := signer.Sign(text)
	must(t, err)
	compact, err := signed.CompactSerialize()
	must(t, err)
	return compact
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// onTop is a rule for everything.
func onTop(requires string) string {
	return `"rules":[{"match":{"prefix":"/"},"requires":` + requires + `}]`
}

func local64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func local64Std(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// TestJWTAsEnvoy has Envoy and us verify the same tokens: same statuses, texts, challenges, and the same left of the
// request for the application.
func TestJWTAsEnvoy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	all := i.jwks(t, "rs", "es", "es3", "es5", "ed", "hs")
	provider := func(issuer, more string) string {
		return fmt.Sprintf(`{"issuer":%q,"localJwks":{"inlineString":%s}%s}`, issuer, quoted(all), comma(more))
	}
	providers := func(one string, more string) string {
		return `"providers":{"one":` + one + comma(more) + `},`
	}
	need := `{"providerName":"one"}`
	two := `"two":` + provider("two", "")
	anything := `{"providerName":"two"}`
	show := `"payloadInMetadata":"p","headerInMetadata":"h"`
	// what metadata says, an RBAC filter tells by letting through
	asks := func(path, value string) string {
		var steps []string
		for step := range strings.SplitSeq(path, "/") {
			steps = append(steps, `{"key":"`+step+`"}`)
		}
		return httpFilter(rbacAny, `"rules":{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"metadata":{"filter":"envoy.filters.http.jwt_authn","path":[`+
			strings.Join(steps, ",")+`],"value":`+value+`}}]}}}`)
	}
	filter := func(parts ...string) chainSpec {
		return chainSpec{filters: httpFilter(jwtAny, strings.Join(parts, ""))}
	}
	with := func(spec chainSpec, more string) chainSpec { spec.filters += "," + more; return spec }
	consul := filter(providers(provider("one", `"payloadInMetadata":"jwt_payload_one"`), `"two":`+provider("two", `"payloadInMetadata":"jwt_payload_two"`)),
		onTop(`{"requiresAll":{"requirements":[{"requiresAny":{"requirements":[`+need+`,{"allowMissingOrFailed":{}}]}},{"requiresAny":{"requirements":[`+anything+`,{"allowMissingOrFailed":{}}]}}]}}`))
	w := newTwin(t, map[string]chainSpec{
		"plain":     filter(providers(provider("one", ""), ""), onTop(need)),
		"forward":   filter(providers(provider("one", `"forward":true,"forwardPayloadHeader":"x-payload","claimToHeaders":[{"headerName":"x-sub","claimName":"sub"},{"headerName":"x-deep","claimName":"a.b"}]`), ""), onTop(need)),
		"pad":       filter(providers(provider("one", `"forwardPayloadHeader":"x-payload","padForwardPayloadHeader":true`), ""), onTop(need)),
		"audience":  filter(providers(provider("one", `"audiences":["app","https://other/"]`), ""), onTop(need)),
		"audiences": filter(providers(provider("one", `"audiences":["app"]`), ""), onTop(`{"providerAndAudiences":{"providerName":"one","audiences":["special"]}}`)),
		"places":    filter(providers(provider("one", `"fromHeaders":[{"name":"x-token"},{"name":"x-bearer","valuePrefix":"Bearer "}],"fromParams":["tok"],"fromCookies":["jwt"]`), ""), onTop(need)),
		"strict":    filter(providers(provider("one", `"subjects":{"prefix":"al"},"requireExpiration":true,"maxLifetime":"7200s","clockSkewSeconds":10`), ""), onTop(need)),
		"nobody":    filter(providers(provider("", ""), ""), onTop(need)),
		"any":       filter(providers(provider("one", ""), two), onTop(`{"requiresAny":{"requirements":[`+need+`,`+anything+`]}}`)),
		"all":       filter(providers(provider("one", `"fromHeaders":[{"name":"x-one"}]`), `"two":`+provider("two", `"fromHeaders":[{"name":"x-two"}]`)), onTop(`{"requiresAll":{"requirements":[`+need+`,`+anything+`]}}`)),
		"missing":   filter(providers(provider("one", show), two), onTop(`{"allowMissing":{}}`)),
		"failed":    filter(providers(provider("one", show), two), onTop(`{"allowMissingOrFailed":{}}`)),
		"anymiss":   filter(providers(provider("one", ""), two), onTop(`{"requiresAny":{"requirements":[`+need+`,{"allowMissing":{}}]}}`)),
		"silent":    filter(providers(provider("one", ""), ""), `"stripFailureResponse":true,`, onTop(need)),
		"rules":     filter(providers(provider("one", ""), two), `"bypassCorsPreflight":true,"requirementMap":{"named":`+need+`},"rules":[{"match":{"path":"/open"}},{"match":{"prefix":"/named"},"requirementName":"named"},{"match":{"prefix":"/two","headers":[{"name":"x-h","presentMatch":true}]},"requires":`+anything+`}]`),
		"fewkeys":   filter(`"providers":{"one":{"issuer":"one","localJwks":{"inlineString":`+quoted(i.jwks(t, "es"))+`}}},`, onTop(need)),
		"claim":     with(filter(providers(provider("one", show), ""), onTop(need)), asks("p/groups", `{"listMatch":{"oneOf":{"stringMatch":{"exact":"admin"}}}}`)),
		"number":    with(filter(providers(provider("one", show), ""), onTop(need)), asks("p/level", `{"doubleMatch":{"range":{"start":3,"end":5}}}`)),
		"spaces":    with(filter(providers(provider("one", `"payloadInMetadata":"p","normalizePayloadInMetadata":{"spaceDelimitedClaims":["scope"]}`), ""), onTop(need)), asks("p/scope", `{"listMatch":{"oneOf":{"stringMatch":{"exact":"write"}}}}`)),
		"header":    with(filter(providers(provider("one", show), ""), onTop(need)), asks("h/kid", `{"stringMatch":{"exact":"es"}}`)),
		"consul":    with(consul, asks("jwt_payload_one/sub", `{"stringMatch":{"exact":"alice"}}`)),
		"consul2":   with(consul, asks("jwt_payload_two/sub", `{"stringMatch":{"exact":"alice"}}`)),
		"lenient":   with(filter(providers(provider("one", show), two), onTop(`{"allowMissingOrFailed":{}}`)), asks("p/sub", `{"stringMatch":{"exact":"alice"}}`)),
	})
	good := i.token(t, "es", nil)
	get := func(chain, path string, fields ...string) *reply {
		return w.ask(t, chain, request("GET "+path, fields...))
	}
	bearer := func(token string) string { return "Authorization: Bearer " + token }
	okay := func(r *reply) {
		t.Helper()
		if r.status != http.StatusOK {
			t.Errorf("status %d, %s", r.status, r.body)
		}
	}
	t.Run("keys of all kinds", func(t *testing.T) {
		for kid, alg := range i.algs {
			okay(get("plain", "/"+kid, bearer(i.token(t, kid, nil))))
			if kid != "hs" { // Envoy gives up at the first Ed25519 key that a signature is too short for
				okay(get("plain", "/"+kid, bearer(i.sign(t, kid, alg, "", claims(nil))))) // without kid
			}
		}
		for _, alg := range []jose.SignatureAlgorithm{jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512} {
			okay(get("plain", "/", bearer(i.sign(t, "rs", alg, "rs", claims(nil)))))
		}
		okay(get("plain", "/", bearer(i.sign(t, "hs", jose.HS512, "hs", claims(nil)))))
		get("fewkeys", "/", bearer(i.token(t, "rs", nil)))
		get("fewkeys", "/", bearer(i.sign(t, "rs", jose.RS256, "es", claims(nil))))
	})
	t.Run("bad tokens", func(t *testing.T) {
		h, rest, _ := strings.Cut(good, ".")
		p, s, _ := strings.Cut(rest, ".")
		flipped := "A" + s[1:]
		if s[0] == 'A' {
			flipped = "B" + s[1:]
		}
		for _, token := range []string{
			"", "x", "a.b", "a.b.c", "..", "a..c", h + "." + p + ".", h + "." + p + "." + flipped, h + "." + p + "." + s + ".x",
			"*." + p + "." + s, h + ".*." + s, h + "." + p + ".*",
			local64("[]") + "." + p + "." + s, local64("x") + "." + p + "." + s, local64("{}") + "." + p + "." + s,
			local64(`{"alg":1}`) + "." + p + "." + s, local64(`{"alg":"none"}`) + "." + p + "." + s, local64(`{"alg":"none"}`) + "." + p + ".",
			local64(`{"alg":"ES256","kid":1}`) + "." + p + "." + s, local64(`{"alg":"HS256"}`) + "." + p + "." + s, local64(`{"alg":"ES256"}`) + "." + p + "." + s,
			h + "." + local64("[]") + "." + s, h + "." + local64("x") + "." + s, h + "." + local64(`{"iss":1}`) + "." + s, h + "." + local64(`{"sub":1}`) + "." + s,
			h + "." + local64(`{"iat":"x"}`) + "." + s, h + "." + local64(`{"nbf":"x"}`) + "." + s, h + "." + local64(`{"exp":"1"}`) + "." + s, h + "." + local64(`{"exp":-1}`) + "." + s,
			h + "." + local64(`{"iat":-1}`) + "." + s, h + "." + local64(`{"nbf":1e30}`) + "." + s, h + "." + local64(`{"jti":1}`) + "." + s, h + "." + local64(`{"aud":1}`) + "." + s,
			h + "." + local64(`{"aud":["a",1]}`) + "." + s, h + "." + local64(`{"aud":null}`) + "." + s, h + "." + local64(`{"iss":null}`) + "." + s, h + "." + local64(`{"exp":null}`) + "." + s,
			h + "." + local64(`{}`) + "." + s, h + "." + local64(`{"iss":"other"}`) + "." + s, h + "." + local64(`{"iss":"one","exp":1.5}`) + "." + s, good + " ", good + "=", good + ",x",
		} {
			if r := get("plain", "/x?y=z", bearer(token)); r.heard != nil && token != good+" " {
				t.Errorf("%q was let through", token)
			}
		}
		get("plain", "/")
		get("plain", "/", "Authorization: Basic x")
		get("plain", "/", "Authorization: bearer "+good)
		get("plain", "/", "Authorization: BearerX "+good)
		get("plain", "/", "Authorization: x Bearer  "+good)
		get("plain", "/", bearer(good), bearer("x"))
		get("plain", "/", bearer("x"), bearer(good))
		get("plain", "/", bearer(good), bearer(good))
		get("plain", "/"+strings.Repeat("long", 100), "Host: other:8080")
		get("silent", "/", bearer("x"))
		get("silent", "/")
	})
	t.Run("claims", func(t *testing.T) {
		now := time.Now()
		for _, c := range []map[string]any{
			{"exp": nil},
			{"exp": 0},
			{"exp": now.Add(-30 * time.Second).Unix()},
			{"exp": now.Add(-2 * time.Minute).Unix()},
			{"exp": now.Add(3 * time.Hour).Unix()},
			{"nbf": now.Add(30 * time.Second).Unix()},
			{"nbf": now.Add(2 * time.Minute).Unix()},
			{"iss": "two"},
			{"iss": nil},
			{"iss": ""},
			{"sub": "bob"},
			{"sub": nil},
			{"aud": nil},
			{"aud": []string{}},
			{"aud": []string{"x", "app"}},
			{"aud": "http://other"},
			{"aud": "https://app/"},
			{"aud": "special"},
			{"aud": "x"},
			{"exp": 1e18},
		} {
			token := i.token(t, "es", c)
			for _, chain := range []string{"plain", "audience", "audiences", "strict", "nobody", "any", "missing", "failed", "anymiss"} {
				get(chain, "/", bearer(token))
				get(chain, "/", bearer(token)) // and from the cache
			}
		}
	})
	t.Run("places", func(t *testing.T) {
		okay(get("plain", "/p?access_token="+good))
		get("plain", "/p?a=b&access_token="+good+"&c=d")
		get("plain", "/p?access_token=x&access_token="+good)
		get("plain", "/p?access_token="+good+"&access_token=x")
		get("plain", "/p?%61ccess_token="+good)
		get("plain", "/p?access_token=")
		get("plain", "/p?access_token")
		okay(get("places", "/", "X-Token: "+good))
		okay(get("places", "/", "X-Bearer: Bearer "+good))
		okay(get("places", "/?tok="+good))
		okay(get("places", "/", "Cookie: a=b; jwt="+good))
		get("places", "/", `Cookie: jwt="`+good+`"`)
		get("places", "/", "Cookie: jwt=x", "Cookie: jwt="+good)
		get("places", "/", "Cookie: jwt="+good, "Cookie: jwt=x")
		get("places", "/", bearer(good))
		get("places", "/?tok="+good, "X-Token: x")
		get("places", "/?tok=x", "X-Token: "+good)
		get("places", "/", "X-Bearer: "+good)
	})
	t.Run("what is told", func(t *testing.T) {
		for _, c := range []map[string]any{
			nil,
			{"a": map[string]any{"b": 7}},
			{"a": map[string]any{"b": true}},
			{"a": map[string]any{"b": 1.5}},
			{"a": map[string]any{"b": -3}},
			{"a": map[string]any{"b": []any{"x", 1, nil}}},
			{"a": map[string]any{"b": map[string]any{"c": "d"}}},
			{"a": "x"},
			{"a": map[string]any{"b": nil}},
			{"a": map[string]any{"b": ""}},
			{"a.b": "flat"},
			{"sub": nil},
			{"sub": "ä"},
		} {
			okay(get("forward", "/", bearer(i.token(t, "es", c)), "X-Payload: forged", "X-Sub: forged", "X-Deep: forged"))
		}
		get("pad", "/", bearer(good))
		get("pad", "/", bearer(i.token(t, "es", map[string]any{"x": "1"})))
		get("pad", "/", bearer(i.token(t, "es", map[string]any{"x": "12"})))
	})
	t.Run("rules", func(t *testing.T) {
		for _, path := range []string{"/open", "/open?x", "/openx", "/named", "/named/x", "/two", "/other"} {
			get("rules", path)
			get("rules", path, bearer(good), "X-H: 1")
			get("rules", path, bearer(i.token(t, "es", map[string]any{"iss": "two"})), "X-H: 1")
		}
		preflight := []string{"Origin: https://x", "Access-Control-Request-Method: GET"}
		w.ask(t, "rules", request("OPTIONS /named", preflight...))
		w.ask(t, "rules", request("OPTIONS /named", preflight[0]))
		w.ask(t, "rules", request("GET /named", preflight...))
		one, other := good, i.token(t, "rs", map[string]any{"iss": "two"})
		for _, fields := range [][]string{nil, {"X-One: " + one}, {"X-Two: " + other}, {"X-One: " + one, "X-Two: " + other}, {"X-One: " + other, "X-Two: " + one}, {"X-One: x", "X-Two: " + other}} {
			get("all", "/", fields...)
		}
		for _, chain := range []string{"missing", "failed", "anymiss", "any", "consul", "consul2", "lenient"} {
			for _, token := range []string{one, other, "x", i.token(t, "es", map[string]any{"iss": "three"}), i.sign(t, "rs", jose.RS256, "es", claims(nil))} {
				get(chain, "/", bearer(token))
				get(chain, "/", bearer(token), bearer("x"))
				get(chain, "/", bearer("x"), bearer(token))
				get(chain, "/?access_token="+one, bearer(token))
			}
			get(chain, "/")
		}
	})
	t.Run("metadata", func(t *testing.T) {
		for _, c := range []map[string]any{
			nil,
			{"groups": []string{"admin"}},
			{"groups": []string{"user", "admin"}},
			{"groups": []string{"user"}},
			{"groups": "admin"},
			{"groups": []any{1, "admin"}},
			{"level": 3},
			{"level": 4.9},
			{"level": 5},
			{"level": "3"},
			{"scope": "read write"},
			{"scope": "read"},
			{"scope": []string{"write"}},
			{"scope": "write "},
			{"scope": "xwrite write"},
		} {
			for _, chain := range []string{"claim", "number", "spaces", "header", "lenient"} {
				get(chain, "/", bearer(i.token(t, "es", c)))
			}
		}
		get("header", "/", bearer(i.token(t, "rs", nil)))
	})
	w.sameStats(t, "http.plain.jwt_authn.allowed", "http.plain.jwt_authn.denied", "http.rules.jwt_authn.cors_preflight_bypassed", "http.claim.rbac.allowed", "http.claim.rbac.denied")
}

// TestRemoteJWKSAsEnvoy fetches keys: when they are not there yet, when they are, and when they change.
func TestRemoteJWKSAsEnvoy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	mux := http.NewServeMux()
	mux.HandleFunc("/good/keys", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(i.jwks(t, "es", "rs"))) })
	mux.HandleFunc("/empty", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(`{"keys":[]}`)) })
	mux.HandleFunc("/broken", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write([]byte(`no json`)) })
	keys := httptest.NewServer(mux)
	t.Cleanup(keys.Close)
	gone := httptest.NewServer(mux)
	gone.Close()
	remote := func(cluster, path, more string) chainSpec {
		return chainSpec{filters: httpFilter(jwtAny, fmt.Sprintf(`"providers":{"one":{"issuer":"one","remoteJwks":{"httpUri":{"cluster":%q,"uri":"https://keys.example%s","timeout":"2s"}%s}}},%s`,
			cluster, path, comma(more), onTop(`{"providerName":"one"}`)))}
	}
	ahead := `"asyncFetch":{"fastListener":true}`
	w := newTwin(t, map[string]chainSpec{
		"lazy":   remote("keys", "/good/keys", ""),
		"ahead":  remote("keys", "/good/keys", ahead),
		"slow":   remote("keys", "/good/keys", `"asyncFetch":{},"cacheDuration":"60s"`),
		"none":   remote("keys", "/none", ahead),
		"empty":  remote("keys", "/empty", ""),
		"broken": remote("keys", "/broken", ""),
		"gone":   remote("gone", "/good/keys", ahead+`,"retryPolicy":{"retryBackOff":{"baseInterval":"0.01s"},"numRetries":2}`),
	}, staticCluster("keys", keys.Listener.Addr()), staticCluster("gone", gone.Listener.Addr()))
	for _, chain := range []string{"ahead", "slow"} { // nobody says when they are there
		eventually(t, "the keys of "+chain, func(context.Context) error {
			for _, addr := range []string{w.chains[chain].ours, w.chains[chain].theirs} {
				if r := w.raw(t, addr, request("GET /", "Authorization: Bearer "+i.token(t, "es", nil))); r.status != http.StatusOK {
					return errors.New(r.String())
				}
			}
			return nil
		})
	}
	for _, chain := range []string{"lazy", "ahead", "slow", "none", "empty", "broken", "gone"} {
		for _, token := range []string{i.token(t, "es", nil), i.token(t, "rs", nil), i.token(t, "ed", nil), "x"} {
			w.ask(t, chain, request("GET /", "Authorization: Bearer "+token))
			w.ask(t, chain, request("GET /", "Authorization: Bearer "+token))
		}
		w.ask(t, chain, request("GET /"))
	}
}

// TestStaleJWKSAsEnvoy takes the server of keys away when their time is over: a token is not good by keys that
// somebody might have withdrawn, unless they were fetched ahead of need.
func TestStaleJWKSAsEnvoy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	var down atomic.Bool
	keys := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			http.Error(rw, "down", http.StatusServiceUnavailable)
			return
		}
		_, _ = rw.Write([]byte(i.jwks(t, "es")))
	}))
	t.Cleanup(keys.Close)
	remote := func(more string) chainSpec {
		return chainSpec{filters: httpFilter(jwtAny, fmt.Sprintf(`"providers":{"one":{"issuer":"one","remoteJwks":{"httpUri":{"cluster":"keys","uri":"https://keys.example/keys","timeout":"2s"},"cacheDuration":"2s"%s}}},%s`,
			comma(more), onTop(`{"providerName":"one"}`)))}
	}
	w := newTwin(t, map[string]chainSpec{"lazy": remote(""), "ahead": remote(`"asyncFetch":{"fastListener":true}`)}, staticCluster("keys", keys.Listener.Addr()))
	ask := request("GET /", "Authorization: Bearer "+i.token(t, "es", nil))
	both := func(what, chain string, status int) {
		t.Helper()
		eventually(t, what, func(context.Context) error {
			ours, theirs := w.raw(t, w.chains[chain].ours, ask), w.raw(t, w.chains[chain].theirs, ask)
			if ours.status != status || theirs.status != status {
				return fmt.Errorf("%d, Envoy %d", ours.status, theirs.status)
			}
			return nil
		})
	}
	both("keys were fetched", "lazy", http.StatusOK)
	both("keys were fetched ahead", "ahead", http.StatusOK)
	down.Store(true)
	both("old keys are good no more", "lazy", http.StatusUnauthorized)
	w.ask(t, "lazy", ask)
	if got := w.ask(t, "ahead", ask); got.status != http.StatusOK {
		t.Errorf("keys that were fetched ahead: %s", got)
	}
	down.Store(false)
	both("keys were fetched anew", "lazy", http.StatusOK)
}
