package wire_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// told is a connection that notes what it is told; if from is set, it leaves
// the drain at once.
type told struct {
	idle, killed atomic.Int32
	from         *wire.Drain
}

func (c *told) CloseIdle() { c.idle.Add(1); c.leave() }
func (c *told) Kill()      { c.killed.Add(1); c.leave() }

func (c *told) leave() {
	if c.from != nil {
		c.from.Remove(c)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	var d wire.Drain
	busy, left := &told{}, &told{}
	d.Add(busy)
	d.Add(left)
	d.Remove(left)
	if d.Len() != 1 || d.Draining() {
		t.Errorf("%d connections, draining %v", d.Len(), d.Draining())
	}
	d.Begin()
	if !d.Draining() || busy.idle.Load() != 0 {
		t.Error("Begin only tells responses")
	}
	early := &told{}
	d.Add(early)
	if early.idle.Load() != 0 {
		t.Error("a connection is still taken after Begin")
	}
	d.CloseIdle()
	late := &told{}
	d.Add(late)
	for name, c := range map[string]*told{"busy": busy, "early": early, "late": late} {
		if c.idle.Load() != 1 || c.killed.Load() != 0 {
			t.Errorf("%s: told %d times to close when idle, %d times killed", name, c.idle.Load(), c.killed.Load())
		}
	}
	if n := d.Kill(); n != 3 {
		t.Errorf("killed %d", n)
	}
	last := &told{}
	d.Add(last)
	if last.killed.Load() != 1 {
		t.Error("a connection that came after Kill lives on")
	}
	if left.idle.Load() != 0 || left.killed.Load() != 0 {
		t.Error("a connection that had left was told something")
	}
	n := 0
	d.Each(func(wire.Drainable) { n++ })
	if n != 4 || d.Len() != 4 {
		t.Errorf("each saw %d, Len %d", n, d.Len())
	}
}

// A connection may leave while it is told something: no lock is held then.
func TestDrainLeavesMeanwhile(t *testing.T) {
	t.Parallel()
	var d wire.Drain
	for range 3 {
		d.Add(&told{from: &d})
	}
	d.CloseIdle()
	if err := d.Wait(t.Context()); err != nil || d.Len() != 0 {
		t.Errorf("%v, %d left", err, d.Len())
	}
	c := &told{from: &d}
	d.Add(c)
	if d.Len() != 0 {
		t.Error("a late connection is still there")
	}
	d.Remove(c) // once more does no harm
}

func TestDrainWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var d wire.Drain
		if err := d.Wait(t.Context()); err != nil {
			t.Errorf("nobody to wait for: %v", err)
		}
		first, second := &told{}, &told{}
		d.Add(first)
		d.Add(second)
		var returned atomic.Int32
		for range 3 {
			go func() {
				if err := d.Wait(t.Context()); err != nil {
					t.Error(err)
				}
				returned.Add(1)
			}()
		}
		synctest.Wait()
		d.Remove(first)
		d.Remove(first)
		synctest.Wait()
		if returned.Load() != 0 {
			t.Error("did not wait for the second")
		}
		d.Remove(second)
		synctest.Wait()
		if returned.Load() != 3 {
			t.Errorf("%d of 3 returned", returned.Load())
		}
		d.Add(first)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := d.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("waited in vain: %v", err)
		}
	})
}

func TestDrainRace(t *testing.T) {
	t.Parallel()
	for range 50 {
		var d wire.Drain
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				c := &told{}
				d.Add(c)
				if d.Draining() && d.Len() == 0 {
					t.Error("not registered")
				}
				d.Remove(c)
			})
		}
		all.Go(d.CloseIdle)
		all.Go(func() { d.Kill() })
		all.Go(func() {
			if err := d.Wait(t.Context()); err != nil {
				t.Error(err)
			}
		})
		all.Wait()
	}
}
