package wire

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
)

// Flag says why an exchange did not go as it should. Names are Envoy's response
// flags (access log operator RESPONSE_FLAGS), but for PLG, which is ours. The
// zero Flag means all went well.
type Flag uint8

// Response flags. FlagPlugin is for a plugin that did not answer, or not as it
// should.
const (
	FlagNone Flag = iota
	FlagNoRoute
	FlagNoCluster
	FlagNoHealthyUpstream
	FlagUpstreamConnect
	FlagUpstreamReset
	FlagUpstreamProtocol
	FlagUpstreamOverflow
	FlagUpstreamTimeout
	FlagRetryLimit
	FlagDownstreamReset
	FlagDownstreamProtocol
	FlagDenied
	FlagUnauthenticated
	FlagLimited
	FlagDraining
	FlagInternal
	FlagPlugin
	flagCount
)

// String returns Envoy's short name, "-" for FlagNone.
func (f Flag) String() string {
	names := [flagCount]string{
		"-", "NR", "NC", "UH", "UF", "UC", "UPE", "UO", "UT", "URX", "DC", "DPE", "UAEX", "UNA", "RL", "DR", "IE", "PLG",
	}
	if f >= flagCount {
		return "IE"
	}
	return names[f]
}

// Long returns Envoy's long name (RESPONSE_FLAGS_LONG), "-" for FlagNone.
func (f Flag) Long() string {
	names := [flagCount]string{
		"-", "NoRouteFound", "NoClusterFound", "NoHealthyUpstream", "UpstreamConnectionFailure", "UpstreamConnectionTermination",
		"UpstreamProtocolError", "UpstreamOverflow", "UpstreamRequestTimeout", "UpstreamRetryLimitExceeded",
		"DownstreamConnectionTermination", "DownstreamProtocolError", "UnauthorizedExternalService", "Unauthenticated", "RateLimited",
		"Draining", "InternalError", "Plugin",
	}
	if f >= flagCount {
		return "InternalError"
	}
	return names[f]
}

// Repeat says whether a failed try may be made once more.
type Repeat uint8

const (
	// RepeatNever says that an answer has begun, or the failure would be the same again.
	RepeatNever Repeat = iota
	// RepeatIdempotent says that bytes of the request have left and no answer came, so
	// only an idempotent request may be repeated (RFC 9110 section 9.2.2).
	RepeatIdempotent
	// RepeatAny says that no byte of the request has left.
	RepeatAny
)

// Fault is an error that knows which response it makes. Layers return one to
// answer a request themselves.
type Fault struct { //nolint:errname // it is what an exchange ends with, and reads as a noun everywhere
	// Status of the response; 0 means 500.
	Status int
	// Flag for log and metrics.
	Flag Flag
	// Repeat is set by upstream codecs and pools.
	Repeat Repeat
	// Text is the body shown to the client, without a newline; "" means the
	// status text. It must not tell what is private to the operator.
	Text string
	// Details are those of the exchange; "" if there is nothing to tell.
	Details string
	// Header is added to the response, for example WWW-Authenticate. A
	// content-type says what Text is; without one it is plain text.
	Header []Field
	// GRPCStatus is the status for a call of gRPC; 0 means what follows from Status.
	GRPCStatus int
	// Close asks for the downstream connection to be closed afterwards.
	Close bool
	// Err is the cause, for log and errors.Is; may be nil.
	Err error
}

// Error tells the cause, or the text if there is none.
func (f *Fault) Error() string {
	switch {
	case f.Err != nil && f.Text != "":
		return f.Text + ": " + f.Err.Error()
	case f.Err != nil:
		return f.Err.Error()
	case f.Text != "":
		return f.Text
	default:
		return http.StatusText(f.status())
	}
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

func (f *Fault) status() int {
	if f.Status == 0 {
		return http.StatusInternalServerError
	}
	return f.Status
}

// AsFault finds the fault in err; any other error becomes one: a 504 for a
// deadline, else a 500 that does not show the error to the client.
func AsFault(err error) *Fault {
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return fault
	case errors.Is(err, context.DeadlineExceeded):
		return &Fault{Status: http.StatusGatewayTimeout, Flag: FlagUpstreamTimeout, Text: "upstream request timeout", Err: err}
	default:
		return &Fault{Status: http.StatusInternalServerError, Flag: FlagInternal, Err: err}
	}
}

// statusClientGone is for the log only: nobody is left to see it (nginx's code).
const statusClientGone = 499

// Aborted is the fault of an exchange that was aborted for reason.
func Aborted(reason error) *Fault {
	if errors.Is(reason, ErrClientGone) {
		return &Fault{Status: statusClientGone, Flag: FlagDownstreamReset, Err: reason}
	}
	fault := *AsFault(reason)
	fault.Repeat = RepeatNever
	return &fault
}

// Reply is the one place where an error becomes a response. It notes flag and
// error on the exchange, where access log and metrics find them.
func Reply(x *Exchange, err error) *Response {
	fault := AsFault(err)
	x.Flag = fault.Flag
	x.Err = err
	if fault.Details != "" {
		x.Details = fault.Details
	}
	text := fault.Text
	if text == "" {
		text = http.StatusText(fault.status())
	}
	resp := Text(fault.status(), text+"\n")
	if x.GRPC {
		resp = grpcReply(x.GRPCType, cmp.Or(fault.GRPCStatus, GRPCStatus(fault.status())), text)
	}
	for _, f := range fault.Header {
		switch {
		case f.Name != "content-type":
			resp.Header.Add(f.Name, f.Value)
		case !x.GRPC: // which has no text
			resp.Header.Set(f.Name, f.Value)
		}
	}
	if fault.Close {
		x.CloseDownstream = true
	}
	return resp
}

// Text makes a small plain-text response.
func Text(status int, text string) *Response {
	resp := &Response{Status: status, ContentLength: int64(len(text)), Body: NewBytes([]byte(text))}
	resp.Header.Add("content-type", "text/plain; charset=utf-8")
	return resp
}

// bytesBody is a body that is wholly in memory.
type bytesBody struct {
	rest []byte
}

// NewBytes returns a body that reads data; it does not copy it.
func NewBytes(data []byte) Body { return &bytesBody{rest: data} }

func (b *bytesBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *bytesBody) Trailer() *Header { return nil }
func (b *bytesBody) Buffered() bool   { return true }
func (b *bytesBody) Close() error     { b.rest = nil; return nil }
