package call

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// MaxMessage is the largest message of gRPC that is taken, in bytes, as by most
// libraries.
const MaxMessage = 4 << 20

// frameHead is what stands before a message: whether it is compressed, and its
// length (grpc/doc/PROTOCOL-HTTP2.md).
const frameHead = 5

// Codes of gRPC that a caller may ask for (grpc/doc/statuscodes.md).
const (
	CodeOK       = 0
	CodeUnknown  = 2
	CodeDeadline = 4
	CodeInternal = 13
)

// maxCode is the largest code of gRPC.
const maxCode = 16

// StatusError is a call of gRPC that was answered, but not with OK.
type StatusError struct {
	// Code is the status of gRPC; of a response that is none of gRPC, what its
	// status of HTTP stands for.
	Code int
	// Message is grpc-message, decoded; it comes from the other side.
	Message string
}

// Error tells code and message.
func (e *StatusError) Error() string {
	return fmt.Sprintf("grpc status %d: %s", e.Code, e.Message)
}

// Unary makes a call of gRPC with one message each way, through a cluster of
// HTTP/2; path is "/package.Service/Method". metadata are further fields. The
// time that ctx leaves is told to the server. The error is a *[StatusError] if
// there was an answer, else as of [Do].
func Unary(
	ctx context.Context, to wire.Service, authority, path string, metadata []wire.Field, message []byte,
) ([]byte, error) {
	r := Request{
		Method: http.MethodPost, Authority: authority, Path: path, GRPC: true, MaxBody: MaxMessage + frameHead,
		Body: frame(message),
	}
	r.Header.Add("te", "trailers")
	if end, ok := ctx.Deadline(); ok {
		r.Header.Add("grpc-timeout", timeout(time.Until(end)))
	}
	r.Header.Add("content-type", "application/grpc")
	for _, f := range metadata {
		r.Header.Add(f.Name, f.Value)
	}
	resp, err := Do(ctx, to, r)
	if err != nil {
		return nil, err
	}
	if err := status(resp); err != nil {
		return nil, err
	}
	return unframe(resp.Body)
}

// frame is message as it is sent.
func frame(message []byte) []byte {
	b := make([]byte, frameHead, frameHead+len(message))
	binary.BigEndian.PutUint32(b[1:], uint32(len(message))) //nolint:gosec // ours, and never that large
	return append(b, message...)
}

// unframe is the one message of a body.
func unframe(body []byte) ([]byte, error) {
	switch {
	case len(body) < frameHead:
		return nil, &StatusError{Code: CodeInternal, Message: "the response has no message"}
	case body[0] != 0:
		return nil, &StatusError{Code: CodeInternal, Message: "the response is compressed, which nobody asked for"}
	case int64(binary.BigEndian.Uint32(body[1:])) != int64(len(body)-frameHead):
		return nil, &StatusError{Code: CodeInternal, Message: "the response is not one whole message"}
	}
	return body[frameHead:], nil
}

// status is why a response is not OK. Without a body the status stands in the
// head, else in the trailers.
func status(resp *Response) error {
	where := &resp.Trailer
	code, ok := where.Lookup("grpc-status")
	if !ok {
		where = &resp.Header
		code, ok = where.Lookup("grpc-status")
	}
	switch {
	case !ok && resp.Status != http.StatusOK:
		return &StatusError{Code: wire.GRPCStatus(resp.Status), Message: "HTTP status " + strconv.Itoa(resp.Status)}
	case !ok:
		return &StatusError{Code: CodeInternal, Message: "the response has no grpc-status"}
	}
	n, err := strconv.ParseUint(code, 10, 8)
	if err != nil || n > maxCode {
		return &StatusError{Code: CodeUnknown, Message: "grpc-status " + strconv.Quote(code)}
	}
	if n == CodeOK {
		return nil
	}
	return &StatusError{Code: int(n), Message: decode(where.Get("grpc-message"))}
}

// decode undoes [wire.GRPCMessage]; what was not encoded well stays as it is.
func decode(message string) string {
	if plain, err := url.PathUnescape(message); err == nil {
		return plain
	}
	return message
}

// timeout is d as the value of grpc-timeout, which has at most eight digits.
func timeout(d time.Duration) string {
	const most = 99999999
	switch {
	case d <= 0:
		return "0n"
	case d <= most*time.Microsecond:
		return strconv.FormatInt(max(1, d.Microseconds()), 10) + "u"
	case d <= most*time.Millisecond:
		return strconv.FormatInt(d.Milliseconds(), 10) + "m"
	default:
		return strconv.FormatInt(min(most, int64(d/time.Second)), 10) + "S"
	}
}
