package jwt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
	"weak"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
)

const (
	defaultCacheFor   = 10 * time.Minute
	defaultTimeout    = 5 * time.Second
	defaultRetryAfter = time.Second
	defaultPauseMax   = 10 * time.Second
	// ahead is how long before their end keys are fetched again, if they are to be
	// there before anybody asks.
	ahead = 5 * time.Second
	// maxStale is how long keys that are fetched ahead are used after their time if they
	// cannot be fetched again.
	maxStale = 24 * time.Hour
	// soon is when a cluster is looked for again that was not there: keys are fetched
	// ahead while a snapshot is prepared, and its clusters come when it is committed.
	soon = 5 * time.Millisecond
)

// Remote is a JWKS that is fetched. At most one fetch is under way, which all
// who wait for keys share. Keys whose time is over are not used; those that are to
// be fetched ahead of need are for a while, since whoever withdraws a key could not
// say so, and no request has had a part in it.
type Remote struct {
	source mesh.RemoteKeys
	find   call.Find
	log    *slog.Logger
	// counters of who asked first
	counters counters

	mu     sync.Mutex // guards:
	keys   *keySet
	text   string    // of keys
	fresh  time.Time // until when keys are good
	rest   time.Time // until when no fetch is begun after a failure
	flight *flight
	timer  *time.Timer
	told   string // the last error that was logged, "" since a fetch was good
	// absent is how long to wait for a cluster that is not there, 0 since it was.
	absent time.Duration
}

// counters are those of fetches, and of how often keys were used after their time.
type counters struct{ fetched, failed, stale *stats.Counter }

// flight is a fetch under way; keys and err are to be read when done is closed.
type flight struct {
	done chan struct{}
	keys *keySet
	err  error
}

func newRemote(source mesh.RemoteKeys, find call.Find, log *slog.Logger, counters counters) *Remote {
	or(&source.CacheFor, defaultCacheFor)
	or(&source.Timeout, defaultTimeout)
	or(&source.RetryAfter, defaultRetryAfter)
	or(&source.PauseMax, max(defaultPauseMax, source.PauseBase))
	r := &Remote{source: source, find: find, log: log, counters: counters}
	if source.Ahead {
		r.mu.Lock()
		r.begin()
		r.mu.Unlock()
	}
	return r
}

func or(d *time.Duration, otherwise time.Duration) {
	if *d <= 0 {
		*d = otherwise
	}
}

// Still is the keys that r has now, nil for none: it never fetches. r may be nil.
func (r *Remote) Still() *Remote {
	const ever = 100 * 365 * 24 * time.Hour
	now := time.Now()
	still := &Remote{fresh: now.Add(ever), rest: now.Add(ever)}
	if r == nil {
		return still
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good(now) || r.rest.IsZero() { // or the next fetch would fail as the last one has
		still.keys = r.keys
	}
	return still
}

// Empty tells whether there are no keys yet.
func (r *Remote) Empty() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.keys == nil
}

// get returns the keys, and waits for them if there are none that are good. The
// wait ends with the context that wait makes, which is asked for only then.
func (r *Remote) get(now time.Time, wait func() context.Context) (*keySet, error) {
	r.mu.Lock()
	if r.good(now) {
		defer r.mu.Unlock()
		return r.keys, nil
	}
	if r.flight == nil && now.Before(r.rest) {
		defer r.mu.Unlock()
		return nil, errFetch
	}
	f := r.begin()
	r.mu.Unlock()
	select {
	case <-f.done:
	case <-wait().Done():
		return nil, errFetch
	}
	if f.err != nil {
		return nil, errFetch
	}
	return f.keys, nil
}

// begin returns the fetch under way, a new one if there is none. r.mu is held.
func (r *Remote) begin() *flight {
	if r.flight == nil {
		f := &flight{done: make(chan struct{})}
		r.flight = f
		go r.fly(f)
	}
	return r.flight
}

