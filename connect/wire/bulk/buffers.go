package bulk

import "sync"

// Sizes of buffers: a small one takes what comes first, a large one is used once
// a small one was filled.
const (
	small = 16 << 10
	large = 128 << 10
)

// Buffers lends memory to connections while bytes move. All connections of a
// process may share one. The zero Buffers is ready for use and safe for
// concurrent use; it must not be copied.
type Buffers struct {
	smalls, larges sync.Pool // of *buffer
	pipes          pipes
}

type buffer struct{ b []byte }

func (p *Buffers) get(size int) *buffer {
	pool := &p.smalls
	if size == large {
		pool = &p.larges
	}
	if b, ok := pool.Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, size)}
}

func (p *Buffers) put(b *buffer) {
	switch len(b.b) {
	case small:
		p.smalls.Put(b)
	case large:
		p.larges.Put(b)
	}
}

// next is the size of the buffer after one of which n bytes were used.
func next(size, n int) int {
	switch {
	case n == size:
		return large
	case n < small/2:
		return small
	}
	return size
}
