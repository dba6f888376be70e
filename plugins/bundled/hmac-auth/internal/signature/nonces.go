package signature

import (
	"crypto/sha256"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons for which a nonce is not taken.
var (
	errOlder  = errors.New("the signature was made before this gateway was started: sign again")
	errReplay = errors.New("this nonce was used before: make a new one for each request")
	errFull   = errors.New("too many signed requests by this key, try later")
)

// Nonces remembers which nonces were used. Its memory is bounded for each key,
// by what the uses allow. It is safe for concurrent use, and shared by all uses
// of a process, so that one that comes with a new configuration knows what those
// before it have seen.
type Nonces struct {
	// full counts refusals for want of room.
	full atomic.Int64

	mu sync.Mutex // guards:
	// begin is the first second of which nothing has been forgotten before its
	// time, skew the largest of all uses; both in seconds.
	begin, skew int64
	keys        map[string]*keyNonces
}

// digest stands for a nonce, so that a long one takes no more memory.
type digest [16]byte

// keyNonces are the nonces of one key.
type keyNonces struct {
	used map[digest]struct{}
	// ends are the same by the last second in which they must be known.
	ends map[int64][]digest
	// next is the second up to which ends are empty.
	next int64
}

// NewNonces returns an empty memory; signatures that were created before begin
// may have been used, for all it knows.
func NewNonces(begin time.Time) *Nonces {
	return &Nonces{begin: begin.Unix(), keys: map[string]*keyNonces{}}
}

// allow announces a use that takes signatures which are up to skew seconds old.
// What was forgotten under a shorter one cannot be known any more.
func (n *Nonces) allow(skew, now int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if skew <= n.skew {
		return
	}
	if len(n.keys) > 0 {
		n.begin = max(n.begin, now-n.skew)
	}
	for _, k := range n.keys {
		k.extend(skew - n.skew)
	}
	n.skew = skew
}

// use takes the nonce of a signature, which must not come again as long as one
// that was created at that time could be accepted. All times are in seconds.
func (n *Nonces) use(keyID, nonce string, created, now int64, limit int) error {
	sum := sha256.Sum256([]byte(nonce))
	d := digest(sum[:16])
	n.mu.Lock()
	defer n.mu.Unlock()
	if created < n.begin {
		return errOlder
	}
	end := created + n.skew
	k := n.keys[keyID] // only keys of the configuration come so far
	if k == nil {
		k = &keyNonces{used: map[digest]struct{}{}, ends: map[int64][]digest{}, next: now}
		n.keys[keyID] = k
	}
	k.forget(now)
	if _, used := k.used[d]; used {
		return errReplay
	}
	if len(k.used) >= limit {
		n.full.Add(1)
		return errFull
	}
	k.used[d] = struct{}{}
	k.ends[end] = append(k.ends[end], d)
	return nil
}

// extend remembers all for longer, by some seconds.
func (k *keyNonces) extend(by int64) {
	ends := make(map[int64][]digest, len(k.ends))
	for end, all := range k.ends {
		ends[end+by] = all
	}
	k.ends = ends
}

// forget drops what may be dropped at a time. If the clock has made a leap there
// may be many seconds to look at, but no more than there are entries.
func (k *keyNonces) forget(now int64) {
	if now-k.next > int64(len(k.ends)) {
		for end := range k.ends {
			k.drop(end, now)
		}
		k.next = now
	}
	for ; k.next < now; k.next++ {
		k.drop(k.next, now)
	}
}

func (k *keyNonces) drop(end, now int64) {
	if end >= now {
		return
	}
	for _, d := range k.ends[end] {
		delete(k.used, d)
	}
	delete(k.ends, end)
}

// Len is how many nonces are remembered.
func (n *Nonces) Len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	total := 0
	for _, k := range n.keys {
		total += len(k.used)
	}
	return total
}

// Refused is how many requests were refused for want of room.
func (n *Nonces) Refused() int64 { return n.full.Load() }
