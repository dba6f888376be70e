package secret

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// ErrWaiting is the error for a secret that has not come yet.
var ErrWaiting = errors.New("has not come yet")

// errUnknown: the bootstrap file will not change any more.
var errUnknown = errors.New("the bootstrap file has no secret of that name")

// maxItems bounds what may be referred to at a time.
const maxItems = 4096

var errTooMany = fmt.Errorf("more than %d secrets and files are referred to", maxItems)

// Server is asked for secrets. It is safe for concurrent use.
type Server interface {
	// Follow asks for one secret until ctx ends, whatever happens to the connection.
	// set takes each, with its version; its error says that it is not good. down tells why
	// there is none now.
	Follow(ctx context.Context, name string, set func(body []byte, version string) error, down func(error)) error
	// Close lets go of connections.
	Close()
}

// Config of a Store.
type Config struct {
	// Open returns the server behind a source of kind SecretServer; nil if there
	// can be none.
	Open func(source mesh.SecretSource) (Server, error)
	// Check tells whether a secret is one, and good, before it takes the place of
	// the last. read gives what it refers to itself.
	Check func(body []byte, read *Reading) error
	// Changed is called when something has changed that a Reading was told. It may
	// use the Store.
	Changed func()
	// Env looks an environment variable up; nil is the process's.
	Env func(name string) (string, bool)
}

// Store has what is referred to, as it was when it was last good. Make one with
// New. It is safe for concurrent use.
type Store struct {
	config Config
	log    *slog.Logger
	wake   chan struct{} // has room for one: there is a first file to look at

	mu      sync.Mutex // guards:
	items   map[key]*item
	servers map[mesh.SecretSource]Server
	// running is the context of Run, nil while it does not run.
	running context.Context //nolint:containedctx // of the goroutines that Run owns
	follows sync.WaitGroup
	stats   Stats
}

// Stats is what a Store counts.
type Stats struct {
	// Reloads counts changes that were taken, Failures those that were not: the
	// last good one stays.
	Reloads, Failures int64
	// Broken is how many references have no good value now, or are not what they
	// refer to any more; Waiting how many secrets have not come yet.
	Broken, Waiting int64
}

// key names what is referred to. Exactly one kind of field is set.
type key struct {
	text       mesh.Data
	chain, key mesh.Data
	pair       bool
	secret     mesh.SecretRef
	named      bool
}

func (k key) String() string {
	switch {
	case k.named:
		return k.secret.String()
	case k.pair:
		return "certificate from " + k.chain.Name() + " with key from " + k.key.Name()
	default:
		return k.text.Name()
	}
}

// item is one thing referred to.
type item struct {
	// version counts changes, among them one from nothing to an error.
	version uint64
	text    string
	leaf    mesh.Leaf
	body    []byte
	edition string // of body, as who brought it calls it
	// next is a secret that is not good, nextRead what it refers to.
	next        []byte
	nextEdition string
	nextRead    *Reading
	// good says that there is a value, put when it came.
	good bool
	put  time.Time
	// err is why there is none, or why the latest is not taken.
	err error
	// since is when err came, told whether it was logged.
	since time.Time
	told  bool
	// used says that somebody was told of it, gone that the control plane has taken it
	// away: then it stays as long as it is used.
	used, gone bool
	// stamps are the files' as they were read.
	stamps [2]stamp
	// stop ends the goroutine that follows a secret; nil if there is none.
	stop context.CancelFunc
}

// New returns a Store in which there is nothing yet.
func New(config Config, log *slog.Logger) *Store {
	if config.Env == nil {
		config.Env = os.LookupEnv
	}
	return &Store{
		config: config, log: log, wake: make(chan struct{}, 1),
		items: map[key]*item{}, servers: map[mesh.SecretSource]Server{},
	}
}

// Set puts a secret of the bootstrap file or the control plane in force, of which
// edition is the version. If it is
// not good the last one stays, and it is tried again as soon as what it refers to
// has changed; if there is none before it, who uses it learns what is wrong with it.
// Who calls Set asks readings by himself whether they are stale: Config.Changed is
// not called.
func (s *Store) Set(ref mesh.SecretRef, body []byte, edition string) error {
	_, err := s.set(ref, body, edition, false)
	return err
}

// set is Set; again says that body is tried once more, unless it is not the next one any
// more.
func (s *Store) set(ref mesh.SecretRef, body []byte, edition string, again bool) (changed bool, err error) {
	read := s.Read()
	bad := s.config.Check(body, read)
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{secret: ref, named: true}
	it := s.items[k]
	if again && (it == nil || it.next == nil || !bytes.Equal(it.next, body)) {
		return false, nil
	}
	if it == nil {
		if len(s.items) >= maxItems {
			return false, errTooMany
		}
		it = &item{}
		s.items[k] = it
	}
	before := it.version
	it.next, it.nextEdition, it.nextRead, it.gone = nil, "", nil, false
	switch asked := ref.Source.Kind == mesh.SecretServer; {
	case bad == nil, !it.good && !asked:
		s.renew(k, it, !it.good || !bytes.Equal(it.body, body), func() { it.body = body })
		it.edition = edition
	case !asked:
		it.next, it.nextEdition, it.nextRead = body, edition, read
		s.broken(k, it, bad, time.Now(), 0)
	case it.good: // the server is told, and may send another
		s.broken(k, it, bad, time.Now(), 0)
	default:
		s.broken(k, it, fmt.Errorf("%w: %w", ErrWaiting, bad), time.Now(), 0)
	}
	if bad != nil {
		err = fmt.Errorf("%s: %w", ref, bad)
	}
	return it.version != before, err
}

