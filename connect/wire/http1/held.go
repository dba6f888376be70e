package http1

import "github.com/serai-net/serai/connect/wire/socket"

// heldBack is the memory of a small request that waits until we wait for its
// response: it leaves in the same step, and nobody looks in vain whether the
// response is there. A response to a client cannot be held: its next request may
// have come before, which nobody would notice.
type heldBack struct {
	pool *Buffers
	buf  *buffer
	done func() // release, bound once
}

// hold makes the next message to sock wait.
func (h *heldBack) hold(sock *socket.Conn, pool *Buffers) {
	if h.done == nil {
		h.done = h.release
	}
	h.pool, h.buf = pool, pool.get(smallBuffer)
	sock.Hold(h.buf.b, h.done)
}

func (h *heldBack) release() {
	h.pool.put(h.buf)
	h.buf = nil
}
