package wire

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
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
	FlagStreamIdle
	FlagDuration
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
		"-", "NR", "NC", "UH", "UF", "UC", "UPE", "UO", "UT", "SI", "DT", "URX", "DC", "DPE", "UAEX", "UNA", "RL", "DR", "IE", "PLG",
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
		"UpstreamProtocolError", "UpstreamOverflow", "UpstreamRequestTimeout", "StreamIdleTimeout", "DurationTimeout", "UpstreamRetryLimitExceeded",
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

// TimeOut makes a fault tell that the upstream was too slow: it has not kept the
// deadline of the exchange, or has let it pause for too long.
func (f *Fault) TimeOut(x *Exchange) {
	f.Status, f.Flag, f.Text = http.StatusGatewayTimeout, FlagUpstreamTimeout, "upstream request timeout"
	if x.IdleTimeout > 0 && (x.Deadline.IsZero() || time.Now().Before(x.Deadline)) {
		f.Flag, f.Text = FlagStreamIdle, "stream timeout"
	}
}

// Aborted is the fault of an exchange that was aborted for reason.
func Aborted(reason error) *Fault {
	if errors.Is(reason, ErrClientGone) {
		return &Fault{Status: statusClientGone, Flag: FlagDownstreamReset, Err: reason}
	}
	fault := *AsFault(reason)
	fault.Repeat = RepeatNever
	return &fault
}

// BrokeOff is the fault of a response body that ended with err; a fault is its own.
func BrokeOff(err error) *Fault {
	if fault, ok := errors.AsType[*Fault](err); ok {
		return fault
	}
	return &Fault{Status: http.StatusBadGateway, Flag: FlagUpstreamReset, Text: "upstream response broke off", Err: err}
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
	if fault.Close {
		x.CloseDownstream = true
	}
	l := local{status: fault.status(), text: fault.Text, end: "\n", call: fault.GRPCStatus, modify: func(h *Header) { h.Replace(fault.Header) }}
	if l.text == "" {
		l.text = http.StatusText(l.status)
	}
	return l.answer(x)
}

// Finalizer has a say in answers of our own: it puts into the head what the route of
// the request wants there.
type Finalizer interface {
	Finalize(x *Exchange, resp *Response)
}

// Rewriter has the last word on how answers of our own look.
type Rewriter interface {
	// Rewrite changes status and head of an answer that is to say text. If ok, it says
	// body instead, whose content type is kind; "" leaves what the head says of that.
	Rewrite(x *Exchange, resp *Response, text string) (body, kind string, ok bool)
}

// Answer makes a response of our own, a local reply as Envoy calls it. modify, which
// may be nil, changes what the route has put into the head; a body has a content type,
// plain text unless that says so. The Rewriter of x comes last. A call of gRPC is
// answered in its own terms, the body being its message.
func Answer(x *Exchange, status int, body string, modify func(h *Header)) *Response {
	return (&local{status: status, text: body, modify: modify}).answer(x)
}

// local is an answer of our own in the making.
type local struct {
	status int
	// text is what it says, which ends with end unless it is told in the terms of gRPC.
	text, end string
	// call is the status for a call of gRPC; 0 means what follows from status.
	call   int
	modify func(h *Header) // may be nil
}

func (l *local) answer(x *Exchange) *Response {
	resp := &Response{Status: l.status}
	if x.Finalizer != nil {
		x.Finalizer.Finalize(x, resp)
	}
	if l.modify != nil {
		l.modify(&resp.Header)
	}
	text, end := l.text, l.end
	if x.Rewriter != nil {
		if body, kind, ok := x.Rewriter.Rewrite(x, resp, text); ok {
			if text, end = body, ""; kind != "" {
				resp.Header.Set("content-type", kind)
			}
		}
	}
	bare := x.Method == http.MethodHead
	switch {
	case x.GRPC && bare:
		resp.grpc(x.GRPCType, l.call, "")
	case x.GRPC:
		resp.grpc(x.GRPCType, l.call, text)
	case text+end == "":
		resp.Header.Del("content-type")
	default:
		resp.text(text+end, bare)
	}
	return resp
}

// Text makes a small plain-text response.
func Text(status int, text string) *Response {
	resp := &Response{Status: status}
	if text != "" {
		resp.text(text, false)
	}
	return resp
}

// text gives a response a body, plain text unless its head says what it is; bare says
// that its request wants none.
func (r *Response) text(body string, bare bool) {
	if !r.Header.Has("content-type") {
		r.Header.Add("content-type", "text/plain")
	}
	r.ContentLength = int64(len(body))
	if !bare {
		r.Body = NewBytes([]byte(body))
	}
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
