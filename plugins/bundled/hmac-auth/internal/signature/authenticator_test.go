package signature_test

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/serai-net/serai/plugins"
)

// The example of RFC 9421 appendix B.2.5.
func TestRFCExample(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==")
	if err != nil {
		t.Fatal(err)
	}
	g := newGate(t, map[string]any{
		"keys":          map[string]any{"test-shared-secret": map[string]any{"secret": string(secret), "consumer": "acme"}},
		"required":      []any{"date", "@authority"},
		"require_nonce": false,
		"unsigned_body": true,
	})
	g.now = 1618884473
	r := &plugins.Request{Method: "POST", Scheme: "https", Authority: "example.com", Path: "/foo?param=Value&Pet=dog", Header: []plugins.Field{
		{Name: "date", Value: "Tue, 20 Apr 2021 02:07:55 GMT"},
		{Name: "content-type", Value: "application/json"},
		{Name: "content-length", Value: "18"},
		{Name: "signature-input", Value: `sig-b25=("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret"`},
		{Name: "signature", Value: "sig-b25=:pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=:"},
	}, Body: []byte(`{"hello": "world"}`)}
	if got := g.ask(t, r); got != "acme" {
		t.Error(got)
	}
	r.Header[1].Value = "application/xml"
	if got := g.ask(t, r); got != "401 the signature does not match" {
		t.Error(got)
	}
}

