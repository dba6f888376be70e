package wire

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire/grammar"
)

// ErrClientGone is why an exchange is aborted when its client leaves.
var ErrClientGone = errors.New("the client closed its connection")

// ErrLasted is why an exchange is aborted that takes longer than any may.
var ErrLasted = errors.New("it has lasted for max_stream_duration")

// Control is what a downstream codec does for the exchange it drives.
type Control interface {
	// Interim sends a 1xx response.
	Interim(status int, header *Header) error
	// Watch begins to look for the client's abort, until the exchange ends.
	// It is called when an upstream makes us wait, at most once.
	Watch()
}

// Canceler is an upstream's side of an exchange that can be given up. Cancel
// must neither block nor call the exchange.
type Canceler interface {
	Cancel()
}

// End is told once that an exchange is over, after both bodies have ended or
// were aborted. It must not keep x.
type End interface {
	End(x *Exchange)
}

// Lender has lent an exchange memory, such as the buffer that the strings of a
// head point into. A codec registers it with [Exchange.Lend].
type Lender interface {
	// TakeBack is called once, after every End has run. If keep is true,
	// somebody may still look at the memory, which is left to the collector.
	TakeBack(keep bool)
}

// Exchange carries what is known of one request and its response. Layers fill
// it; access log, metrics and traces read it. Its fields belong to the
// goroutine that serves the exchange; Abort, Aborted, Watch and Context may be
// called from any.
type Exchange struct {
	// Peer is never nil.
	Peer *Peer
	// Names, "" until known.
	ID, Listener, Consumer, API, Route, Cluster string
	// Observed is what operators want Cluster to be called (alt_stat_name), "" for the
	// same.
	Observed string
	// RouteMetadata and ClusterMetadata are what the control plane says of the route and
	// of Cluster; nil for nothing.
	RouteMetadata, ClusterMetadata *Metadata
	// Counted is where the observer of exchanges finds what it counts of Route; nil
	// if it has to look for it by the names.
	Counted any
	// Start is when the request's first byte was seen, HeadSent when the
	// response's head was handed to the downstream connection.
	Start, HeadSent, Finish time.Time
	// HeadWait is how long the request's head took, from its first byte, because
	// the client was slow with it.
	HeadWait time.Duration
	// Deadline for the whole exchange; zero means none. Context keeps the one
	// that it found at its first call.
	Deadline time.Time
	// Timeout, if not 0, is what Deadline was made of: how long the upstream has
	// from the end of the request to the end of the response. As long as the
	// request's body is still being sent, a codec moves Deadline on by it.
	Timeout time.Duration
	// IdleTimeout is how long both bodies may pause, and how long the upstream may
	// take for its head once it has all of the request. Zero means what the codecs
	// are configured with, negative no limit. A tunnel may pause for as long.
	IdleTimeout time.Duration
	// GRPC says that the request is one of gRPC, so that an error is told in its
	// terms (see Reply). The codec sets it. GRPCType is the content type of such an
	// answer; "" means application/grpc.
	GRPC     bool
	GRPCType string
	// Method, Authority and Path are the request's own, for the log.
	Method, Authority, Path string
	// Status is the status sent downstream; 0 if none was.
	Status int
	// Flag and Err tell what went wrong.
	Flag Flag
	Err  error
	// BytesIn and BytesOut count body bytes from and to the client.
	BytesIn, BytesOut int64
	// CloseDownstream asks the codec to close the connection after this exchange.
	CloseDownstream bool
	// Cut says that a response broke off whose head had left, and not because of the
	// client.
	Cut bool
	// Request and Response are the heads as the downstream codec has them, for who
	// writes of the exchange at its end; nil for a connection without such, and
	// Response until there is one.
	Request  *Request
	Response *Response
	// Details say in one word who made the response, and why (Envoy's
	// RESPONSE_CODE_DETAILS); "" until known. Termination says why a connection was
	// ended by us (CONNECTION_TERMINATION_DETAILS).
	Details, Termination string
	// Tries are those that the route made: a connection that was gone when it was
	// taken from a pool makes no try. Exhausted says that there might have been more,
	// had the route allowed them.
	Tries     int
	Exhausted bool
	// TraceID is that of the trace that the exchange is a part of, in hexadecimal; ""
	// if it is not traced.
	TraceID string
	// TraceForced says that somebody has asked for this request to be traced, whatever
	// the share of those that are.
	TraceForced bool
	// HealthCheck says that a filter has seen that the request only asks whether we
	// are well: it is not traced, and logs may leave it out.
	HealthCheck bool
	// Rule is the route's own name, "" if it has none.
	Rule string
	// Remote is the client's address where a proxy before us has told of it; invalid
	// if it is the peer's.
	Remote netip.AddrPort
	// Attempts are the tries made upstream, the last one is the one that counts.
	Attempts []Attempt
	// Choice is how a cluster is to choose its endpoint.
	Choice Choice
	// Pinned is the route that a router has chosen ahead of time, since a layer is
	// about to change the request without a consequence for its route; nil if none.
	Pinned any
	// Finalizer and Rewriter have a say in answers of our own; nil if nobody has.
	Finalizer Finalizer
	Rewriter  Rewriter
	// Reached is how far in the chain of filters the request has come; only those that
	// have not seen it take part in an answer that was made in front of them.
	Reached int
	// Metadata is what filters have found out about the request.
	Metadata Metadata

	control Control
	// drawn is what Draw has drawn, with a bit above; 0 before.
	drawn   uint64
	ends    []End
	lenders []Lender

	// small is how much of small0 is in use.
	small int

	// inline memory for ID, for short strings (see Keep), and for the slices above, so that no exchange allocates it
	id0       [16]byte
	small0    [96]byte
	attempts0 [2]Attempt
	ends0     [8]End
	lenders0  [4]Lender

	mu sync.Mutex // guards:
	// watching says that Watch was called.
	watching bool
	// aborted is why; onAbort is the current upstream's way out.
	aborted error
	onAbort Canceler
	ctx     context.Context //nolint:containedctx // made on demand for libraries that want one
	cancel  context.CancelCauseFunc
}

