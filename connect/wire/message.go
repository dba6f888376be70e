package wire

import "net/http"

// UnknownLength says that a message has a body of a length not known before.
const UnknownLength = -1

// Request is the head of one request and the stream of its body. It dies with
// its exchange (see the package comment).
type Request struct {
	// Method as received, case-sensitive (RFC 9110 section 9.1).
	Method string
	// Scheme is "http" or "https": what the client says in :scheme or an absolute
	// target if SchemeTold, else as the downstream connection is.
	Scheme     string
	SchemeTold bool
	// Authority is the host and, if given, the port that the client asks for:
	// the Host field or :authority, never both.
	Authority string
	// Path is the path with its query, as received: the bytes that policies
	// decide on are the bytes that are forwarded. "*" for OPTIONS *.
	Path string
	// Proto is the major version downstream: 1 or 2. Minor is 0 for HTTP/1.0.
	Proto, Minor int
	// Header holds all fields but Host and the connection's own (Connection,
	// Keep-Alive, TE except "trailers", Transfer-Encoding, Upgrade, Content-Length:
	// RFC 9110 section 7.6.1), which the codecs keep for themselves.
	Header Header
	// ContentLength is the length of Body in bytes, or UnknownLength.
	ContentLength int64
	// Body is nil if the request has none.
	Body Body
	// Upgrade is the protocol that the client asks to switch to (RFC 9110
	// section 7.8), "" in nearly all cases. After a 101 both bodies are raw:
	// Body, which is not nil then though ContentLength is 0, gives io.EOF before
	// the switch and afterwards what the client sends. An upstream codec reads it
	// from the first Read of the response's Body on. The same holds for CONNECT.
	Upgrade string
	// ExpectContinue says that the client waits for 100 before it sends the
	// body. The first read of Body answers it.
	ExpectContinue bool
}

// Raw tells whether both bodies are raw bytes once the request has succeeded: it
// asks for another protocol, or for a tunnel (CONNECT).
func (r *Request) Raw() bool { return r.Upgrade != "" || r.Method == http.MethodConnect }

// SchemeFrom settles the scheme of a request, which is "" if its head does not tell.
func (r *Request) SchemeFrom(p *Peer) {
	if r.SchemeTold = r.Scheme != ""; !r.SchemeTold {
		r.Scheme = p.Scheme()
	}
}

// PathOnly returns Path without its query.
func (r *Request) PathOnly() string {
	for i := range len(r.Path) {
		if r.Path[i] == '?' {
			return r.Path[:i]
		}
	}
	return r.Path
}

// Query returns what follows the first "?" of Path, "" if there is none.
func (r *Request) Query() string {
	for i := range len(r.Path) {
		if r.Path[i] == '?' {
			return r.Path[i+1:]
		}
	}
	return ""
}

// Idempotent tells whether the request may be repeated though an earlier try
// may have been carried out (RFC 9110 section 9.2.2).
func (r *Request) Idempotent() bool {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return r.Upgrade == ""
	}
	return false
}

// Response is the head of one response and the stream of its body. It dies
// with its exchange (see the package comment).
type Response struct {
	// Status is the final status code, or 101.
	Status int
	// Header holds all fields but the connection's own, as in Request.
	Header Header
	// ContentLength is the length of Body in bytes, or UnknownLength. For a
	// response to HEAD it is what a GET would have had, and Body is nil.
	ContentLength int64
	// Body is nil if the response has none. Whoever drops a response closes it.
	Body Body
	// Upgrade is the protocol switched to, with Status 101.
	Upgrade string
}

// Body streams one message's content. Its consumer reads it to io.EOF or
// closes it; Close before the end aborts the stream. One goroutine at a time
// may read; Close may be called from another, and more than once.
type Body interface {
	Read(p []byte) (n int, err error)
	// Trailer is valid once Read has returned io.EOF; nil if there is none.
	Trailer() *Header
	Close() error
}

// Buffered is what a Body has that can tell whether all of it has already
// arrived, so that reading it will not block.
type Buffered interface {
	// Buffered is true if the rest of the body can be read without waiting.
	Buffered() bool
}

// BodyBuffered tells whether body (nil counts) can be read without waiting.
func BodyBuffered(body Body) bool {
	if body == nil {
		return true
	}
	b, ok := body.(Buffered)
	return ok && b.Buffered()
}

// AtHand is what a Body has that can tell whether its next Read will not wait, as
// Buffered does of all of them.
type AtHand interface {
	// AtHand is true if the next Read will not wait.
	AtHand() bool
}

// BodyAtHand tells whether the next Read of body will not wait.
func BodyAtHand(body Body) bool {
	if b, ok := body.(AtHand); ok {
		return b.AtHand()
	}
	return BodyBuffered(body)
}
