// Package call makes requests of our own through a [wire.Service], as a rule a
// cluster: to whom decides on a request (ext_authz), to whom a script calls, for
// keys, for traces. Such a request is an exchange as any other is, with the
// cluster's balancing, limits, TLS and outlier detection; its downstream is us.
//
// Everything is bounded: a response by MaxBody, a call by its timeout and its
// context. What is returned is a copy and may be kept.
package call

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// DefaultMaxBody is how much of a response's body is taken, in bytes.
	DefaultMaxBody = 1 << 20
	// firstRead is what a body of unknown length is first given room for.
	firstRead = 2 << 10
)

// ErrTooLarge is why a call fails whose response has a larger body than MaxBody.
var ErrTooLarge = errors.New("the body of the response is too large")

// Find returns the cluster of that name, nil if there is none. It is how a filter
// is given clusters: a name is looked up for each call, so that clusters may come
// and go.
type Find func(cluster string) wire.Service

// Request is one request of our own.
type Request struct {
	// Method, "" for GET; Scheme, "" for "http"; Authority is the Host field. Path
	// is that with its query, "" for "/".
	Method, Scheme, Authority, Path string
	// Header are further fields. It belongs to the call until that returns.
	Header wire.Header
	// Body may be nil. It is not copied.
	Body []byte
	// MaxBody bounds the response's body, in bytes; 0 means DefaultMaxBody,
	// negative that none is wanted: what there is of it is dropped.
	MaxBody int
	// Timeout for the whole call, to the last byte of the response; 0 means none
	// but the context's. Only what is still to come when it is over is lost: the
	// call has failed then.
	Timeout time.Duration
	// GRPC says that the request is one of gRPC, so that the cluster judges its
	// response as such.
	GRPC bool
	// Peer is whom the call is made for: the cluster's hash and the header of the
	// PROXY protocol go by it. Nil is nobody.
	Peer *wire.Peer
}

// Response is a whole response. It is the caller's own.
type Response struct {
	Status int
	Header wire.Header
	// Body is nil if there was none.
	Body    []byte
	Trailer wire.Header
}

// Do makes a request and waits for the whole response, whatever its status. An
// error means that there is none; it is a [wire.Fault] or wraps ErrTooLarge or,
// if ctx has ended, the context's cause. A nil service, of a cluster that is not
// known, is an error. It is safe for concurrent use.
func Do(ctx context.Context, to wire.Service, r Request) (*Response, error) {
	if to == nil {
		return nil, &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Err: ErrNoCluster}
	}
	if err := context.Cause(ctx); err != nil {
		return nil, wire.Aborted(err)
	}
	now := time.Now()
	x := &wire.Exchange{}
	peer := r.Peer
	if peer == nil {
		peer = &wire.Peer{}
	}
	x.Reset(nil, peer, now)
	x.GRPC = r.GRPC
	if r.Timeout > 0 {
		x.Deadline = now.Add(r.Timeout)
	}
	if end, ok := ctx.Deadline(); ok && (x.Deadline.IsZero() || end.Before(x.Deadline)) {
		x.Deadline = end
	}
	defer context.AfterFunc(ctx, func() { x.Abort(context.Cause(ctx)) })()
	defer func() { x.Done(time.Now()) }()
	req := r.head()
	x.Method, x.Authority, x.Path = req.Method, req.Authority, req.Path
	resp, err := to.Serve(x, req)
	if err == nil {
		var whole *Response
		if whole, err = take(resp, r.MaxBody); err == nil {
			x.Status, x.HeadSent = resp.Status, time.Now()
			return whole, nil
		}
	}
	x.Err, x.Flag = err, wire.AsFault(err).Flag
	return nil, err
}

// ErrNoCluster is of a call to a cluster that is not there, or not yet.
var ErrNoCluster = errors.New("the cluster of the call is not known")

// head is the request as the service sees it.
func (r *Request) head() *wire.Request {
	req := &wire.Request{
		Method: r.Method, Scheme: r.Scheme, Authority: r.Authority, Path: r.Path,
		Proto: 1, Minor: 1, Header: r.Header, ContentLength: int64(len(r.Body)),
	}
	if req.Method == "" {
		req.Method = http.MethodGet
	}
	if req.Scheme == "" {
		req.Scheme = "http"
	}
	if req.Path == "" {
		req.Path = "/"
	}
	if r.GRPC {
		req.Proto, req.Minor = 2, 0
	}
	if len(r.Body) > 0 {
		req.Body = wire.NewBytes(r.Body)
	}
	return req
}

// take reads resp to its end, or closes it.
func take(resp *wire.Response, limit int) (*Response, error) {
	whole := &Response{Status: resp.Status, Header: resp.Header.Clone()}
	if resp.Body == nil {
		return whole, nil
	}
	defer resp.Body.Close()
	if limit < 0 {
		return whole, nil
	}
	if limit == 0 {
		limit = DefaultMaxBody
	}
	if resp.ContentLength > int64(limit) {
		return nil, tooLarge()
	}
	room := resp.ContentLength
	if room < 0 {
		room = min(firstRead, int64(limit))
	}
	body := make([]byte, 0, room+1) // one more, to see the end
	for {
		n, err := resp.Body.Read(body[len(body):cap(body)])
		if body = body[:len(body)+n]; len(body) > limit {
			return nil, tooLarge()
		}
		switch {
		case errors.Is(err, io.EOF):
			whole.Body = body
			if t := resp.Body.Trailer(); t.Len() > 0 {
				whole.Trailer = t.Clone()
			}
			return whole, nil
		case err != nil:
			return nil, err
		case len(body) == cap(body):
			body = append(body, 0)[:len(body)]
		}
	}
}

// tooLarge is ErrTooLarge as a fault.
func tooLarge() error {
	return &wire.Fault{
		Status: http.StatusBadGateway, Flag: wire.FlagUpstreamOverflow, Text: "upstream response too large", Err: ErrTooLarge,
	}
}
