package http2

import "sync"

// Sizes of buffers: a small one holds the body of a small message, a large one
// streams.
const (
	smallBuffer = 4 << 10
	largeBuffer = 32 << 10
)

// Buffers lends memory to connections. Servers and upstream connections should
// share one. The zero Buffers is ready for use and safe for concurrent use; it
// must not be copied.
type Buffers struct {
	small, large sync.Pool // of *buffer
	exchanges    sync.Pool // of *exchange
	trips        sync.Pool // of *trip
	// poison overwrites what is given back, to show who still looks at it.
	poison bool
}

// buffer is one piece of memory of which b[r:w] is in use. next links what
// follows it.
type buffer struct {
	b    []byte
	r, w int
	next *buffer
}

// get lends an empty buffer, large or small.
func (p *Buffers) get(large bool) *buffer {
	pool, size := &p.small, smallBuffer
	if large {
		pool, size = &p.large, largeBuffer
	}
	if b, ok := pool.Get().(*buffer); ok {
		b.r, b.w, b.next = 0, 0, nil
		return b
	}
	return &buffer{b: make([]byte, size)}
}

// put takes b and what is linked to it back; nil is allowed.
func (p *Buffers) put(b *buffer) {
	for b != nil {
		next := b.next
		b.next = nil
		if p.poison {
			for i := range b.b {
				b.b[i] = '!'
			}
		}
		if len(b.b) == largeBuffer {
			p.large.Put(b)
		} else {
			p.small.Put(b)
		}
		b = next
	}
}