// retry tries again what was not good when it came.
func (s *Store) retry() (changed bool) {
	again := map[mesh.SecretRef]item{}
	s.mu.Lock()
	for k, it := range s.items {
		if it.next != nil && s.stale(it.nextRead) {
			again[k.secret] = *it
		}
	}
	s.mu.Unlock()
	for ref, it := range again {
		now, err := s.set(ref, it.next, it.nextEdition, true)
		changed = changed || now && err == nil
	}
	return changed
}

// Remove forgets a secret that the control plane has taken away; one that is used, as
// soon as it is not.
func (s *Store) Remove(ref mesh.SecretRef) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := key{secret: ref, named: true}
	switch it := s.items[k]; {
	case it == nil:
	case !it.used:
		delete(s.items, k)
	default:
		it.next, it.nextEdition, it.nextRead, it.gone = nil, "", nil, true
		s.broken(k, it, errors.New("was taken away by the control plane"), time.Now(), 0)
	}
}

// renew puts a good value in force, by set if it is another one than before.
// Callers hold the lock.
func (s *Store) renew(k key, it *item, changed bool, set func()) {
	switch {
	case it.good && changed:
		s.stats.Reloads++
		s.log.Info("secret changed", "what", k.String())
	case it.told:
		s.log.Info("secret is good now", "what", k.String())
	}
	if changed {
		set()
		it.good, it.put = true, time.Now()
		it.version++
	}
	it.err, it.since, it.told = nil, time.Time{}, false
}

// broken notes why a value is not taken. It is told after patience, since files
// that belong together are written one after the other. Callers hold the lock.
func (s *Store) broken(k key, it *item, err error, now time.Time, patience time.Duration) {
	if it.err == nil || it.err.Error() != err.Error() {
		if it.err == nil {
			it.since = now
		}
		s.stats.Failures++
		it.err, it.told = err, false
		if !it.good && !errors.Is(err, ErrWaiting) {
			it.version++
		}
	}
	if it.told || now.Sub(it.since) < patience {
		return
	}
	it.told = true
	if it.good {
		s.log.Warn("secret is not good, the last good one stays", "what", k.String(), "err", err)
	} else {
		s.log.Warn("secret is not there", "what", k.String(), "err", err)
	}
}

// Shown is a secret for who looks at it. Body is nil as long as it has not come, or is
// not good; else it came At that time, as the version that who brought it says.
type Shown struct {
	Ref     mesh.SecretRef
	Body    []byte
	Version string
	At      time.Time
}

// Secrets returns those that are referred to or were brought, by name.
func (s *Store) Secrets() []Shown {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Shown
	for k, it := range s.items {
		switch {
		case !k.named:
		case it.good:
			all = append(all, Shown{k.secret, it.body, it.edition, it.put})
		default:
			all = append(all, Shown{Ref: k.secret})
		}
	}
	slices.SortFunc(all, func(a, b Shown) int {
		return cmp.Or(cmp.Compare(a.Ref.Name, b.Ref.Name), cmp.Compare(a.Ref.String(), b.Ref.String()))
	})
	return all
}

// Stats returns the counters.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := s.stats
	for _, it := range s.items {
		switch {
		case errors.Is(it.err, ErrWaiting):
			stats.Waiting++
		case it.err != nil:
			stats.Broken++
		}
	}
	return stats
}

// Keep forgets what none of the readings was told, and stops to look after it.
// Secrets that the control plane and the bootstrap file have stay.
func (s *Store) Keep(readings []*Reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := map[key]bool{}
	use := func(r *Reading) {
		for _, need := range r.needs {
			used[need.key] = true
		}
	}
	for _, r := range readings {
		use(r)
	}
	for _, it := range s.items {
		if it.next != nil {
			use(it.nextRead)
		}
	}
	sources := map[mesh.SecretSource]bool{}
	for k, it := range s.items {
		kind := k.secret.Source.Kind
		it.used = used[k]
		switch {
		case it.used:
			if k.named {
				sources[k.secret.Source] = true
			}
			continue
		case k.named && kind != mesh.SecretServer && it.good && !it.gone:
			continue
		case it.stop != nil:
			it.stop()
		}
		delete(s.items, k)
	}
	for source, server := range s.servers {
		if !sources[source] {
			server.Close()
			delete(s.servers, source)
		}
	}
}