func TestAuthenticate(t *testing.T) {
	const mismatch = "401 the signature does not match"
	field := func(name, value string) plugins.Field { return plugins.Field{Name: name, Value: value} }
	at := func(offset int) string {
		return strings.Replace(params("n"), strconv.Itoa(noon), strconv.Itoa(noon+offset), 1)
	}
	withDigest := func(body string) []string {
		return append([]string{"@method POST", "@authority shop.example.com", "@path /a"}, "content-digest "+request("/a", body).Get("content-digest"))
	}
	for _, row := range []struct {
		name    string
		request *plugins.Request
		want    string
	}{
		{"good", sign(request("/a", ""), acmeSecret, params("n"), good()...), "acme"},
		{"with alg and expires", sign(request("/a", ""), acmeSecret, params("n")+`;alg="hmac-sha256";expires=`+strconv.Itoa(noon+1), good()...), "acme"},
		{"in another order, with more", sign(request("/a?b=%20c", "", field("x-a", " 1 "), field("x-a", "2")), acmeSecret, params("n"),
			"x-a 1, 2", "@query ?b=%20c", "@path /a", "@authority shop.example.com", "@scheme https", "@method GET"), "acme"},
		{"by the target", sign(request("/a?b", ""), acmeSecret, params("n"), "@method GET", "@target-uri https://shop.example.com/a?b"), "acme"},
		{"by the request target", sign(request("/a?b", ""), acmeSecret, params("n"), "@method GET", "@authority shop.example.com", "@request-target /a?b"), "acme"},
		{"with a body", sign(request("/a", "hello"), acmeSecret, params("n"), withDigest("hello")...), "acme"},
		{"earliest", sign(request("/a", ""), acmeSecret, at(-30), good()...), "acme"},
		{"latest", sign(request("/a", ""), acmeSecret, at(30), good()...), "acme"},

		{"none", request("/a", ""), "401 a signature is needed: send the fields Signature-Input and Signature (RFC 9421)"},
		{"wrong secret", sign(request("/a", ""), acmeSecret+"x", params("n"), good()...), mismatch},
		{"unknown key", sign(request("/a", ""), acmeSecret, strings.Replace(params("n"), "k1", "k2", 1), good()...), mismatch},
		{"other method", sign(request("/a", ""), acmeSecret, params("n"), "@method HEAD", "@authority shop.example.com", "@path /a"), mismatch},
		{"other host", sign(request("/a", ""), acmeSecret, params("n"), "@method GET", "@authority evil.example.com", "@path /a"), mismatch},
		{"other path", sign(request("/b", ""), acmeSecret, params("n"), good()...), mismatch},
		{"other query", sign(request("/a?b=2", ""), acmeSecret, params("n"), append(good(), "@query ?b=1")...), mismatch},
		{"query not covered", sign(request("/a?b=2", ""), acmeSecret, params("n"), good()...), `401 the signature must cover "@query"`},
		{"path not covered", sign(request("/a", ""), acmeSecret, params("n"), "@method GET", "@authority shop.example.com"), `401 the signature must cover "@path"`},
		{"other body", sign(request("/a", "hullo"), acmeSecret, params("n"), withDigest("hello")...), mismatch},
		{"body not covered", sign(request("/a", "hello"), acmeSecret, params("n"), withDigest("hello")[:3]...), `401 the signature must cover "content-digest", as there is a body`},
		{"body not given", func() *plugins.Request {
			r := sign(request("/a", "hello"), acmeSecret, params("n"), withDigest("hello")...)
			r.Body = nil
			return r
		}(), "413 requests with a body are not taken here"},
		{
			"covered field is not there", sign(request("/a", ""), acmeSecret, params("n"), append(good(), "x-a ")...),
			`401 the signature covers the field "x-a", which the request does not have`,
		},
		{"too old", sign(request("/a", ""), acmeSecret, at(-31), good()...), "401 the signature was created 31 s ago, at most 30 s are allowed: look at the clock"},
		{"too early", sign(request("/a", ""), acmeSecret, at(31), good()...), "401 the signature was created 31 s ahead of our clock, at most 30 s are allowed: look at the clock"},
		{"expired", sign(request("/a", ""), acmeSecret, params("n")+";expires="+strconv.Itoa(noon), good()...), "401 the signature has expired"},
		{"no nonce", sign(request("/a", ""), acmeSecret, fmt.Sprintf(`;created=%d;keyid="k1"`, noon), good()...), "401 the signature needs the parameter nonce: a string that is new for each request"},
		{"no key", sign(request("/a", ""), acmeSecret, fmt.Sprintf(`;created=%d;nonce="n"`, noon), good()...), "401 the signature needs the parameter keyid, of at most 128 characters"},
		{"no time", sign(request("/a", ""), acmeSecret, `;keyid="k1";nonce="n"`, good()...), "401 the signature needs the parameter created: seconds since 1970"},
		{"time is a string", sign(request("/a", ""), acmeSecret, `;created="1";keyid="k1"`, good()...), `401 the signature's parameter "created" must be a whole number: seconds since 1970`},
		{"empty nonce", sign(request("/a", ""), acmeSecret, params(""), good()...), `401 the signature's parameter "nonce" must be a string that is not empty`},
		{"long nonce", sign(request("/a", ""), acmeSecret, params(strings.Repeat("n", 129)), good()...), "401 the signature's nonce is longer than 128 characters"},
		{"other algorithm", sign(request("/a", ""), acmeSecret, params("n")+`;alg="rsa-v1_5-sha256"`, good()...), `401 the signature's parameter alg must be "hmac-sha256", or left out`},
		{"covered twice", sign(request("/a", ""), acmeSecret, params("n"), append(good(), "@path /a")...), `401 the signature covers "@path" twice`},
		{"itself", sign(request("/a", ""), acmeSecret, params("n"), append(good(), "signature x")...), `401 the signature covers "signature", which would be about itself`},
		{
			"of a response", sign(request("/a", ""), acmeSecret, params("n"), append(good(), "@status 200")...),
			`401 the signature covers "@status", which is not supported; there is @method, @authority, @scheme, @target-uri, @request-target, @path and @query`,
		},
		{"upper case", sign(request("/a", ""), acmeSecret, params("n"), append(good(), "X-A 1")...), `401 the signature covers "X-A", which is no name of a field in lower case`},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := newGate(t, nil).ask(t, row.request); got != row.want {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

// What is not a signature at all, in the fields of one.
func TestMalformed(t *testing.T) {
	const input, value = `sig1=("@method");created=1;keyid="k1"`, "sig1=:AAAA:"
	const malformed, noValue = "the field Signature-Input is malformed (RFC 9421 section 4.1)",
		"the field Signature is malformed, or has no value for what Signature-Input names"
	for _, row := range []struct{ name, input, value, want string }{
		{"empty", "", "", malformed},
		{"no list", "sig1=1", value, malformed},
		{"no string", "sig1=(method)", value, malformed},
		{"open list", `sig1=("@method"`, value, malformed},
		{"not ASCII", `sig1=("ä")`, value, malformed},
		{"no value", input, "", noValue},
		{"other label", input, "sig2=:AAAA:", noValue},
		{"value no bytes", input, `sig1="AAAA"`, noValue},
		{"value no base64", input, "sig1=:%%%:", noValue},
		{"value a list", input, "sig1=(:AAAA:)", noValue},
		{"with parameters", `sig1=("x-a";sf);created=1;keyid="k1"`, value, `the signature covers "x-a" with parameters, which is not supported: cover the whole of it`},
		{"too many", strings.Repeat(`a1=(), b1=(), c1=(), `, 1) + `d=(), e=(), f=(), g=(), h=(), i=()`, value, "the fields Signature-Input and Signature have too much in them"},
		{"too many components", "sig1=(" + strings.Repeat(`"a" `, 65) + ");created=1", value, "the fields Signature-Input and Signature have too much in them"},
		{"too long", "sig1=(" + strings.Repeat(`"a" `, 3000) + ")", value, "the fields Signature-Input and Signature have too much in them"},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := request("/a", "", plugins.Field{Name: "signature-input", Value: row.input}, plugins.Field{Name: "signature", Value: row.value})
			if got := newGate(t, nil).ask(t, r); got != "401 "+row.want {
				t.Errorf("got %s\nwant %s", got, row.want)
			}
		})
	}
}

// Others may sign the same request; ours is the one whose key is known.
func TestSeveralSignatures(t *testing.T) {
	join := func(label string, r *plugins.Request, first bool) *plugins.Request {
		for i := range r.Header {
			if f := &r.Header[i]; f.Name == "signature-input" || f.Name == "signature" {
				other := map[bool]string{true: label + `=("@method");created=1;keyid="theirs"`, false: label + "=:AAAA:"}[f.Name == "signature-input"]
				if first {
					f.Value = other + ", " + f.Value
				} else {
					f.Value += ", " + other
				}
			}
		}
		return r
	}
	const want = "401 there are several signatures, and not exactly one of them is by a key that is known here"
	good := func(nonce, key string) *plugins.Request {
		return sign(request("/a", ""), acmeSecret, strings.Replace(params(nonce), "k1", key, 1), good()...)
	}
	for _, row := range []struct {
		name    string
		request *plugins.Request
		want    string
	}{
		{"theirs first", join("proxy", good("1", "k1"), true), "acme"},
		{"theirs last", join("proxy", good("2", "k1"), false), "acme"},
		{"none known", join("proxy", good("3", "k9"), false), want},
		{"in two fields", func() *plugins.Request {
			r := good("4", "k1")
			r.Header = append(r.Header, plugins.Field{Name: "signature-input", Value: `p=("@method");created=1;keyid="theirs"`},
				plugins.Field{Name: "signature", Value: "p=:AAAA:"})
			return r
		}(), "acme"},
		{"both ours", func() *plugins.Request {
			r := good("5", "k1")
			r.Header = append(r.Header, plugins.Field{Name: "signature-input", Value: `p=("@method");created=1;keyid="k1"`},
				plugins.Field{Name: "signature", Value: "p=:AAAA:"})
			return r
		}(), want},
	} {
		t.Run(row.name, func(t *testing.T) {
			if got := newGate(t, nil).ask(t, row.request); got != row.want {
				t.Error(got)
			}
		})
	}
}

func TestDigest(t *testing.T) {
	sha512 := "sha-512=:m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw==:"
	sha256 := request("/a", "hello").Get("content-digest")
	for _, row := range []struct{ digest, want string }{
		{sha256, "acme"},
		{sha512, "acme"},
		{sha256 + ", " + sha512 + ", md5=:AAAA:", "acme"},
		{sha256 + ", sha-512=:AAAA:", "401 the body is not what Content-Digest says"},
		{"md5=:XUFAKrxLKna5cZ2REBfFkg==:", "401 the field Content-Digest has neither sha-256 nor sha-512"},
		{"sha-256=1", "401 the field Content-Digest is malformed (RFC 9530 section 2)"},
		{"sha-256=(1)", "401 the field Content-Digest is malformed (RFC 9530 section 2)"},
		{"sha-256=:", "401 the field Content-Digest is malformed (RFC 9530 section 2)"},
	} {
		r := request("/a", "hello")
		r.Header[slices.IndexFunc(r.Header, func(f plugins.Field) bool { return f.Name == "content-digest" })].Value = row.digest
		sign(r, acmeSecret, params("n"), "@method POST", "@authority shop.example.com", "@path /a", "content-digest "+row.digest)
		if got := newGate(t, nil).ask(t, r); got != row.want {
			t.Errorf("%s: %s, want %s", row.digest, got, row.want)
		}
	}
}

// The upstream does not get what could be sent once more, unless it is wanted.
func TestForward(t *testing.T) {
	for forward, want := range map[bool]int{false: 2, true: 0} {
		identity, err := newGate(t, map[string]any{"forward_signature": forward}).
			Authenticate(t.Context(), sign(request("/a", ""), acmeSecret, params("n"), good()...))
		if err != nil || len(identity.Remove) != want {
			t.Errorf("forward %t: %+v, %v", forward, identity, err)
		}
	}
}

func TestRefusalTellsHowToSign(t *testing.T) {
	r := request("/a", "x")
	r.API = "a\"b"
	_, err := newGate(t, nil).Authenticate(t.Context(), r)
	refusal, ok := err.(*plugins.Refusal) //nolint:errorlint // it must be that itself
	if !ok || len(refusal.Header) != 2 {
		t.Fatalf("%T %v", err, err)
	}
	if got := refusal.Header[0]; got != (plugins.Field{Name: "www-authenticate", Value: `Signature realm="a_b"`}) {
		t.Error(got)
	}
	want := `sig1=("@method" "@authority" "@path" "@query" "content-digest");created;keyid;alg="hmac-sha256"`
	if got := refusal.Header[1]; got.Name != "accept-signature" || got.Value != want {
		t.Error(got)
	}
}

func BenchmarkAuthenticate(b *testing.B) {
	g := newGate(b, map[string]any{"require_nonce": false})
	r := sign(request("/a", "hello"), acmeSecret, fmt.Sprintf(`;created=%d;keyid="k1"`, noon),
		"@method POST", "@authority shop.example.com", "@path /a", "content-digest "+request("/a", "hello").Get("content-digest"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := g.Authenticate(b.Context(), r); err != nil {
			b.Fatal(err)
		}
	}
}

// Whatever a client sends: no panic, no failure, and no consumer without the
// secret.
func FuzzAuthenticate(f *testing.F) {
	f.Add(`sig1=("@method" "@authority" "@path");created=1800000000;keyid="k1";nonce="a"`, "sig1=:AAAA:", "sha-256=:AAAA:", "/a?b")
	f.Add(`a=("x-a";sf "@query-param";name="b");created=-1;expires=999999999999999`, "a=1, b=:AA==:", "", "/")
	f.Add(`sig1=(), sig2=();keyid="k1"`, "sig2=::", "md5=(1 2)", "*")
	g := newGate(f, nil)
	f.Fuzz(func(t *testing.T, input, value, sum, path string) {
		r := request(path, "body", plugins.Field{Name: "signature-input", Value: input}, plugins.Field{Name: "signature", Value: value})
		r.Header = append(r.Header, plugins.Field{Name: "content-digest", Value: sum})
		if got := g.ask(t, r); !strings.HasPrefix(got, "401 ") {
			t.Errorf("%s for %q %q", got, input, value)
		}
	})
}
