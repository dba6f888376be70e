package wire

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
)

// IsGRPC tells whether the fields of a request are those of gRPC: as for Envoy, whose
// content type has a suffix, but no parameters.
func IsGRPC(h *Header) bool {
	kind, ok := strings.CutPrefix(h.Get("content-type"), "application/grpc")
	return ok && (kind == "" || kind[0] == '+')
}

// grpc makes a response one that a client of gRPC understands: always 200, and what
// went wrong in its trailers, which come with the head. Its content type is kind, ""
// for plain gRPC; its status is the head's, or else status, 0 for what follows from that
// of HTTP.
func (r *Response) grpc(kind string, status int, message string) {
	h := &r.Header
	h.Set("content-type", cmp.Or(kind, "application/grpc"))
	if h.Get("grpc-status") == "" {
		h.Set("grpc-status", strconv.Itoa(cmp.Or(status, GRPCStatus(r.Status))))
	}
	if message = strings.Trim(GRPCMessage(message), " "); message != "" {
		h.Set("grpc-message", message)
	}
	r.Status = http.StatusOK
}

// GRPCStatus maps a status of HTTP to one of gRPC, as gRPC says and Envoy does
// (grpc/doc/http-grpc-status-mapping.md).
func GRPCStatus(status int) int {
	const unknown, permissionDenied, unimplemented, internal, unavailable, unauthenticated = 2, 7, 12, 13, 14, 16
	switch status {
	case http.StatusBadRequest:
		return internal
	case http.StatusUnauthorized:
		return unauthenticated
	case http.StatusForbidden:
		return permissionDenied
	case http.StatusNotFound:
		return unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return unavailable
	}
	return unknown
}

// GRPCMessage is text as the value of grpc-message: what may not stand there is
// percent-encoded (grpc/doc/PROTOCOL-HTTP2.md).
func GRPCMessage(text string) string {
	const digits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			b.WriteByte('%')
			b.WriteByte(digits[c>>4])
			b.WriteByte(digits[c&15])
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}