// Choice is what a route asks of the choice of an endpoint. The zero Choice asks
// for nothing.
type Choice struct {
	// Hash is what consistent hashing goes by, if Hashed.
	Hash   uint64
	Hashed bool
	// AvoidHosts looks HostAttempts times (0 counts as 1) for an endpoint that was
	// not yet tried.
	AvoidHosts   bool
	HostAttempts int
	// AvoidPriorities leaves out priorities that were tried, which are looked up
	// anew after so many tries; 0 leaves out none.
	AvoidPriorities int
	// AutoHost makes the authority of the request the host name of the endpoint that
	// is chosen, if it has one. MatchScheme makes its scheme that of the connection.
	AutoHost, MatchScheme bool
	// AppendHost tells of the authority that it had then in x-forwarded-host (see
	// Request.TellHost), OriginalHost in x-envoy-original-host.
	AppendHost, OriginalHost bool
}

// Attempt is one try upstream.
type Attempt struct {
	Cluster, Endpoint string
	// HostName is the endpoint's, "" if it has none; Metadata is what the control
	// plane says of it, nil for nothing.
	HostName string
	Metadata *Metadata
	// Peer is the other end of the connection; nil if there was none. Failure is why
	// there is none, or why it broke; "" if neither.
	Peer    *Peer
	Failure string
	// Begin is when the endpoint was picked, Connected when a connection was at
	// hand, Head when the response's head was there. Zero if it did not come so far.
	Begin, Connected, Head time.Time
	// Uploaded is when all of the request's body had come from the client; zero
	// if it had before Connected, or had not by Head. End is when the try failed.
	Uploaded, End time.Time
	// Proto is the major version of HTTP that was spoken, 0 if none was.
	Proto int
	// Reused says that the connection came from the pool.
	Reused bool
	Status int
	Flag   Flag
}

