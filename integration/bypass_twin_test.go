package integration_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// leadsTo is where a redirect leads. Ours names the host, since "//x/" alone would lead to another.
func leadsTo(r *reply) string {
	to, err := url.Parse(r.header.Get("Location"))
	if err != nil {
		return err.Error()
	}
	if to.Host == "app.example" || to.Scheme == "" {
		return strings.TrimPrefix(r.header.Get("Location"), "http://app.example")
	}
	return to.String()
}

// TestTrap9NoWayAroundIntentions generates requests that try to get around intentions: by the spelling of a path, of
// header fields and of the host. Envoy and we must decide the same, and the application must hear the same, since what
// is decided on has to be what is forwarded. Where we refuse a request as such that Envoy lets through, we are stricter;
// never may we be the more lenient.
//
// Intended differences, which are left out: a content-length of 0 is no header field with us; methods that Envoy's parser of HTTP/1 does not know
// are decided on with us, as they are over HTTP/2 by both; and an absolute URI without a path has the path "/", as has a
// path of slashes alone when slashes are merged.
func TestTrap9NoWayAroundIntentions(t *testing.T) {
	t.Parallel()
	rule := func(action, permission string) string {
		return httpFilter(rbacAny, `"rules":{"action":"`+action+`","policies":{"p":{"permissions":[`+permission+`],"principals":[{"any":true}]}}}`)
	}
	path := func(match string) string { return `{"urlPath":{"path":` + match + `}}` }
	header := func(name, match string) string { return `{"header":{"name":"` + name + `",` + match + `}}` }
	prefix, exact := path(`{"prefix":"/admin"}`), path(`{"exact":"/admin"}`)
	regex := path(`{"safeRegex":{"regex":"/admin(/.*)?"}}`)
	normal := `"normalizePath":true,`
	w := newTwin(t, map[string]chainSpec{
		"raw":      {filters: rule("DENY", prefix)},
		"raw only": {filters: rule("ALLOW", prefix)},
		"normal":   {filters: rule("DENY", prefix), options: normal},
		"merged":   {filters: rule("DENY", prefix), options: normal + `"mergeSlashes":true,`},
		"allowed":  {filters: rule("ALLOW", exact), options: normal + `"mergeSlashes":true,`},
		"rejected": {filters: rule("DENY", prefix), options: normal + `"mergeSlashes":true,"pathWithEscapedSlashesAction":"REJECT_REQUEST",`},
		"unescape": {filters: rule("DENY", prefix), options: normal + `"mergeSlashes":true,"pathWithEscapedSlashesAction":"UNESCAPE_AND_FORWARD",`},
		"redirect": {filters: rule("DENY", prefix), options: normal + `"pathWithEscapedSlashesAction":"UNESCAPE_AND_REDIRECT",`},
		"regex":    {filters: rule("DENY", regex), options: normal + `"mergeSlashes":true,`},
		"nocase":   {filters: rule("DENY", path(`{"prefix":"/admin","ignoreCase":true}`)), options: normal},
		"suffix":   {filters: rule("ALLOW", path(`{"suffix":".png"}`)), options: normal},
		"contains": {filters: rule("DENY", path(`{"contains":"admin"}`)), options: normal},
		"whole":    {filters: rule("DENY", header(":path", `"stringMatch":{"prefix":"/admin"}`)), options: normal},
		"query":    {filters: rule("ALLOW", header(":path", `"stringMatch":{"suffix":"/public"}`)), options: normal},
		"method":   {filters: rule("ALLOW", header(":method", `"stringMatch":{"safeRegex":{"regex":"GET|HEAD"}}`))},
		"role":     {filters: rule("ALLOW", header("X-Role", `"stringMatch":{"exact":"admin"}`))},
		"notrole":  {filters: rule("DENY", header("x-role", `"stringMatch":{"exact":"guest"}`))},
		"nothas":   {filters: rule("ALLOW", `{"notRule":`+header("x-role", `"presentMatch":true`)+`}`)},
		"inverted": {filters: rule("ALLOW", header("x-role", `"stringMatch":{"exact":"guest"},"invertMatch":true`))},
		"empty":    {filters: rule("ALLOW", header("x-role", `"stringMatch":{"exact":""}`))},
		"asempty":  {filters: rule("ALLOW", header("x-role", `"stringMatch":{"exact":"guest"},"invertMatch":true,"treatMissingHeaderAsEmpty":true`))},
		"list":     {filters: rule("DENY", header("x-role", `"stringMatch":{"contains":"guest"}`))},
		"rolere":   {filters: rule("ALLOW", header("x-role", `"stringMatch":{"safeRegex":{"regex":"(admin|root)"}}`))},
		"cookie":   {filters: rule("ALLOW", header("cookie", `"stringMatch":{"exact":"a=b; c=d"}`))},
		"host":     {filters: rule("ALLOW", header(":authority", `"stringMatch":{"exact":"good.example"}`))},
		"oldhost":  {filters: rule("ALLOW", header("host", `"stringMatch":{"exact":"good.example"}`))},
		"hostend":  {filters: rule("DENY", header(":authority", `"stringMatch":{"suffix":".bad.example"}`))},
		"scheme":   {filters: rule("ALLOW", header(":scheme", `"stringMatch":{"exact":"http"}`))},
		"agent":    {filters: rule("ALLOW", header("user-agent", `"stringMatch":{"exact":"a"}`))},
		"length":   {filters: rule("DENY", header("content-length", `"presentMatch":true`))},
		"upgrade":  {filters: rule("DENY", header("upgrade", `"presentMatch":true`))},
		"te":       {filters: rule("DENY", header("te", `"presentMatch":true`))},
		"hop":      {filters: rule("DENY", header("transfer-encoding", `"presentMatch":true`))},
		"conn":     {filters: rule("DENY", header("connection", `"presentMatch":true`))},
	})
	random := rand.New(rand.NewPCG(1, 9)) //nolint:gosec // the same requests each time
	pieces := []string{
		"/", "/", "/", "//", "admin", "admin", "Admin", "adm", "in", "..", ".", "%2e", "%2E%2e", "%2f", "%2F", "%5c", "%5C", `\`, ";", ";x=y", "?", "?a=/admin", "#", "#x", "%00", "%zz", "%", "%4", "a",
		"%61dmin", "%41dmin", "%2561dmin", "%7Eadmin", "public", ".png", "/../", "/./", "/..", "/%2e%2e/", "+", "*", "é", "%C3%A9", "@", ":", "|", "\"", "<", "{", "^", "`", "~", "!", "$", "&", "'", "(", ",", "=", "[", "]",
	}
	stricter, merges := map[string]int{}, map[string]bool{"merged": true, "allowed": true, "rejected": true, "unescape": true, "regex": true}
	check := func(chain, req string) {
		t.Helper()
		p := w.chains[chain]
		ours, theirs := w.raw(t, p.ours, req), w.raw(t, p.theirs, req)
		if h := theirs.heard; h != nil && strings.HasPrefix(h.URI, "//") && strings.Trim(strings.SplitN(h.URI, "?", 2)[0], "/") == "" && merges[chain] {
			h.URI = "/" + strings.TrimLeft(h.URI, "/") // Envoy merges slashes to two if there is nothing else
		}
		switch {
		case ours.heard != nil && theirs.heard != nil && ours.String() == theirs.String():
		case ours.heard == nil && theirs.heard == nil && ours.status == theirs.status && leadsTo(ours) == leadsTo(theirs):
		case ours.heard != nil, theirs.heard != nil && ours.status == http.StatusForbidden:
			t.Errorf("%s: to %q\nwe answer     %s\nEnvoy answers %s", chain, req, ours, theirs)
		default: // refused by both, each in its way, or only by us, since it is not well-formed
			stricter[fmt.Sprintf("%d instead of %d", ours.status, theirs.status)]++
			t.Logf("stricter: %s: %q: we answer %s, Envoy %s", chain, req, ours, theirs)
		}
	}
	paths := []string{
		"/admin", "/admin/", "/admin?x", "/x/../admin", "/x/..%2fadmin", "/./admin", "//admin", "/%61dmin", "/admin%2f..", "/admin/../x", "/admin/..%5cx", "/x/../../admin", `/\admin`, `/x\..\admin`, "/a/.%2e/admin",
		"/admin;x", "/admin#x", "/x#/../admin", "/x?/../admin", "/?/admin", "http://app.example/admin", "http://other/admin", "admin", "*", "/a/b/c.png?x", "/a.png/..", "/public", "/x?/public", "/admin?/public",
	}
	for range 150 {
		p := "/"
		for range 1 + random.IntN(5) {
			p += pieces[random.IntN(len(pieces))]
		}
		paths = append(paths, p)
	}
	for _, chain := range []string{"raw", "raw only", "normal", "merged", "allowed", "rejected", "unescape", "redirect", "regex", "nocase", "suffix", "contains", "whole", "query"} {
		for _, p := range paths {
			check(chain, request("GET "+p))
		}
	}
	fields := [][]string{
		nil,
		{"X-Role: admin"},
		{"x-role: admin"},
		{"X-ROLE:admin"},
		{"X-Role: admin "},
		{"X-Role:\tadmin"},
		{"X-Role: Admin"},
		{"X-Role: guest"},
		{"X-Role:"},
		{"X-Role: "},
		{"X-Role: 5"},
		{"X-Role: 10"},
		{"X-Role: 05"},
		{"X-Role: +5"},
		{"X-Role: 1x"},
		{"X-Role: admin", "X-Role: admin"},
		{"X-Role: guest", "X-Role: admin"},
		{"X-Role: admin", "X-Role: guest"},
		{"X-Role: guest, admin"},
		{"X-Role: admin,guest"},
		{"X-Role:", "X-Role: guest"},
		{"X-Role: 5", "X-Role: 5"},
		{"X_Role: admin"},
		{"X-Role : admin"},
		{" X-Role: admin"},
		{"X-Role: ad\x00min"},
		{"X-Role: \x01"},
		{"X-Role: é"},
		{"X-Röle: admin"},
		{"X-Role: admin", "Connection: x-role"},
		{"Connection: close, X-Role", "X-Role: admin"},
		{"Connection: keep-alive, x-role", "X-Role: guest"},
		{"Cookie: a=b; c=d"},
		{"Cookie: a=b", "Cookie: c=d"},
		{"Cookie: c=d", "Cookie: a=b"},
		{"User-Agent: a"},
		{"User-Agent: a", "User-Agent: b"},
		{"User-Agent: b", "User-Agent: a"},
		{"Transfer-Encoding: chunked"},
		{"TE: trailers"},
		{"TE: gzip"},
		{"Upgrade: x", "Connection: upgrade"},
		{"Upgrade: x"},
		{"Proxy-Connection: keep-alive"},
		{"Keep-Alive: 5"},
		{"Expect: x"},
		{":path: /admin"},
		{":authority: good.example"},
		{"Host: good.example"},
		{"Host: GOOD.example"},
		{"Host: good.example:80"},
		{"Host: good.example."},
		{"Host: good.example", "Host: bad.example"},
		{"Host: x.bad.example"},
		{"Host: x.bad.example:80"},
		{"Host: x.bad.example."},
		{"Host: x.BAD.example"},
		{"Host: "},
		{"Host: good.example/x"},
		{"Host: user@good.example"},
		{"Host: good.example#"},
		{"Host: good.example,x"},
		{"Host: [::1]"},
		{"Host: [::1]:80"},
		{"Host: good.example:"},
		{"Host: good.example:x"},
		{"X-Forwarded-Host: good.example"},
		{"X-Forwarded-Proto: https"},
		{"X-Forwarded-Proto: http"},
		{"X-Original-URL: /admin"},
		{"X-Rewrite-URL: /admin"},
		{"X-Envoy-Original-Path: /admin"},
		{"X-HTTP-Method-Override: DELETE"},
		{"Forwarded: host=good.example"},
	}
	for _, chain := range []string{"role", "notrole", "nothas", "inverted", "empty", "asempty", "list", "rolere", "cookie", "host", "oldhost", "hostend", "scheme", "agent", "length", "upgrade", "te", "hop", "conn"} {
		for _, f := range fields {
			req := request("GET /", f...)
			if strings.Contains(req, "Transfer-Encoding") {
				req = request("POST /", f...) + "0\r\n\r\n"
			}
			check(chain, req)
		}
	}
	for _, line := range []string{"GET /", "HEAD /", "POST /", "OPTIONS /", "OPTIONS *", "PUT /", "DELETE /", "TRACE /", "CONNECT app.example:80", "GET http://good.example/", "GET HTTP://good.example/", "GET http://good.example:80/", "GET //good.example/", "GET http://user@good.example/", "GET http://good.example", "GET https://good.example/"} {
		check("method", request(line))
		check("host", request(line))
		check("host", request(line, "Host: good.example"))
		check("hostend", request(line, "Host: x.bad.example"))
		check("scheme", request(line))
	}
	t.Logf("stricter: %v", stricter)
}
