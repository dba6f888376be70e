package listen

import "sync"

// places are those for handshakes, which all listeners of a Set share. A listener
// takes no more of them than it leaves free: one that is flooded has half of them at
// most, two have a third each, and there is always one for who has none.
type places struct {
	most int

	mu    sync.Mutex // guards, besides what each listener has:
	taken int
}

// enter takes a place for who has own of them, and tells whether there was one.
func (p *places) enter(own *int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if *own >= p.most-p.taken {
		return false
	}
	p.taken++
	*own++
	return true
}

func (p *places) leave(own *int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	*own--
}
