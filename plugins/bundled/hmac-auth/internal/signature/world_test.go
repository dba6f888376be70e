package signature_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"log/slog"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/bundled/hmac-auth/internal/signature"
)

// noon is when the tests run, in seconds.
const noon = 1_800_000_000

const acmeSecret = "the secret that acme has shared with us"

// gate is an Authenticator with its clock.
type gate struct {
	*signature.Authenticator
	nonces *signature.Nonces
	now    int64
}

// newGate has the key "k1" of acme; what is in more replaces other settings.
func newGate(tb testing.TB, more map[string]any) *gate {
	tb.Helper()
	settings := map[string]any{"keys": map[string]any{"k1": map[string]any{"secret": acmeSecret, "consumer": "acme"}}}
	maps.Copy(settings, more)
	g := &gate{nonces: signature.NewNonces(time.Unix(noon-1000, 0)), now: noon}
	g.add(tb, settings)
	return g
}

// add makes the Authenticator anew, with the same memory.
func (g *gate) add(tb testing.TB, settings map[string]any) {
	tb.Helper()
	a, err := signature.New(settings, g.nonces, func() time.Time { return time.Unix(g.now, 0) }, slog.New(slog.DiscardHandler))
	if err != nil {
		tb.Fatal(err)
	}
	g.Authenticator = a
}

// ask returns the consumer, or the status and text of the refusal.
func (g *gate) ask(tb testing.TB, r *plugins.Request) string {
	tb.Helper()
	identity, err := g.Authenticate(tb.Context(), r)
	var refusal *plugins.Refusal
	switch {
	case errors.As(err, &refusal):
		return strconv.Itoa(refusal.Status) + " " + refusal.Text
	case err != nil:
		tb.Fatalf("a failure, where a request must cause none: %v", err)
	}
	return identity.Consumer
}

// request is a GET, or a POST if it has a body.
func request(path, body string, fields ...plugins.Field) *plugins.Request {
	r := &plugins.Request{Method: "GET", Scheme: "https", Authority: "Shop.example.com:443", Path: path, API: "shop", Header: fields}
	if body != "" {
		r.Method, r.Body = "POST", []byte(body)
		r.Header = append(r.Header, plugins.Field{Name: "content-length", Value: strconv.Itoa(len(body))})
		sum := sha256.Sum256(r.Body)
		r.Header = append(r.Header, plugins.Field{
			Name: "content-digest", Value: "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":",
		})
	}
	return r
}

// sign adds a signature of what lines say, each of them "NAME VALUE", as a client
// without our code would.
func sign(r *plugins.Request, secret, params string, lines ...string) *plugins.Request {
	var names []string
	base := ""
	for _, line := range lines {
		name, value, _ := strings.Cut(line, " ")
		names = append(names, `"`+name+`"`)
		base += `"` + name + `": ` + value + "\n"
	}
	input := "(" + strings.Join(names, " ") + ")" + params
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte(base + `"@signature-params": ` + input))
	r.Header = append(r.Header,
		plugins.Field{Name: "signature-input", Value: "sig1=" + input},
		plugins.Field{Name: "signature", Value: "sig1=:" + base64.StdEncoding.EncodeToString(mac.Sum(nil)) + ":"})
	return r
}

// params are those of a signature made now.
func params(nonce string) string {
	return ";created=" + strconv.Itoa(noon) + `;keyid="k1";nonce="` + nonce + `"`
}

// good are the lines that a GET of /a has to have.
func good() []string { return []string{"@method GET", "@authority shop.example.com", "@path /a"} }
