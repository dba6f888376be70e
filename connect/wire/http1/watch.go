package http1

import "github.com/serai-net/serai/connect/wire"

// watch is the state of the goroutine that looks for the client's abort while an
// exchange waits for its upstream. It runs only once the request's body is
// complete: before, reading the body notices.
type watch struct {
	// wanted says that Watch was called, bodyDone that the body is complete,
	// over that the exchange is.
	wanted, bodyDone, over bool
	// running is closed by the goroutine when it ends; nil if there is none.
	running chan struct{}
}

func (w *watch) begin(bodyDone bool) { *w = watch{bodyDone: bodyDone} }

// Watch implements [wire.Control].
func (c *conn) Watch() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.wanted = true
	c.startWatchLocked()
}

// bodyDone is told that the request's body is complete.
func (c *conn) bodyDone() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.bodyDone = true
	c.startWatchLocked()
}

func (c *conn) startWatchLocked() {
	w := &c.watch
	if !w.wanted || !w.bodyDone || w.over || w.running != nil {
		return
	}
	w.running = make(chan struct{})
	go c.readAhead(&c.ex.x, w.running)
}

// stopWatch ends the goroutine and waits for it; then the connection may be read
// again.
func (c *conn) stopWatch() {
	c.mu.Lock()
	c.watch.over = true
	running := c.watch.running
	c.mu.Unlock()
	if running == nil {
		return
	}
	c.rd.interrupt()
	<-running
	c.rd.resume()
}

// recall takes an interrupt of a read of the body back, which has returned. If it had
// ended the body just before, a watcher has begun, and was interrupted in its place:
// another one takes over.
func (c *conn) recall() {
	c.mu.Lock()
	running := c.watch.running
	c.mu.Unlock()
	if running != nil {
		<-running
	}
	c.rd.resume()
	if running == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.watch.running = nil
	c.startWatchLocked()
}

// readAhead reads the beginning of the next request, if it comes, and aborts x
// if the connection ends.
func (c *conn) readAhead(x *wire.Exchange, done chan struct{}) {
	defer close(done)
	s := &c.src
	if s.cur == nil {
		s.take()
	}
	s.room()
	c.rd.unset()
	for s.w < len(s.cur.b) {
		n, err := c.nc.Read(s.cur.b[s.w:])
		s.w += n
		if err != nil {
			if !c.rd.stop.Load() {
				x.Abort(wire.ErrClientGone)
			}
			return
		}
	}
}
