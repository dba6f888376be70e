package stack

import (
	"cmp"
	"encoding/binary"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxBridged is how large a message may be that the bridge has to hold.
	maxBridged = 1 << 20
	// grpcPrefix is what stands in front of each message: a byte that says whether
	// it is compressed, and its length.
	grpcPrefix   = 5
	protobufType = "application/x-protobuf"
)

// GRPCBridge lets clients that do not read trailers call gRPC, as Envoy's filter
// grpc_http1_bridge: an answer to HTTP/1.1 is held until it is whole, its grpc-status
// and grpc-message go into the head, and a status other than 0 makes it a 503. An
// answer that is all head has them there, and stays as it is. It is of use for unary
// calls only, with answers of up to 1 MiB.
func GRPCBridge(config mesh.GRPCBridge) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			framed := config.UpgradeProtobuf && isProtobuf(&req.Header)
			// With GRPCType, a filter before us answers for this client in its own way.
			bridged := req.Proto < 2 && x.GRPCType == "" && wire.IsGRPC(&req.Header)
			if req.Raw() || !framed && !bridged {
				return next.Serve(x, req)
			}
			if config.IgnoreQuery {
				req.Path = req.PathOnly()
			}
			if framed {
				if err := frameRequest(x, req); err != nil {
					return nil, bridgeFault(err)
				}
			}
			req.Header.Set("te", "trailers")
			resp, err := next.Serve(x, req)
			// What we answer ourselves is told all of it in the head, so that there is
			// nothing to be bridged.
			if bridged && !framed && (err != nil || resp.Body == nil) {
				return resp, err
			}
			if err == nil && wire.IsGRPC(&resp.Header) {
				err = bridgeAnswer(resp, framed)
			}
			if err != nil {
				return nil, bridgeFault(err)
			}
			return resp, nil
		})
	}
}

func isProtobuf(h *wire.Header) bool {
	kind, _, _ := strings.Cut(h.Get("content-type"), ";")
	return strings.EqualFold(strings.TrimSpace(kind), protobufType)
}

// frameRequest puts the prefix of gRPC in front of a request's body.
func frameRequest(x *wire.Exchange, req *wire.Request) error {
	length := req.ContentLength
	if length < 0 {
		message, err := readRequest(x, req.Body)
		if err != nil {
			if errors.Is(err, wire.ErrTooLarge) {
				return &wire.Fault{Status: http.StatusRequestEntityTooLarge, Flag: wire.FlagDownstreamProtocol, Text: "request too large for the gRPC bridge"}
			}
			return err
		}
		req.Body, length = wire.NewBytes(message), int64(len(message))
	}
	if length > 1<<32-1 {
		return &wire.Fault{Status: http.StatusRequestEntityTooLarge, Flag: wire.FlagDownstreamProtocol, Text: "request too large for gRPC"}
	}
	prefix := make([]byte, grpcPrefix)
	binary.BigEndian.PutUint32(prefix[1:], uint32(length))
	if req.Body == nil {
		req.Body = wire.NewBytes(nil)
	}
	req.Body = &prefixed{Body: req.Body, prefix: prefix}
	req.ContentLength = length + grpcPrefix
	req.Header.Set("content-type", grpcType)
	return nil
}

// prefixed is a body with bytes in front.
type prefixed struct {
	wire.Body
	prefix []byte
}

func (b *prefixed) Read(p []byte) (int, error) {
	if len(b.prefix) > 0 {
		n := copy(p, b.prefix)
		b.prefix = b.prefix[n:]
		return n, nil
	}
	return b.Body.Read(p)
}

// Buffered implements [wire.Buffered].
func (b *prefixed) Buffered() bool { return wire.BodyBuffered(b.Body) }

// AtHand tells whether the next Read will not wait.
func (b *prefixed) AtHand() bool { return len(b.prefix) > 0 || wire.BodyAtHand(b.Body) }

// readRequest reads a request's body, as long as the exchange lives.
func readRequest(x *wire.Exchange, body wire.Body) ([]byte, error) {
	if err := x.OnAbort(closing{body}); err != nil {
		return nil, wire.Aborted(err)
	}
	defer x.OnAbort(nil) //nolint:errcheck // taken back, whatever happened meanwhile
	return wire.ReadAll(body, maxBridged)
}

// closing ends the read of a body, which may take a moment.
type closing struct{ body wire.Body }

func (c closing) Cancel() { go c.body.Close() }

// bridgeAnswer makes an answer of gRPC one that tells all in its head.
func bridgeAnswer(resp *wire.Response, framed bool) error {
	message, err := wire.ReadAll(resp.Body, maxBridged)
	if err == nil && framed && len(message) > 0 {
		message, err = unframe(message)
	}
	var trailer *wire.Header
	if resp.Body != nil {
		if err != nil {
			resp.Body.Close()
			if errors.Is(err, wire.ErrTooLarge) {
				return &wire.Fault{Status: http.StatusInternalServerError, Flag: wire.FlagUpstreamProtocol, Text: "response too large for the gRPC bridge", Err: err}
			}
			return err
		}
		trailer = resp.Body.Trailer()
	}
	for _, name := range []string{"grpc-status", "grpc-message"} {
		if value, ok := trailer.Lookup(name); ok {
			resp.Header.Set(name, value)
		}
	}
	if status, ok := resp.Header.Lookup("grpc-status"); ok && status != "0" {
		resp.Status = http.StatusServiceUnavailable
	}
	if framed {
		resp.Header.Set("content-type", protobufType)
	}
	resp.Header.Del("trailer")
	resp.ContentLength = int64(len(message))
	resp.Body = wire.NewBytes(message)
	return nil
}

// unframe cuts the prefix off the one message of an answer.
func unframe(message []byte) ([]byte, error) {
	if len(message) < grpcPrefix || message[0] != 0 || int(binary.BigEndian.Uint32(message[1:])) != len(message)-grpcPrefix {
		return nil, &wire.Fault{
			Status: http.StatusBadGateway, Flag: wire.FlagUpstreamProtocol, Text: "upstream did not answer with one plain gRPC message",
		}
	}
	return message[grpcPrefix:], nil
}

// bridgeFault tells an error also as gRPC would.
func bridgeFault(err error) error {
	fault := *wire.AsFault(err)
	text := fault.Text
	status := fault.Status
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if text == "" {
		text = http.StatusText(status)
	}
	fault.Header = append(append([]wire.Field(nil), fault.Header...),
		wire.Field{Name: "grpc-status", Value: strconv.Itoa(cmp.Or(fault.GRPCStatus, wire.GRPCStatus(status)))},
		wire.Field{Name: "grpc-message", Value: wire.GRPCMessage(text)})
	fault.Err = err
	return &fault
}
