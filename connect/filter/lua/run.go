package lua

import (
	"context"
	"errors"
	"io"
	"net/http"

	lua "github.com/yuin/gopher-lua"

	"github.com/serai-net/serai/connect/wire"
)

// run is one call of the script, for a request (resp is nil) or a response.
type run struct {
	f      *Filter
	vm     *vm
	cancel context.CancelFunc
	guard  *guard

	x    *wire.Exchange
	req  *wire.Request
	resp *wire.Response

	self *lua.LUserData
	// headers is the object of the head, so that its walk is known.
	headers *fields
	// body is what a script has read of it whole; nil before.
	body *whole
	// answer is the script's own, fault why the exchange cannot go on.
	answer *wire.Response
	fault  error
	// streaming says that the script waits for a chunk: the head has been sent, and
	// the script is resumed by whoever reads the body.
	streaming bool
	over      bool
	// keep says that a change of the head chooses no other route.
	keep bool
	// ended says that the last chunk has come. seen is how large the heap was when the
	// meter was last filled up, 0 if never; held is what of its growth may be the script's.
	ended bool
	seen  uint64
	held  int64
	// killed says that no chunk will come any more. The script's goroutine sends to
	// parked when it waits, takes a chunk from feed, and closes done at its end.
	killed       bool
	parked, done chan struct{}
	feed         chan *buffer
}

// begin takes a VM for a run. If there is none the exchange must not go on: it would pass
// without its script.
func (f *Filter) begin(x *wire.Exchange, req *wire.Request, resp *wire.Response) (*run, error) {
	f.runs.Add(1)
	v, err := f.take()
	switch {
	case errors.Is(err, errBusy):
		return nil, err
	case err != nil:
		f.lament(err)
		return nil, refusal(err)
	}
	r := &run{f: f, vm: v, x: x, req: req, resp: resp}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	v.state.SetContext(ctx)
	v.made = meter{left: maxMade}
	r.guard = newGuard(f.place.Budget, f.growth, cancel)
	return r, nil
}

// errAnswered ends a script that has answered itself.
var errAnswered = errors.New("answered")

// do lets the script run until it ends or waits for a chunk. One that may wait for
// chunks has a goroutine of its own, which runs only while this one waits.
func (r *run) do(fn *lua.LFunction) {
	if !r.f.streams {
		r.call(fn)
		return
	}
	r.parked, r.feed, r.done = make(chan struct{}), make(chan *buffer), make(chan struct{})
	go func() {
		defer close(r.done)
		r.call(fn)
	}()
	r.await()
}

// await waits until the script waits, or has ended.
func (r *run) await() {
	select {
	case <-r.parked:
	case <-r.done:
	}
}

// call calls the script's function, and ends the run.
func (r *run) call(fn *lua.LFunction) {
	err := r.vm.state.CallByParam(lua.P{Fn: fn, Protect: true}, r.handle())
	if err = r.guard.explain(err); err != nil && r.answer == nil && r.fault == nil && !r.killed {
		r.f.lament(err)
		if r.ours(err) {
			r.fault = refusal(err)
		}
	}
	r.over = true
	r.guard.stop()
	r.cancel()
	r.f.give(r.vm)
}

// next waits for a chunk, on the goroutine of the script; nil at the end. For each the
// script has its time anew, since a body may have any length.
func (r *run) next(l *lua.LState) *buffer {
	if r.ended {
		return nil
	}
	if r.killed { // and there is nobody who would go on with us
		l.RaiseError("the body has broken off")
	}
	r.guard.pause()
	r.parked <- struct{}{}
	b := <-r.feed
	r.guard.renew()
	r.guard.resume()
	if r.killed {
		l.RaiseError("the body has broken off")
	}
	r.ended = b == nil
	r.vm.made.left -= chunkCost
	r.refill(l)
	return b
}

// refill lets the script make as much again for the next chunks, unless it seems to keep
// what it has made of those before: the heap grows, and does not shrink again.
func (r *run) refill(l *lua.LState) {
	m := &r.vm.made
	if m.left > maxMade/2 {
		return
	}
	now := heap()
	if r.seen > 0 {
		r.held = max(0, r.held+min(int64(now)-int64(r.seen), int64(maxMade-m.left))) //nolint:gosec // no heap is so large
	}
	if r.seen = now; uint64(r.held) > r.f.growth { //nolint:gosec // it is not negative
		m.hit = true
		l.RaiseError("%s", errTooLong.Error())
	}
	m.left = maxMade
}

