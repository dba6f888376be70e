package grpcstats

import (
	"encoding/binary"
	"strconv"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// call is one call under way: both its bodies, in which messages are counted, and
// its end. All in one piece of memory.
type call struct {
	filter            *filter
	name              string // service/method
	cluster, status   string // cluster only if the call never got so far
	request, response counted
}

// statusOf is the grpc-status of an answer of our own.
func statusOf(err error) string {
	status := wire.AsFault(err).Status
	if status == 0 {
		return "2"
	}
	return strconv.Itoa(wire.GRPCStatus(status))
}

// End implements [wire.End].
func (c *call) End(x *wire.Exchange) {
	cluster := c.cluster
	var upstream time.Duration
	if n := len(x.Attempts); n > 0 {
		a := &x.Attempts[n-1]
		cluster = a.Cluster
		sent := a.Uploaded
		if sent.IsZero() {
			sent = a.Connected
		}
		if !sent.IsZero() && !a.Head.IsZero() {
			upstream = x.Finish.Sub(sent)
		}
	}
	if cluster == "" {
		return
	}
	status := c.status
	if status == "" && c.response.inner != nil {
		if trailer := c.response.inner.Trailer(); trailer != nil {
			status = trailer.Get("grpc-status")
		}
	}
	c.filter.find(cluster, c.name).count(status, c.request.messages, c.response.messages, upstream)
}

// prefix is how many bytes stand in front of a message of gRPC: one that says
// whether it is compressed, and four for its length.
const prefix = 5

// counted is a body whose messages are counted as they are read.
type counted struct {
	inner    wire.Body
	messages int64
	// head are the bytes of a message's prefix that have come; left is how much of
	// the message is still to come.
	head [prefix]byte
	had  int
	left int64
}

// Read implements [wire.Body].
func (b *counted) Read(p []byte) (int, error) {
	n, err := b.inner.Read(p)
	b.inspect(p[:n])
	return n, err
}

func (b *counted) inspect(p []byte) {
	for len(p) > 0 {
		if b.left > 0 {
			skip := min(b.left, int64(len(p)))
			b.left -= skip
			p = p[skip:]
			continue
		}
		n := copy(b.head[b.had:], p)
		b.had += n
		p = p[n:]
		if b.had == prefix {
			b.messages++
			b.had, b.left = 0, int64(binary.BigEndian.Uint32(b.head[1:]))
		}
	}
}

// Trailer implements [wire.Body].
func (b *counted) Trailer() *wire.Header { return b.inner.Trailer() }

// Close implements [wire.Body].
func (b *counted) Close() error { return b.inner.Close() }

// Buffered implements [wire.Buffered].
func (b *counted) Buffered() bool { return wire.BodyBuffered(b.inner) }

// AtHand tells a codec whether a read gives something at once.
func (b *counted) AtHand() bool {
	inner, ok := b.inner.(interface{ AtHand() bool })
	return ok && inner.AtHand()
}
