package wire_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }

// control counts what a codec is asked for.
type control struct {
	watched atomic.Int32
	interim []int
}

func (c *control) Interim(status int, _ *wire.Header) error {
	c.interim = append(c.interim, status)
	return nil
}

func (c *control) Watch() { c.watched.Add(1) }

type endFunc func(x *wire.Exchange)

func (f endFunc) End(x *wire.Exchange) { f(x) }

type lender struct{ took []bool }

func (l *lender) TakeBack(keep bool) { l.took = append(l.took, keep) }

type canceler struct{ n atomic.Int32 }

func (c *canceler) Cancel() { c.n.Add(1) }

func exchange() *wire.Exchange {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, start)
	return x
}

func TestEnds(t *testing.T) {
	t.Parallel()
	x := exchange()
	for round := range 2 {
		x.Reset(nil, &wire.Peer{}, start)
		var order []int
		lent := &lender{}
		x.Lend(lent)
		for i := range 20 { // more than the inline memory has room for
			x.OnEnd(endFunc(func(x *wire.Exchange) {
				if x.Finish != at(7) {
					t.Errorf("an end ran before the finish was noted: %v", x.Finish)
				}
				if len(lent.took) > 0 {
					t.Error("memory was taken back before an end")
				}
				order = append(order, i)
			}))
		}
		if !x.Done(at(7)) {
			t.Error("an exchange whose context was not taken may be reused")
		}
		var want []int
		for i := 19; i >= 0; i-- {
			want = append(want, i)
		}
		if diff := cmp.Diff(want, order); diff != "" {
			t.Errorf("round %d: order: -want +got:\n%s", round, diff)
		}
		if diff := cmp.Diff([]bool{false}, lent.took); diff != "" {
			t.Errorf("round %d: lent memory: -want +got:\n%s", round, diff)
		}
	}
}

func TestResetForgets(t *testing.T) {
	t.Parallel()
	c := &control{}
	x := exchange()
	x.Route, x.Status, x.Flag, x.Err = "r", 500, wire.FlagDenied, errors.New("x")
	x.CloseDownstream, x.BytesIn, x.Deadline = true, 1, at(1)
	for range 5 {
		x.NewAttempt("c", at(1)).Status = 503
	}
	x.OnEnd(endFunc(func(*wire.Exchange) { t.Error("an end of the last exchange ran") }))
	if err := x.OnAbort(&canceler{}); err != nil {
		t.Fatal(err)
	}
	x.Abort(errors.New("gone"))

	x.Reset(c, &wire.Peer{}, at(9))
	if x.Aborted() != nil || x.Route != "" || x.Status != 0 || x.Flag != wire.FlagNone || x.Err != nil ||
		x.CloseDownstream || x.BytesIn != 0 || !x.Deadline.IsZero() || len(x.Attempts) != 0 || x.Start != at(9) {
		t.Errorf("something was left: %+v", x.Attempts)
	}
	if a := x.NewAttempt("d", at(9)); a.Status != 0 || a.Cluster != "d" {
		t.Errorf("an attempt was left: %+v", a)
	}
	x.Watch()
	x.Watch()
	if n := c.watched.Load(); n != 1 {
		t.Errorf("watched %d times", n)
	}
	if err := x.Interim(103, nil); err != nil || len(c.interim) != 1 {
		t.Errorf("interim: %v, %v", c.interim, err)
	}
	x.Done(at(10))
}

func TestNoControl(t *testing.T) {
	t.Parallel()
	x := exchange()
	x.Watch()
	if err := x.Interim(103, nil); err != nil {
		t.Error(err)
	}
}