// give lets the script go on with a chunk, nil at the end.
func (r *run) give(b *buffer) {
	r.feed <- b
	r.await()
}

// kill ends a script that still waits for a chunk.
func (r *run) kill() {
	if !r.over {
		r.killed = true
		r.cancel()
		r.give(nil)
	}
}

// wait calls what may take a while that is not the script's.
func (r *run) wait(f func()) {
	r.guard.pause()
	defer r.guard.resume()
	f()
}

// head is the header that the run is about.
func (r *run) head() *wire.Header {
	if r.resp != nil {
		return &r.resp.Header
	}
	return &r.req.Header
}

// source is the body as it is now; nil if there is none.
func (r *run) source() wire.Body {
	if r.resp != nil {
		return r.resp.Body
	}
	return r.req.Body
}

// setBody puts another body in the place of the source.
func (r *run) setBody(body wire.Body, length int64) {
	if r.resp != nil {
		r.resp.Body, r.resp.ContentLength = body, length
		return
	}
	r.req.Body, r.req.ContentLength = body, length
	r.req.ExpectContinue = r.req.ExpectContinue && r.body == nil
}

// raw tells whether the body is no message's content.
func (r *run) raw() bool {
	return r.req.Raw() && (r.resp == nil || r.resp.Upgrade != "" || r.req.Method == http.MethodConnect)
}

// whole is a body that is in memory.
type whole struct {
	data    []byte
	read    int
	trailer *wire.Header
}

func (w *whole) Read(p []byte) (int, error) {
	if w.read >= len(w.data) {
		return 0, io.EOF
	}
	n := copy(p, w.data[w.read:])
	w.read += n
	return n, nil
}

func (w *whole) Trailer() *wire.Header {
	if w.trailer.Len() == 0 {
		return nil
	}
	return w.trailer
}
func (w *whole) Buffered() bool { return true }
func (w *whole) Close() error   { w.read = len(w.data); return nil }

// readBody reads the body to its end and keeps it in the place of the source. It
// ends the script if that fails.
func (r *run) readBody(l *lua.LState) {
	if r.body != nil || r.raw() || r.source() == nil {
		return
	}
	source := r.source()
	w := &whole{}
	var err error
	r.wait(func() { w.data, err = wire.ReadAll(source, maxBody) })
	if err != nil {
		if errors.Is(err, wire.ErrTooLarge) {
			err = &wire.Fault{Status: http.StatusRequestEntityTooLarge, Text: "Payload Too Large", Err: err}
			if r.resp != nil {
				err = &wire.Fault{Status: http.StatusInternalServerError, Flag: wire.FlagUpstreamOverflow, Err: wire.ErrTooLarge}
			}
		}
		r.fault = err
		l.RaiseError("the body cannot be read")
	}
	if t := source.Trailer(); t.Len() > 0 {
		trailer := t.Clone()
		w.trailer = &trailer
	} else {
		w.trailer = &wire.Header{}
	}
	source.Close()
	r.body = w
	r.setBody(w, int64(len(w.data)))
}

// chunks is a body whose reader resumes the script for each chunk.
type chunks struct {
	run    *run
	source wire.Body
}

func (c *chunks) Read(p []byte) (int, error) {
	r := c.run
	if r.over && r.fault != nil {
		return 0, r.fault
	}
	n, err := c.source.Read(p)
	if n > 0 && !r.over {
		b := &buffer{data: p[:n], fixed: true}
		r.give(b)
		b.data = nil // whoever keeps it has nothing of what comes next
	}
	switch {
	case r.over && r.fault != nil: // the rest must not pass without its script
		return 0, r.fault
	case err == nil || r.over:
	case errors.Is(err, io.EOF):
		if r.give(nil); r.fault != nil { // what comes after the last chunk is bounded, too
			return 0, r.fault
		}
	default:
		r.kill()
	}
	return n, err
}

func (c *chunks) Trailer() *wire.Header { return c.source.Trailer() }
func (c *chunks) Close() error          { return c.source.Close() }

// End implements [wire.End]: a script that still waits for chunks is given up.
func (c *chunks) End(*wire.Exchange) { c.run.kill() }
