package upstream

import (
	"container/list"
	"context"
	"slices"
	"sync"
)

// places are those for health checks under way, which all clusters of a [Set] share. A
// cluster takes no more of them than it leaves free: one of which no host answers has
// half of them at most, two have a third each, and those of others go on meanwhile.
type places struct {
	most int

	mu    sync.Mutex // guards, besides all turns:
	taken int
	// waiting are those with somebody who waits, and some who have had one. They take
	// turns.
	waiting []*turns
}

// turns are the places of one cluster.
type turns struct {
	own    int
	wait   list.List // of chan struct{}, closed for who has a place now
	listed bool      // among those waiting
}

// enter waits for a place until ctx ends, and tells whether there was one.
func (p *places) enter(ctx context.Context, t *turns) bool {
	p.mu.Lock()
	if p.take(t) {
		p.mu.Unlock()
		return true
	}
	mine := make(chan struct{})
	at := t.wait.PushBack(mine)
	if !t.listed {
		t.listed = true
		p.waiting = append(p.waiting, t)
	}
	p.mu.Unlock()
	select {
	case <-mine:
		return true
	case <-ctx.Done():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-mine: // it came meanwhile
		p.free(t)
	default:
		t.wait.Remove(at)
	}
	return false
}

func (p *places) leave(t *turns) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free(t)
}

// take takes a place if there is one. Callers hold the lock, as those of free.
func (p *places) take(t *turns) bool {
	if t.own >= p.most-p.taken {
		return false
	}
	p.taken++
	t.own++
	return true
}

// free gives a place back, and places to those who wait as long as there are some for
// them.
func (p *places) free(t *turns) {
	p.taken--
	t.own--
	for passed := 0; passed < len(p.waiting); {
		next := p.waiting[0]
		p.waiting = slices.Delete(p.waiting, 0, 1)
		first := next.wait.Front()
		if first == nil {
			next.listed = false
			continue
		}
		p.waiting = append(p.waiting, next)
		if !p.take(next) {
			passed++
			continue
		}
		passed = 0
		if mine, ok := next.wait.Remove(first).(chan struct{}); ok {
			close(mine)
		}
	}
}