func TestAbort(t *testing.T) {
	t.Parallel()
	gone, later := errors.New("gone"), errors.New("later")
	t.Run("calls what was set, once", func(t *testing.T) {
		t.Parallel()
		x, first, second := exchange(), &canceler{}, &canceler{}
		if err := x.OnAbort(first); err != nil {
			t.Fatal(err)
		}
		if err := x.OnAbort(second); err != nil {
			t.Fatal(err)
		}
		x.Abort(gone)
		x.Abort(later)
		if first.n.Load() != 0 || second.n.Load() != 1 {
			t.Errorf("cancelled %d and %d times", first.n.Load(), second.n.Load())
		}
		if err := x.Aborted(); !errors.Is(err, gone) {
			t.Errorf("aborted for %v", err)
		}
		third := &canceler{}
		if err := x.OnAbort(third); !errors.Is(err, gone) {
			t.Errorf("OnAbort after Abort: %v", err)
		}
		if third.n.Load() != 0 {
			t.Error("what was not kept was cancelled")
		}
	})
	t.Run("does not call what was taken back", func(t *testing.T) {
		t.Parallel()
		x, c := exchange(), &canceler{}
		if err := errors.Join(x.OnAbort(c), x.OnAbort(nil)); err != nil {
			t.Fatal(err)
		}
		x.Abort(gone)
		if c.n.Load() != 0 {
			t.Error("cancelled")
		}
	})
	t.Run("without a reason", func(t *testing.T) {
		t.Parallel()
		x, c := exchange(), &canceler{}
		if err := x.OnAbort(c); err != nil {
			t.Fatal(err)
		}
		x.Abort(nil)
		x.Abort(nil)
		if x.Aborted() == nil || c.n.Load() != 1 {
			t.Errorf("aborted for %v, cancelled %d times", x.Aborted(), c.n.Load())
		}
	})
	t.Run("after the end", func(t *testing.T) {
		t.Parallel()
		x, c := exchange(), &canceler{}
		if err := x.OnAbort(c); err != nil {
			t.Fatal(err)
		}
		x.Done(at(1))
		x.Abort(gone)
		if c.n.Load() != 0 {
			t.Error("an exchange that is over cancelled its upstream")
		}
	})
}

// Either Abort finds what OnAbort has set, or OnAbort learns of the abort; and
// nothing is called once it was taken back.
func TestAbortRace(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for range 2000 {
		x := exchange()
		var aborting sync.WaitGroup
		aborting.Go(func() { x.Abort(gone) })
		c := &canceler{}
		err := x.OnAbort(c)
		kept := err == nil
		x.OnAbort(nil) //nolint:errcheck // taken back
		calls := c.n.Load()
		aborting.Wait()
		switch {
		case !kept && calls != 0:
			t.Fatal("refused and cancelled")
		case c.n.Load() != calls:
			t.Fatal("cancelled after it was taken back")
		case calls > 1:
			t.Fatal("cancelled twice")
		}
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	t.Run("ends with the exchange, which is not reused", func(t *testing.T) {
		t.Parallel()
		c := &control{}
		x := exchange()
		x.Reset(c, &wire.Peer{}, start)
		lent := &lender{}
		x.Lend(lent)
		ctx := x.Context()
		if ctx != x.Context() {
			t.Error("another context at the second call")
		}
		if c.watched.Load() != 1 {
			t.Error("whoever takes a context waits, so the client must be watched")
		}
		if ctx.Err() != nil {
			t.Error("over before its time")
		}
		if x.Done(at(1)) {
			t.Error("an exchange whose context was taken must not be reused")
		}
		if ctx.Err() == nil {
			t.Error("not over")
		}
		if diff := cmp.Diff([]bool{true}, lent.took); diff != "" {
			t.Errorf("lent memory: -want +got:\n%s", diff)
		}
	})
	t.Run("ends with an abort", func(t *testing.T) {
		t.Parallel()
		x := exchange()
		x.Deadline = time.Now().Add(time.Hour)
		ctx := x.Context()
		x.Abort(gone)
		if !errors.Is(context.Cause(ctx), gone) || !errors.Is(ctx.Err(), context.Canceled) {
			t.Errorf("cause %v, err %v", context.Cause(ctx), ctx.Err())
		}
		x.Done(at(1))
	})
	t.Run("is over if the abort came first", func(t *testing.T) {
		t.Parallel()
		for _, deadline := range []time.Time{{}, time.Now().Add(time.Hour)} {
			x := exchange()
			x.Deadline = deadline
			x.Abort(gone)
			if ctx := x.Context(); !errors.Is(context.Cause(ctx), gone) {
				t.Errorf("cause %v, err %v", context.Cause(ctx), ctx.Err())
			}
			x.Done(at(1))
		}
	})
	t.Run("may be taken by several goroutines", func(t *testing.T) {
		t.Parallel()
		c := &control{}
		x := exchange()
		x.Reset(c, &wire.Peer{}, start)
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() { x.Context(); x.Watch(); x.Abort(gone) })
		}
		all.Wait()
		if n := c.watched.Load(); n != 1 {
			t.Errorf("watched %d times", n)
		}
		x.Done(at(1))
	})
}

func TestContextDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		x := exchange()
		x.Deadline = time.Now().Add(time.Second)
		ctx := x.Context()
		begin := time.Now()
		<-ctx.Done()
		if got := time.Since(begin); got != time.Second {
			t.Errorf("over after %v", got)
		}
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("err %v", ctx.Err())
		}
		if x.Aborted() != nil {
			t.Error("a deadline is no abort")
		}
		x.Done(time.Now())
	})
}

func TestUpstreamTime(t *testing.T) {
	t.Parallel()
	// all are milliseconds after the start, 0 for never
	type attempt struct{ begin, connected, uploaded, head, end int }
	type times struct{ Upstream, InProxy time.Duration }
	tests := []struct {
		name             string
		headSent, finish int
		attempts         []attempt
		want             times
	}{
		{"no attempt", 10, 12, nil, times{0, 10}},
		{"one", 10, 12, []attempt{{begin: 2, head: 8}}, times{6, 4}},
		{"one that failed, nobody knows when", 10, 12, []attempt{{begin: 2}}, times{8, 2}},
		{"one that failed", 10, 12, []attempt{{begin: 2, end: 7}}, times{5, 5}},
		{"failed, then one", 20, 22, []attempt{{begin: 2}, {begin: 9, head: 15}}, times{13, 7}},
		{"failed, a pause, then one", 20, 22, []attempt{{begin: 2, end: 4}, {begin: 9, head: 15}}, times{8, 12}},
		{"refused, a pause, then one", 20, 22, []attempt{{begin: 2, head: 4}, {begin: 9, head: 15}}, times{8, 12}},
		{"three", 30, 32, []attempt{{begin: 1, head: 5}, {begin: 6}, {begin: 10, head: 29}}, times{27, 3}},
		{"no response was sent", 0, 0, []attempt{{begin: 2, head: 8}}, times{6, 0}},
		{"nothing came and nothing was sent", 0, 0, []attempt{{begin: 2}}, times{0, 0}},
		{"the client left before the head", 0, 50, []attempt{{begin: 2}}, times{48, 2}},
		{"the client left after the head", 0, 50, []attempt{{begin: 2, head: 49}}, times{47, 3}},
		{"hedged", 10, 12, []attempt{{begin: 1, head: 9}, {begin: 2, head: 9}}, times{15, 0}},
		{"upload", 110, 112, []attempt{{begin: 2, connected: 5, uploaded: 100, head: 108}}, times{11, 4}},
		{"answered before the end of the upload", 20, 22, []attempt{{begin: 2, connected: 5, head: 18}}, times{16, 4}},
		{"uploaded after the answer", 20, 220, []attempt{{begin: 2, connected: 5, uploaded: 200, head: 18}}, times{16, 4}},
		{"all there before the connection", 20, 22, []attempt{{begin: 2, connected: 5, uploaded: 1, head: 18}}, times{16, 4}},
		{"lost while uploading", 110, 112, []attempt{{begin: 2, connected: 5, uploaded: 105, end: 105}}, times{3, 7}},
	}
	moment := func(ms int) time.Time {
		if ms == 0 {
			return time.Time{}
		}
		return at(ms)
	}
	for _, tt := range tests {
		x := exchange()
		x.HeadSent, x.Finish = moment(tt.headSent), moment(tt.finish)
		for _, a := range tt.attempts {
			p := x.NewAttempt("c", at(a.begin))
			p.Connected, p.Uploaded, p.Head, p.End = moment(a.connected), moment(a.uploaded), moment(a.head), moment(a.end)
		}
		upstream, inProxy := x.Upstream()
		got := times{upstream / time.Millisecond, inProxy / time.Millisecond}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

func TestExchangeAllocates(t *testing.T) {
	x, peer, c, l, a := exchange(), &wire.Peer{}, &control{}, &lender{}, &canceler{}
	var end wire.End = endFunc(func(*wire.Exchange) {})
	n := testing.AllocsPerRun(100, func() {
		x.Reset(c, peer, start)
		for range 8 {
			x.OnEnd(end)
		}
		x.Lend(l)
		l.took = l.took[:0]
		x.NewAttempt("c", start)
		x.NewAttempt("c", start)
		x.OnAbort(a)   //nolint:errcheck // not aborted
		x.OnAbort(nil) //nolint:errcheck // not aborted
		x.Watch()
		x.Done(start)
	})
	if n != 0 {
		t.Errorf("an exchange allocates %v times", n)
	}
}
