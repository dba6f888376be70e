package secret

import (
	"errors"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// Reading is what one resource refers to. It is made with [Store.Read], used by one
// goroutine while the resource is decoded, and asked afterwards.
type Reading struct {
	store *Store
	needs []need
}

// need is something that was asked for, and what was answered.
type need struct {
	key     key
	version uint64
	// wait is how long a secret is waited for.
	wait mesh.Wait
}

// Read begins a Reading.
func (s *Store) Read() *Reading { return &Reading{store: s} }

// Empty tells whether nothing was referred to.
func (r *Reading) Empty() bool { return len(r.needs) == 0 }

// Text returns what d says.
func (r *Reading) Text(d mesh.Data) (string, error) {
	if d.IsInline() {
		return d.Inline, nil
	}
	it, err := r.use(key{text: d}, 0)
	return it.text, err
}

// Leaf returns a certificate with its key, which belong together.
func (r *Reading) Leaf(chain, private mesh.Data) (mesh.Leaf, error) {
	if chain.IsInline() && private.IsInline() {
		return mesh.Leaf{CertificatePEM: chain.Inline, KeyPEM: private.Inline}, nil
	}
	it, err := r.use(key{chain: chain, key: private, pair: true}, 0)
	return it.leaf, err
}

// Secret returns a secret as it came; [ErrWaiting] if it has not come yet. It is waited
// for as long as wait says, by whoever asks Waiting.
func (r *Reading) Secret(ref mesh.SecretRef, wait mesh.Wait) ([]byte, error) {
	it, err := r.use(key{secret: ref, named: true}, wait)
	return it.body, err
}

// use returns a copy of the item, which was looked at if it is new.
func (r *Reading) use(k key, wait mesh.Wait) (item, error) {
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	it := s.items[k]
	if it == nil {
		if len(s.items) >= maxItems {
			return item{}, errTooMany
		}
		it = &item{}
		s.items[k] = it
		s.begin(k, it)
	}
	it.used = true
	r.needs = append(r.needs, need{k, it.version, wait})
	if !it.good {
		return *it, fmt.Errorf("%s: %w", k, it.err)
	}
	return *it, nil
}

// begin looks at something for the first time. Callers hold the lock.
func (s *Store) begin(k key, it *item) {
	switch {
	case !k.named:
		now := time.Now()
		s.load(k, it, s.look(k, now), now)
		if k.files()[0] != "" || k.files()[1] != "" {
			select {
			case s.wake <- struct{}{}:
			default: // told already
			}
		}
	case k.secret.Source.Kind == mesh.SecretStatic:
		it.err = errUnknown
	default:
		it.err, it.since = ErrWaiting, time.Now()
		if k.secret.Source.Kind == mesh.SecretServer {
			s.follow(k, it)
		}
	}
}

// Stale tells whether something that was asked for would be answered otherwise now.
// A nil Reading has asked for nothing.
func (r *Reading) Stale() bool {
	if r == nil || len(r.needs) == 0 {
		return false
	}
	r.store.mu.Lock()
	defer r.store.mu.Unlock()
	return r.store.stale(r)
}

// stale is Reading.Stale. Callers hold the lock.
func (s *Store) stale(r *Reading) bool {
	for _, n := range r.needs {
		if it := s.items[n.key]; it != nil && it.version != n.version {
			return true
		}
	}
	return false
}

// Waiting tells whether a secret has not come that was asked for, and how long it is
// waited for. A nil Reading waits for nothing.
func (r *Reading) Waiting() (longest mesh.Wait, waiting bool) {
	if r == nil || len(r.needs) == 0 {
		return 0, false
	}
	s := r.store
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range r.needs {
		if it := s.items[n.key]; it == nil || it.good || !errors.Is(it.err, ErrWaiting) {
			continue
		}
		if !waiting {
			longest, waiting = n.wait, true
		} else {
			longest = longest.Longer(n.wait)
		}
	}
	return longest, waiting
}