// Reset makes x ready for a new exchange that control drives.
func (x *Exchange) Reset(control Control, peer *Peer, start time.Time) {
	x.mu.Lock()
	x.watching, x.aborted, x.onAbort, x.ctx, x.cancel = false, nil, nil, nil, nil
	x.mu.Unlock()
	x.Peer, x.control, x.Start = peer, control, start
	x.ID, x.Listener, x.Consumer, x.API, x.Route, x.Cluster = "", "", "", "", "", ""
	x.Counted, x.Observed, x.RouteMetadata, x.ClusterMetadata = nil, "", nil, nil
	x.HeadSent, x.Finish, x.Deadline = time.Time{}, time.Time{}, time.Time{}
	x.Timeout, x.IdleTimeout, x.HeadWait = 0, 0, 0
	x.Method, x.Authority, x.Path, x.GRPC, x.GRPCType = "", "", "", false, ""
	x.Status, x.Flag, x.Err = 0, FlagNone, nil
	x.BytesIn, x.BytesOut, x.CloseDownstream, x.Cut = 0, 0, false, false
	x.Choice, x.Pinned, x.Finalizer, x.Rewriter, x.Reached = Choice{}, nil, nil, nil, 0
	x.Metadata.Reset()
	x.Request, x.Response, x.Details, x.Termination, x.Rule = nil, nil, "", "", ""
	x.Remote, x.Tries, x.Exhausted, x.small, x.TraceID, x.TraceForced = netip.AddrPort{}, 0, false, 0, "", false
	x.HealthCheck, x.drawn = false, 0
	clear(x.attempts0[:])
	clear(x.ends0[:])
	clear(x.lenders0[:])
	x.Attempts, x.ends, x.lenders = x.attempts0[:0], x.ends0[:0], x.lenders0[:0]
}

// Client is the address of the client: Remote, or the peer's.
func (x *Exchange) Client() netip.AddrPort {
	if x.Remote.IsValid() {
		return x.Remote
	}
	return x.Peer.Addr
}

// Draw is a random number, always the same one of an exchange, by which routes take
// shares of requests: who draws again decides as before.
func (x *Exchange) Draw() uint32 {
	if x.drawn == 0 {
		x.drawn = 1<<32 | rand.Uint64()>>32 //nolint:gosec // a share is no secret
	}
	return uint32(x.drawn)
}

// Received is when the head of the request was whole.
func (x *Exchange) Received() time.Time { return x.Start.Add(x.HeadWait) }

// Pause is IdleTimeout, or otherwise if that is zero; 0 means no limit.
func (x *Exchange) Pause(otherwise time.Duration) time.Duration {
	if x.IdleTimeout == 0 {
		return otherwise
	}
	return max(0, x.IdleTimeout)
}

// NewID makes ID of n: 16 hexadecimal digits, which die with the exchange as the
// strings of a head do.
func (x *Exchange) NewID(n uint64) {
	const digits = "0123456789abcdef"
	for i := range x.id0 {
		x.id0[i] = digits[n&15]
		n >>= 4
	}
	x.ID = grammar.View(x.id0[:])
}

// Keep returns b as a string that dies with the exchange; it allocates only once
// those kept so far are longer than some hundred bytes.
func (x *Exchange) Keep(b []byte) string {
	if len(b) > len(x.small0)-x.small {
		return string(b)
	}
	kept := x.small0[x.small : x.small+copy(x.small0[x.small:], b)]
	x.small += len(kept)
	return grammar.View(kept)
}

// OnEnd registers e; ends run once, the last registered first.
func (x *Exchange) OnEnd(e End) { x.ends = append(x.ends, e) }

// Lend registers memory that a codec takes back when the exchange is over, so
// that ends may still read the heads. Safe where OnEnd is.
func (x *Exchange) Lend(l Lender) { x.lenders = append(x.lenders, l) }

// Done runs the registered ends, then gives lent memory back. Only the codec
// that drives the exchange calls it, once, after both bodies have ended. It
// reports whether x may be reused.
func (x *Exchange) Done(now time.Time) (reusable bool) {
	x.Finish = now
	for _, end := range slices.Backward(x.ends) {
		end.End(x)
	}
	x.mu.Lock()
	x.onAbort = nil
	cancel := x.cancel
	x.mu.Unlock()
	if cancel != nil {
		cancel(context.Canceled)
	}
	for _, l := range x.lenders {
		l.TakeBack(cancel != nil)
	}
	return cancel == nil
}

