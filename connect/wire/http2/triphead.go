package http2

import (
	"cmp"
	"net/http"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// checkRequest tells whether a request can be written.
func checkRequest(req *wire.Request) error {
	if !grammar.IsToken(req.Method) || req.Method != http.MethodConnect && !grammar.IsVisible(req.Path) ||
		req.Authority != "" && !grammar.IsVisible(req.Authority) || req.Upgrade != "" && !grammar.IsToken(req.Upgrade) ||
		req.Body == nil && req.ContentLength > 0 {
		return errBadRequest
	}
	return checkFields(&req.Header)
}

// writeRequest appends the head. The lock is held.
func (t *trip) writeRequest(ended bool) {
	l := t.l
	start := l.beginHead(t.id, ended)
	l.out = t.appendHead(l.enc.begin(l.out), ended)
	l.endHead(start)
	if ended {
		t.localEnd()
	}
}

// appendHead writes the header block of the request.
func (t *trip) appendHead(b []byte, ended bool) []byte {
	enc, req := t.l.enc, t.req
	b = t.appendPseudo(b)
	for i := range req.Header.Len() {
		f := req.Header.At(i)
		switch {
		case grammar.Own(f.Name), f.Name == "te" && f.Value != "trailers", f.Name == keyField && req.Upgrade == websocket:
		case f.Name == "expect" && req.ExpectContinue:
		default:
			b = enc.field(b, f.Name, f.Value)
		}
	}
	if req.ContentLength > 0 || ended && expectsBody(req.Method) && req.Upgrade == "" {
		b = enc.field(b, "content-length", enc.decimal(max(0, req.ContentLength)))
	}
	if t.expecting {
		b = enc.field(b, "expect", "100-continue")
	}
	return b
}

// appendPseudo writes the pseudo-headers (RFC 9113 section 8.3.1, RFC 8441).
func (t *trip) appendPseudo(b []byte) []byte {
	enc, req := t.l.enc, t.req
	method, plain := req.Method, req.Method == http.MethodConnect
	if req.Upgrade != "" {
		method = http.MethodConnect
	}
	b = enc.field(b, ":method", method)
	if !plain {
		b = enc.field(b, ":scheme", cmp.Or(req.Scheme, "http"))
		b = enc.field(b, ":path", req.Path)
	}
	if req.Authority != "" {
		b = enc.field(b, ":authority", req.Authority)
	}
	if req.Upgrade != "" {
		b = enc.field(b, ":protocol", req.Upgrade)
	}
	return b
}

// sendHead implements sending: the head left when the stream was opened.
func (t *trip) sendHead() error { return nil }

// expectsBody tells whether a request of that method says so if it has no body
// (RFC 9110 section 8.6).
func expectsBody(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}
