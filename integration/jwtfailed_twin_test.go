package integration_test

import (
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestJWTFailuresAsEnvoy has metadata tell what is wrong with a token that need not be good.
func TestJWTFailuresAsEnvoy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	provider := func(issuer string) string {
		return `{"issuer":"` + issuer + `","audiences":["app"],"failedStatusInMetadata":"fail","localJwks":{"inlineString":` + quoted(i.jwks(t, "rs", "es")) + `}}`
	}
	const show = `function envoy_on_request(h) local m = h:streamInfo():dynamicMetadata():get("envoy.filters.http.jwt_authn"); if m and m["fail"] then h:headers():add("x-fail", m["fail"]["code"] .. " " .. m["fail"]["message"]) end end`
	lua := httpFilter("type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua", `"defaultSourceCode":{"inlineString":`+quoted(show)+`}`)
	chain := func(requires string) chainSpec {
		return chainSpec{filters: httpFilter(jwtAny, `"providers":{"one":`+provider("one")+`,"two":`+provider("two")+`},`+onTop(requires)) + "," + lua}
	}
	w := newTwin(t, map[string]chainSpec{
		"one":   chain(`{"requiresAny":{"requirements":[{"providerName":"one"},{"allowMissingOrFailed":{}}]}}`),
		"two":   chain(`{"requiresAny":{"requirements":[{"providerName":"one"},{"providerName":"two"},{"allowMissingOrFailed":{}}]}}`),
		"free":  chain(`{"allowMissingOrFailed":{}}`),
		"alone": {filters: httpFilter(jwtAny, `"providers":{"one":`+provider("one")+`},`+onTop(`{"allowMissingOrFailed":{}}`)) + "," + lua},
		"gone": {filters: httpFilter(jwtAny, `"providers":{"one":{"issuer":"one","failedStatusInMetadata":"fail","remoteJwks":{"httpUri":{"uri":"http://x/","cluster":"nowhere","timeout":"5s"}}}},`+
			onTop(`{"requiresAny":{"requirements":[{"providerName":"one"},{"allowMissingOrFailed":{}}]}}`)) + "," + lua},
		"fixed": chain(`{"providerName":"one"}`),
	}, staticCluster("nowhere", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9}))
	good := i.token(t, "es", nil)
	h, rest, _ := strings.Cut(good, ".")
	p, s, _ := strings.Cut(rest, ".")
	tokens := []string{
		good, "x", "a.b.c", "*." + p + "." + s, h + ".*." + s, h + "." + p + ".*", local64("x") + "." + p + "." + s, local64("{}") + "." + p + "." + s,
		local64(`{"alg":"none"}`) + "." + p + "." + s, local64(`{"alg":"ES256","kid":1}`) + "." + p + "." + s, h + "." + local64("x") + "." + s,
		i.token(t, "es", map[string]any{"exp": time.Now().Add(-time.Hour).Unix()}), i.token(t, "es", map[string]any{"nbf": time.Now().Add(time.Hour).Unix()}),
		i.token(t, "es", map[string]any{"iss": "two"}), i.token(t, "es", map[string]any{"iss": "three"}), i.token(t, "es", map[string]any{"aud": "other"}),
		i.sign(t, "rs", "RS256", "es", claims(nil)), i.token(t, "ed", nil), h + "." + p + "." + strings.Repeat("A", 86),
	}
	for _, text := range []string{`{"iss":1}`, `{"sub":1}`, `{"iat":"x"}`, `{"iat":-1}`, `{"nbf":"x"}`, `{"nbf":1e30}`, `{"exp":"1"}`, `{"exp":-1}`, `{"jti":1}`, `{"aud":1}`} {
		tokens = append(tokens, h+"."+local64(text)+"."+s)
	}
	for _, chain := range []string{"one", "two", "free", "fixed", "alone", "gone"} {
		w.ask(t, chain, request("GET /"))
		for n, token := range tokens {
			got := w.ask(t, chain, request("GET /", "Authorization: Bearer "+token))
			if n > 0 && chain == "one" && (got.status != http.StatusOK || got.heard.Header["X-Fail"] == nil) {
				t.Errorf("%s: %s", token, got)
			}
		}
	}
}
