package integration_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream sends one request over HTTP/2 whose fields, "name: value" and pseudo-header fields among them, go as they are.
// A reset or closed connection has the status 0.
func (w *twin) stream(t *testing.T, addr string, fields []string) *reply {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, http2.ClientPreface)
	must(t, err)
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	must(t, framer.WriteSettings())
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	for _, field := range fields {
		name, value, _ := strings.Cut(field[1:], ":")
		must(t, encoder.WriteField(hpack.HeaderField{Name: field[:1] + name, Value: strings.TrimPrefix(value, " ")}))
	}
	must(t, framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true}))
	r := &reply{header: http.Header{}}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return &reply{body: "no answer"}
		}
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				must(t, framer.WriteSettingsAck())
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return &reply{body: "no answer"}
		case *http2.MetaHeadersFrame:
			r.status, _ = strconv.Atoi(frame.PseudoValue("status"))
			for _, f := range frame.RegularFields() {
				r.header.Add(f.Name, f.Value)
			}
			ended = frame.StreamEnded()
		case *http2.DataFrame:
			r.body += string(frame.Data())
			ended = frame.StreamEnded()
		}
		if ended {
			break
		}
	}
	if strings.HasPrefix(r.body, `{"Method"`) {
		r.heard = &heard{}
		must(t, json.Unmarshal([]byte(r.body), r.heard))
	}
	return r
}

// TestNoWayAroundIntentionsByHTTP2 is TestTrap9NoWayAroundIntentions for what only HTTP/2 can spell.
func TestNoWayAroundIntentionsByHTTP2(t *testing.T) {
	t.Parallel()
	rule := func(action, name, match string) chainSpec {
		return chainSpec{options: `"normalizePath":true,"mergeSlashes":true,"delayedCloseTimeout":"0.01s",`, filters: httpFilter(rbacAny,
			`"rules":{"action":"`+action+`","policies":{"p":{"permissions":[{"header":{"name":"`+name+`",`+match+`}}],"principals":[{"any":true}]}}}`)}
	}
	exact := func(s string) string { return `"stringMatch":{"exact":"` + s + `"}` }
	w := newTwin(t, map[string]chainSpec{
		"path":    rule("DENY", ":path", `"stringMatch":{"prefix":"/admin"}`),
		"method":  rule("ALLOW", ":method", exact("GET")),
		"delete":  rule("DENY", ":method", exact("DELETE")),
		"host":    rule("ALLOW", ":authority", exact("good.example")),
		"oldhost": rule("DENY", "host", exact("bad.example")),
		"cookie":  rule("ALLOW", "cookie", exact("a=b; c=d")),
		"cookies": rule("DENY", "cookie", `"stringMatch":{"contains":"guest"}`),
		"role":    rule("ALLOW", "x-role", exact("admin")),
		"guest":   rule("DENY", "x-role", `"stringMatch":{"contains":"guest"}`),
		"te":      rule("DENY", "te", `"presentMatch":true`),
	})
	head := func(changes ...string) []string {
		all := []string{":method: GET", ":scheme: http", ":authority: app.example", ":path: /"}
		for _, change := range changes {
			name, _, _ := strings.Cut(change[1:], ":")
			replaced := false
			for i := range all {
				if strings.HasPrefix(all[i], ":"+name+":") && change[0] == ':' && !replaced {
					all[i], replaced = change, true
				}
			}
			if !replaced {
				all = append(all, change)
			}
		}
		return all
	}
	without := func(name string, more ...string) []string {
		var kept []string
		for _, field := range head() {
			if !strings.HasPrefix(field, name) {
				kept = append(kept, field)
			}
		}
		return append(kept, more...)
	}
	requests := [][]string{
		head(), head(":path: /admin"), head(":path: /admin?x"), head(":path: /x/../admin"), head(":path: /%61dmin"), head(":path: //admin"), head(":path: admin"), head(":path: "), head(":path: *"), head(":path: http://x/admin"), head(":path: /x#/admin"),
		head(":path: /admin\x00"), head(":path: /ad min"), head(":path: /x\x7f"), head(":path: /é"), head(":path: /x?a b"), head(":path: /\t"), append(head(), ":path: /admin"), append([]string{":path: /admin"}, head()...),
		head(":method: DELETE"), head(":method: OPTIONS", ":path: *"), head(":method: "), head(":method: G T"), append(head(), ":method: DELETE"), head("x-http-method-override: DELETE"),
		head(":authority: good.example"), head(":authority: GOOD.example"), head(":authority: good.example:80"), head(":authority: good.example."), head(":authority: "), head(":authority: a b"), head(":authority: user@good.example"), head(":authority: good.example/x"),
		without(":authority", "host: good.example"), without(":authority", "host: bad.example"), without(":authority"), head(":authority: good.example", "host: bad.example"), head(":authority: bad.example", "host: good.example"), head(":authority: good.example", "host: good.example"),
		without(":authority", "host: good.example", "host: bad.example"), head("host: bad.example"),
		head(":scheme: https"), head(":scheme: ftp"), head(":scheme: "), without(":scheme"), without(":path"), without(":method"), head(":other: x"), append([]string{"x-role: admin"}, head()...), append(head("x-role: admin"), ":path: /admin"),
		head("x-role: admin"), head("X-Role: admin"), head("x-role: admin", "x-role: guest"), head("x-role: guest", "x-role: admin"), head("x-role: admin "), head("x-role:  admin"), head("x-role: ad\x00min"), head("x-role: ad\nmin"), head("x-role: admin\r\nx: y"), head("x role: admin"), head("x-role\x00: admin"), head("x-role: guest,admin"), head("x-role: "),
		head("cookie: a=b; c=d"), head("cookie: a=b", "cookie: c=d"), head("cookie: c=d", "cookie: a=b"), head("cookie: a=b", "x: y", "cookie: c=d"), head("cookie: a=b", "cookie: guest"), head("cookie: gu", "cookie: est"),
		head("connection: close"), head("connection: x-role", "x-role: admin"), head("keep-alive: 5"), head("proxy-connection: x"), head("transfer-encoding: chunked"), head("upgrade: x"), head("te: trailers"), head("te: gzip"), head("te: trailers, gzip"),
		head("content-length: 5"), head("content-length: x"), head("content-length: 0", "content-length: 0"), head("expect: 100-continue"),
	}
	for chain, p := range w.chains {
		for _, fields := range requests {
			ours, theirs := w.stream(t, p.ours, fields), w.stream(t, p.theirs, fields)
			switch {
			case ours.heard != nil && theirs.heard != nil && ours.String() == theirs.String():
			case ours.heard != nil, theirs.heard != nil && ours.status == http.StatusForbidden:
				t.Errorf("%s: to %q\nwe answer     %s\nEnvoy answers %s", chain, fields, ours, theirs)
			case ours.status != theirs.status:
				t.Logf("stricter: %s: %q: we answer %s, Envoy %s", chain, fields, ours, theirs)
			}
		}
	}
}
