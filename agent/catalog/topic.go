package catalog

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"
)

// topic is one thing that an Index follows: what all its questions share.
type topic struct {
	// set by the maker
	about string // for errors and the log: `services of datacenter "dc2"`
	trace *trace
	loop  loop

	once    sync.Once
	settled chan struct{} // closed with the first answer or error

	asked   atomic.Int64 // when somebody last asked for it, Unix nanoseconds; 0 for never
	got     atomic.Bool  // there was an answer
	failure atomic.Pointer[error]

	// mu of the Index guards:
	stop context.CancelFunc // ends its loop; nil while it has none
}

// begin joins a topic to its question.
func (t *topic) begin(q question, about string, tr *trace) {
	t.about, t.trace, t.settled = about, tr, make(chan struct{})
	t.loop.question = q
	t.loop.returned = tr.returned
}

// lost implements [question].
func (t *topic) lost(err error) {
	t.failure.Store(&err)
	t.trace.lost(t.about, err)
	t.settle()
}

// back implements [question].
func (t *topic) back() {
	t.failure.Store(nil)
	t.trace.back(t.about)
}

// seen notes an answer; who calls it has put the answer in force.
func (t *topic) seen() {
	t.got.Store(true)
	t.settle()
}

func (t *topic) settle() { t.once.Do(func() { close(t.settled) }) }

// touch notes that somebody asks for it.
func (t *topic) touch() {
	if t.asked.Load() != pinned {
		t.asked.Store(time.Now().UnixNano())
	}
}

// pin lets nothing else take the place of a topic.
func (t *topic) pin() { t.asked.Store(pinned) }

// pinned is later than all that was asked for.
const pinned = math.MaxInt64

// wait waits for the first answer. It returns at once if there was one, and an
// error if Consul cannot be asked or ctx ends before.
func (t *topic) wait(ctx context.Context) error {
	if t.got.Load() {
		return nil
	}
	select {
	case <-t.settled:
	case <-ctx.Done():
		return fmt.Errorf("wait for the %s: %w", t.about, ctx.Err())
	}
	if t.got.Load() {
		return nil
	}
	if failure := t.failure.Load(); failure != nil {
		return *failure
	}
	return fmt.Errorf("wait for the %s: %w", t.about, context.Canceled)
}
