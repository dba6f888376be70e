package stack

import (
	"cmp"
	"math/rand/v2"
	"strconv"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// baseBackOff is Envoy's base interval, maxBackOff how many times as long a
	// pause may become.
	baseBackOff = 25 * time.Millisecond
	maxBackOff  = 10
)

// backOff is the pauses between the tries of one exchange: up to an interval that
// doubles, or as the upstream has asked for.
type backOff struct {
	interval, most time.Duration
	limited        *mesh.RateLimitedBackOff
}

func newBackOff(r *mesh.Retry) backOff {
	base := cmp.Or(r.BackOff, baseBackOff)
	return backOff{interval: base, most: max(base, cmp.Or(r.MaxBackOff, maxBackOff*base)), limited: r.RateLimited}
}

// next is the pause after resp, which may be nil, and whether the upstream has asked
// for it.
func (b *backOff) next(resp *wire.Response) (pause time.Duration, asked bool) {
	if after, ok := b.asked(resp, time.Now()); ok {
		// Not before, and not all at once.
		return after + rand.N(max(1, after/2)), true
	}
	pause = rand.N(b.interval)
	b.interval = min(2*b.interval, b.most)
	return pause, false
}

// asked is the pause that the upstream wants.
func (b *backOff) asked(resp *wire.Response, now time.Time) (time.Duration, bool) {
	if b.limited == nil || resp == nil {
		return 0, false
	}
	for _, h := range b.limited.Headers {
		n, err := strconv.ParseInt(resp.Header.Get(h.Name), 10, 64)
		if err != nil || n < 0 || n > 1<<32 {
			continue
		}
		pause := time.Duration(n) * time.Second
		if h.Unix {
			pause = time.Unix(n, 0).Sub(now)
		}
		if pause > 0 && pause <= b.limited.Max {
			return pause, true
		}
	}
	return 0, false
}
