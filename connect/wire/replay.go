package wire

import (
	"errors"
	"sync"
)

// DefaultReplayLimit is how much of a request body is kept for another try.
const DefaultReplayLimit = 1 << 20

// errTryOver is what a try reads that was closed, or followed by another.
var errTryOver = errors.New("read of a request body that another try has taken over")

// Replay is a request body that can be read again, as long as no more than its
// limit was read: the one buffer behind retry, hedge, mirror and external
// authorisation. Each try reads through a [Body] of its own, so one that still
// reads when the next begins takes nothing from it. Safe for concurrent use.
type Replay struct {
	source Body
	limit  int
	first  try

	mu   sync.Mutex // guards:
	idle sync.Cond  // told when reading ends or the try in force changes
	// current is the try in force; nil before the first, and once it is closed.
	current *try
	// reading says that a try reads source, perhaps one that is over.
	reading bool
	// kept is what was read from source, for the tries to come and for what an
	// earlier one has read meanwhile; lost says that more was read than is kept.
	kept []byte
	lost bool
	// settled says that no other try will follow.
	settled bool
	// err is what source has ended with.
	err error
}

// NewReplay wraps body; limit <= 0 means DefaultReplayLimit. If body is a try of
// another Replay, that one is returned: its owner settles it. A nil body needs
// no replay and gives nil.
func NewReplay(body Body, limit int) (r *Replay, owner bool) {
	if body == nil {
		return nil, false
	}
	if t, ok := body.(*try); ok {
		return t.replay, false
	}
	if limit <= 0 {
		limit = DefaultReplayLimit
	}
	r = &Replay{source: body, limit: limit}
	r.idle.L = &r.mu
	return r, true
}

// Try returns the body from its first byte on and ends the try before. It
// returns nil, and leaves that one alone, if more than the limit was read.
func (r *Replay) Try() Body {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost {
		return nil
	}
	t := &r.first
	if t.replay != nil {
		t = &try{}
	}
	t.replay, r.current = r, t
	r.idle.Broadcast()
	return t
}

// Again tells whether Try would return a body now. A nil Replay, of no body, can.
func (r *Replay) Again() bool {
	if r == nil {
		return true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return !r.lost
}

// Settle says that no other try will follow, so that nothing more is kept.
func (r *Replay) Settle() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.settled = true
}

// try is the body as one try reads it.
type try struct {
	replay *Replay
	next   int // the next byte of replay.kept to read; guarded by replay.mu
}

var _ Body = (*try)(nil)

// Read implements [Body].
func (t *try) Read(p []byte) (int, error) {
	r := t.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.current == t && r.reading && t.next == len(r.kept) {
		r.idle.Wait() // what the try before still reads is for us
	}
	switch {
	case r.current != t:
		return 0, errTryOver
	case t.next < len(r.kept):
		n := copy(p, r.kept[t.next:])
		t.next += n
		return n, nil
	case r.err != nil:
		return 0, r.err
	}
	return t.receive(p)
}

// receive reads from source and keeps what a later try may need.
func (t *try) receive(p []byte) (int, error) {
	r := t.replay
	n, err := r.readSource(p)
	r.err = err
	switch {
	case r.current != t:
		r.kept = append(r.kept, p[:n]...) // for the next try, past the limit too
		return 0, errTryOver
	case r.lost:
	case r.settled || len(r.kept)+n > r.limit:
		r.lost, r.kept, t.next = true, nil, 0
	default:
		r.kept = append(r.kept, p[:n]...)
		t.next = len(r.kept)
	}
	return n, err
}

// readSource is called and returns with the lock held, and reads without it.
func (r *Replay) readSource(p []byte) (int, error) {
	r.reading = true
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.reading = false
		r.idle.Broadcast()
	}()
	return r.source.Read(p)
}

// Trailer implements [Body].
func (t *try) Trailer() *Header { return t.replay.source.Trailer() }

// Buffered implements [Buffered].
func (t *try) Buffered() bool {
	r := t.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current != t || r.err != nil || !r.reading && BodyBuffered(r.source)
}

// AtHand implements [AtHand].
func (t *try) AtHand() bool {
	r := t.replay
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != t || r.err != nil || t.next < len(r.kept) {
		return true
	}
	return !r.reading && BodyAtHand(r.source)
}

// Close ends the try. The source is closed, and a Read that waits for it ended,
// only if no other try will follow.
func (t *try) Close() error {
	r := t.replay
	r.mu.Lock()
	current, settled := r.current == t, r.settled
	if current {
		r.current = nil
		r.idle.Broadcast()
	}
	r.mu.Unlock()
	if current && settled {
		return r.source.Close()
	}
	return nil
}