// Interim sends a 1xx response downstream.
func (x *Exchange) Interim(status int, header *Header) error {
	if x.control == nil {
		return nil
	}
	return x.control.Interim(status, header)
}

// Watch is called when the upstream makes us wait: from now on the client's
// abort is noticed and ends in Abort.
func (x *Exchange) Watch() {
	x.mu.Lock()
	first := !x.watching
	x.watching = true
	x.mu.Unlock()
	if first && x.control != nil {
		x.control.Watch()
	}
}

// NewAttempt begins one more try. The pointer is valid until the next one.
func (x *Exchange) NewAttempt(cluster string, now time.Time) *Attempt {
	x.Attempts = append(x.Attempts, Attempt{Cluster: cluster, Begin: now})
	return &x.Attempts[len(x.Attempts)-1]
}

// Abort ends the exchange early: it cancels the context and calls what OnAbort
// was given. A nil reason is context.Canceled. Later calls do nothing. Safe for
// concurrent use.
func (x *Exchange) Abort(reason error) {
	if reason == nil {
		reason = context.Canceled
	}
	x.mu.Lock()
	if x.aborted != nil {
		x.mu.Unlock()
		return
	}
	x.aborted = reason
	cancel := x.cancel
	if x.onAbort != nil {
		x.onAbort.Cancel()
		x.onAbort = nil
	}
	x.mu.Unlock()
	if cancel != nil {
		cancel(reason)
	}
}

// Gone tells whether the client has left, so that nobody will see a response.
func (x *Exchange) Gone() bool { return errors.Is(x.Aborted(), ErrClientGone) }

// Aborted returns why the exchange was aborted, nil while it goes on.
func (x *Exchange) Aborted() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.aborted
}

// OnAbort sets what Abort cancels; nil takes it back, and once it is taken back
// it is not being called either. If the exchange is already aborted, OnAbort
// returns the reason and c is not kept. There is one place: an exchange has one
// upstream at a time.
func (x *Exchange) OnAbort(c Canceler) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.aborted != nil {
		return x.aborted
	}
	x.onAbort = c
	return nil
}

// Context returns a context that ends with the exchange or its deadline, for
// libraries that want one. It is made at the first call, which allocates.
func (x *Exchange) Context() context.Context {
	x.Watch()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.ctx == nil {
		x.ctx, x.cancel = context.WithCancelCause(context.Background())
		if x.aborted != nil {
			x.cancel(x.aborted)
		}
		if !x.Deadline.IsZero() {
			var stop context.CancelFunc
			cancel := x.cancel
			x.ctx, stop = context.WithDeadline(x.ctx, x.Deadline)
			x.cancel = func(cause error) { cancel(cause); stop() }
		}
	}
	return x.ctx
}

// Upstream is the time that was spent waiting for upstreams: from the pick of
// an endpoint to the head of its response, over all tries. Not in it is the time
// in which the request's body was still to come, which is the client's.
// InProxy is the rest of the time until the response's head was sent, or, if none
// was, until the end; pauses between tries are in it, waiting for the client and
// sending the response's body are not.
func (x *Exchange) Upstream() (upstream, inProxy time.Duration) {
	last := x.HeadSent
	if last.IsZero() {
		last = x.Finish
	}
	client := x.HeadWait
	for i := range x.Attempts {
		a := &x.Attempts[i]
		end := a.Head
		if end.IsZero() {
			end = a.End
		}
		if end.IsZero() {
			end = last
			if i+1 < len(x.Attempts) {
				end = x.Attempts[i+1].Begin
			}
		}
		d := end.Sub(a.Begin)
		if u := a.Uploaded.Sub(a.Connected); u > 0 && !a.Connected.IsZero() && !a.Uploaded.After(end) {
			client += u
			d -= u
		}
		if d > 0 {
			upstream += d
		}
	}
	return upstream, max(0, max(0, last.Sub(x.Start))-upstream-client)
}
