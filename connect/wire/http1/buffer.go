package http1

import "sync"

// Sizes of buffers: a small one holds the head of nearly every request, a
// medium one the head and beginning of a response, a large one streams.
const (
	smallBuffer  = 4 << 10
	mediumBuffer = 16 << 10
	largeBuffer  = 64 << 10
)

// Buffers lends memory to connections. Servers and upstream connections should
// share one. The zero Buffers is ready for use and safe for concurrent use; it
// must not be copied.
type Buffers struct {
	sizes [3]sync.Pool // of *buffer
	trips sync.Pool    // of *trip
	// poison overwrites what is given back, to show who still looks at it.
	poison bool
}

// buffer is one piece of memory. next links buffers that are given back together.
type buffer struct {
	b    []byte
	next *buffer
}

// class returns the pool and the size for at least n bytes; -1 if n is larger
// than what is kept.
func class(n int) (index, size int) {
	switch {
	case n <= smallBuffer:
		return 0, smallBuffer
	case n <= mediumBuffer:
		return 1, mediumBuffer
	case n <= largeBuffer:
		return 2, largeBuffer
	}
	return -1, n
}

// get lends a buffer of at least n bytes, all of them in b. Their content is
// undefined.
func (p *Buffers) get(n int) *buffer {
	index, size := class(n)
	if index >= 0 {
		if b, ok := p.sizes[index].Get().(*buffer); ok {
			return b
		}
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
		if index, size := class(len(b.b)); index >= 0 && size == len(b.b) {
			p.sizes[index].Put(b)
		}
		b = next
	}
}
