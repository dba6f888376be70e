package http2

import "time"

// budget is a token bucket against floods. It is full at first.
type budget struct {
	most, perSecond int
	used            int
	since           time.Time // when used was last lowered
}

// spend takes n and tells whether they were there.
func (b *budget) spend(now time.Time, n int) bool {
	if b.used == 0 {
		b.since = now
	} else if passed := now.Sub(b.since); passed > 0 {
		if back := int(min(passed, time.Hour) * time.Duration(b.perSecond) / time.Second); back > 0 {
			b.used = max(0, b.used-back)
			b.since = now
		}
	}
	b.used += n
	return b.used <= b.most
}

// earn gives n back.
func (b *budget) earn(n int) { b.used = max(0, b.used-n) }