func (r *Remote) fly(f *flight) {
	ctx, cancel := context.WithTimeout(context.Background(), r.source.Timeout)
	defer cancel()
	text, err := r.fetch(ctx)
	var keys *keySet
	if err == nil {
		keys, err = parseKeys(text)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	next := max(r.source.CacheFor-ahead, time.Second)
	if r.lookAgain(err) {
		r.rest, next = now.Add(r.absent), r.absent
	} else if err != nil {
		r.counters.failed.Add(1)
		r.rest, next = now.Add(r.source.RetryAfter), max(r.source.RetryAfter, time.Second)
		if told := err.Error(); told != r.told {
			r.told = told
			r.log.Warn("keys for tokens cannot be fetched", "cluster", r.source.Cluster, "uri", r.source.URI, "have_old", r.good(now), "err", err)
		}
	} else {
		r.counters.fetched.Add(1)
		r.told = ""
		r.fresh, r.rest = now.Add(r.source.CacheFor), time.Time{}
		if r.keys == nil || r.text != string(text) { // what was verified by the same keys stays verified
			r.keys, r.text = keys, string(text)
		}
	}
	f.keys, f.err, r.flight = r.keys, err, nil
	close(f.done)
	if r.source.Ahead {
		r.schedule(next)
	}
}

// lookAgain tells whether a fetch failed for want of a cluster that may come any moment. r.mu
// is held.
func (r *Remote) lookAgain(err error) bool {
	if !errors.Is(err, call.ErrNoCluster) {
		r.absent = 0
		return false
	}
	r.absent = max(2*r.absent, soon)
	return r.absent < r.source.RetryAfter
}

// schedule begins the next fetch after a while, if somebody still holds r then.
func (r *Remote) schedule(after time.Duration) {
	pointer := weak.Make(r)
	r.timer = time.AfterFunc(after, func() {
		if r := pointer.Value(); r != nil {
			r.mu.Lock()
			r.begin()
			r.mu.Unlock()
		}
	})
}

// fetch tries as often as it may. Only what a later try can change is tried
// again.
func (r *Remote) fetch(ctx context.Context) ([]byte, error) {
	pause := r.source.PauseBase
	for try := 0; ; try++ {
		text, again, err := r.once(ctx)
		if err == nil || !again || try >= r.source.Retries {
			return text, err
		}
		timer := time.NewTimer(jitter(pause))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, err
		}
		pause = min(2*pause, r.source.PauseMax)
	}
}

func (r *Remote) once(ctx context.Context) (text []byte, again bool, err error) {
	authority, path := split(r.source.URI)
	resp, err := call.Do(ctx, r.find(r.source.Cluster), call.Request{Authority: authority, Path: path})
	if err != nil {
		return nil, true, err
	}
	if resp.Status != http.StatusOK {
		return nil, resp.Status >= http.StatusInternalServerError, fmt.Errorf("status %d", resp.Status)
	}
	return resp.Body, false, nil
}

// jitter is a random part of d, as Envoy's back-off.
func jitter(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d) + 1 //nolint:gosec // no secret
}

// split takes host and path out of a URI.
func split(uri string) (authority, path string) {
	if _, rest, ok := strings.Cut(uri, "://"); ok {
		uri = rest
	}
	authority, path, _ = strings.Cut(uri, "/")
	return authority, "/" + path
}

// now returns the keys at hand, and whether they are good without a fetch.
func (r *Remote) now(now time.Time) (*keySet, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	good := r.good(now)
	if good && !now.Before(r.fresh) {
		r.counters.stale.Add(1)
	}
	return r.keys, good
}

// good tells whether the keys may be used without a fetch. r.mu is held.
func (r *Remote) good(now time.Time) bool {
	end := r.fresh
	if r.source.Ahead {
		end = end.Add(maxStale)
	}
	return r.keys != nil && now.Before(end)
}
