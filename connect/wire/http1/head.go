package http1

import (
	"net/http"
	"strconv"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// fieldsSize is how many bytes the fields of h take at most.
func fieldsSize(h *wire.Header) int {
	size := 0
	for i := range h.Len() {
		field := h.At(i)
		size += len(field.Name) + len(field.Value) + len(": \r\n")
	}
	return size
}

// appendField writes one field, or refuses it.
func appendField(b []byte, name, value string) ([]byte, error) {
	if !grammar.IsName(name) || !grammar.IsValue(grammar.Bytes(value)) {
		return b, errBadField
	}
	b = append(b, name...)
	b = append(b, ": "...)
	b = append(b, value...)
	return append(b, "\r\n"...), nil
}

// requestHead says how a request is written.
type requestHead struct {
	frame frame // of its body: frameNone, frameLength or frameChunked
	// size is how many bytes the head takes at most.
	size int
}

func planRequest(req *wire.Request) (requestHead, error) {
	h := requestHead{size: fieldsSize(&req.Header) + len(req.Method) + len(req.Path) + len(req.Authority) + len(req.Upgrade) + 256}
	switch {
	case req.Upgrade != "" || req.Method == http.MethodConnect || req.Body == nil && req.ContentLength <= 0:
	case req.Body == nil:
		return h, errBadRequest
	case req.ContentLength > 0:
		h.frame = frameLength
	case req.ContentLength < 0:
		h.frame = frameChunked
	}
	return h, nil
}

// appendRequest writes the head of req to b, which has room for it.
func (h requestHead) appendRequest(b []byte, req *wire.Request) (_ []byte, err error) {
	target := req.Path
	if req.Method == http.MethodConnect {
		target = req.Authority
	}
	if !grammar.IsToken(req.Method) || !grammar.IsVisible(target) || req.Authority != "" && !grammar.IsVisible(req.Authority) {
		return b, errBadRequest
	}
	b = append(b, req.Method...)
	b = append(b, ' ')
	b = append(b, target...)
	b = append(b, " HTTP/1.1\r\nhost: "...)
	b = append(b, req.Authority...)
	b = append(b, "\r\n"...)
	te := false
	for i := range req.Header.Len() {
		field := req.Header.At(i)
		switch {
		case grammar.Own(field.Name):
			continue
		case field.Name == "te":
			te = true
		case field.Name == "expect" && req.ExpectContinue:
			continue
		}
		if b, err = appendField(b, field.Name, field.Value); err != nil {
			return b, err
		}
	}
	switch h.frame {
	case frameLength:
		b = appendLength(b, req.ContentLength)
	case frameChunked:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	default:
		if expectsBody(req.Method) && req.Upgrade == "" {
			b = appendLength(b, 0)
		}
	}
	if req.ExpectContinue && h.frame != frameNone {
		b = append(b, "expect: 100-continue\r\n"...)
	}
	switch {
	case req.Upgrade != "" && te:
		b = append(b, "connection: upgrade, te\r\n"...)
	case req.Upgrade != "":
		b = append(b, "connection: upgrade\r\n"...)
	case te:
		b = append(b, "connection: te\r\n"...)
	}
	if req.Upgrade != "" {
		if b, err = appendField(b, "upgrade", req.Upgrade); err != nil {
			return b, err
		}
	}
	return append(b, "\r\n"...), nil
}

// expectsBody tells whether a request of that method says so if it has no body
// (RFC 9110 section 8.6).
func expectsBody(method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	}
	return false
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "content-length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

// appendStatus writes a status line.
func appendStatus(b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, "HTTP/1.1 200 OK\r\n"...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, http.StatusText(status)...)
	return append(b, "\r\n"...)
}

// responseHead says how a response is written.
type responseHead struct {
	status  int
	header  *wire.Header
	frame   frame
	length  int64 // Content-Length, negative for none
	upgrade string
	// connection is the value of Connection, "" for none.
	connection string
	date       string // for Date, if the header has none
}

// size is how many bytes the head takes at most.
func (h *responseHead) size() int { return fieldsSize(h.header) + len(h.upgrade) + 256 }

// appendTo writes the head to b, which has room for it.
func (h *responseHead) appendTo(b []byte) (_ []byte, err error) {
	b = appendStatus(b, h.status)
	date := h.date == ""
	for i := range h.header.Len() {
		field := h.header.At(i)
		switch {
		case grammar.Own(field.Name):
			continue
		case field.Name == "date":
			date = true
		}
		if b, err = appendField(b, field.Name, field.Value); err != nil {
			return b, err
		}
	}
	if !date {
		b = append(b, "date: "...)
		b = append(b, h.date...)
		b = append(b, "\r\n"...)
	}
	switch {
	case h.frame == frameChunked:
		b = append(b, "transfer-encoding: chunked\r\n"...)
	case h.length >= 0:
		b = appendLength(b, h.length)
	}
	if h.connection != "" {
		b = append(b, "connection: "...)
		b = append(b, h.connection...)
		b = append(b, "\r\n"...)
	}
	if h.upgrade != "" {
		if b, err = appendField(b, "upgrade", h.upgrade); err != nil {
			return b, err
		}
	}
	return append(b, "\r\n"...), nil
}
