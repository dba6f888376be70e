package trace

import (
	"math/rand/v2"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// requestID is the field whose UUID tells all proxies of a request whether it is
// traced: its 15th character, which is 4 in a random one, says why.
const (
	requestID   = "x-request-id"
	reasonAt    = 14
	notTraced   = '4'
	sampled     = '9'
	forced      = 'a'
	clientAsked = 'b'
	uuidLength  = 36
)

// decide tells whether a request is traced, as the proxies before us have decided or,
// if none has, as chance has it; and notes it in x-request-id.
func decide(t *mesh.Tracing, x *wire.Exchange, h *wire.Header) bool {
	id, ok := h.Lookup(requestID)
	if !ok || len(id) != uuidLength {
		return false
	}
	result, ok := parseHex(id[:8])
	if !ok {
		return false
	}
	reason, was := id[reasonAt], id[reasonAt]
	switch reason {
	case sampled, forced, clientAsked:
	default:
		switch {
		case h.Has("x-client-trace-id") && chance(t.Client):
			reason = clientAsked
		case share(result, t.Random):
			reason = sampled
		default:
			return false
		}
	}
	traced := share(result, t.Overall)
	if !traced {
		reason = notTraced
	}
	if reason != was {
		var b [uuidLength]byte
		copy(b[:], id)
		b[reasonAt] = reason
		h.Set(requestID, x.Keep(b[:]))
	}
	return traced
}

// reasonOf is what x-request-id says.
func reasonOf(h *wire.Header) byte {
	if id, ok := h.Lookup(requestID); ok && len(id) == uuidLength {
		return id[reasonAt]
	}
	return notTraced
}

const million = 1_000_000

func chance(millionths uint32) bool {
	return millionths >= million || rand.Uint32N(million) < millionths //nolint:gosec // a sample
}

// share takes a share of all by what is random in them, in steps of a ten-thousandth.
func share(random uint64, millionths uint32) bool {
	return random%10_000*100 < uint64(millionths)
}
