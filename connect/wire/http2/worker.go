package http2

import (
	"time"
)

// onDispatch hands the exchanges that have arrived to workers.
func (c *conn) onDispatch() {
	for i, ex := range c.ready {
		if w := ex.worker; w != nil {
			w.work <- ex // it is idle, and there is room for one
		} else {
			w = &worker{work: make(chan *exchange, 1)}
			c.workers.Go(func() { c.work(w, ex) })
		}
		c.ready[i] = nil
	}
	c.ready = c.ready[:0]
}

// work serves exchanges until no more are to be expected.
func (c *conn) work(w *worker, ex *exchange) {
	for ok := true; ok; ex, ok = <-w.work {
		ex.worker = nil
		c.serve(ex)
		if !c.park(w) {
			return
		}
	}
}

// park ends an exchange's time with its worker.
func (c *conn) park(w *worker) bool {
	c.mu.Lock()
	defer c.unlock(false)
	if c.live--; c.live == 0 {
		c.idleSince = time.Now()
		c.remindIdle()
		c.partIfDone()
	}
	if c.dead != nil || len(c.idle) >= c.srv.cfg.MaxStreams {
		return false
	}
	c.idle = append(c.idle, w)
	return true
}
