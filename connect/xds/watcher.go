package xds

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// Stage takes part in a change in two phases. Prepare does all that can fail
// and changes nothing; commit puts next in force and cannot fail. If another
// stage's Prepare fails, commit is not called. Both are called by one goroutine
// at a time.
//
// A Stage that is about to end says so by [ErrStopped].
type Stage interface {
	Prepare(next *mesh.Snapshot) (commit func(), err error)
}

// ErrStopped is in the error of a Stage that takes nothing any more, since it ends.
// What it serves meanwhile is no fault.
var ErrStopped = errors.New("stopped")

// Refuser is a Stage that tells what it refuses, of what it has committed last,
// beyond what the snapshot itself says: what was understood and yet cannot be
// served, such as a certificate that does not fit its key.
type Refuser interface {
	Refusals() []Refusal
}

// Endpoints takes the endpoint set of a cluster: of one in force at any time,
// of a new one just before the snapshot that brings it is prepared.
type Endpoints interface {
	SetEndpoints(set *mesh.EndpointSet)
}

// Source streams resources: an [ads.Client], or a stand-in for tests.
type Source interface {
	Run(ctx context.Context, handler ads.Handler) error
}

// Config of a Watcher.
type Config struct {
	// ADS says where the control plane is. Its Types need not be set.
	ADS ads.Config
	// Source replaces the client that is made of ADS, if not nil.
	Source Source
	// Static are resources that stand in the bootstrap file.
	Static Static
	// State is where the last good configuration is kept on disk.
	State State
	// Probe tells whether an endpoint accepts connections; nil dials it. The
	// context ends after a second.
	Probe func(ctx context.Context, addr mesh.Address) error
	// Dial leads to the servers of secrets that resources name; nil if none can be
	// asked.
	Dial Dial
}

// Watcher follows the control plane. Make one with New.
type Watcher struct {
	// set by New
	log       *slog.Logger
	source    Source
	probe     func(ctx context.Context, addr mesh.Address) error
	node      ads.Node
	target    mesh.Address
	store     *mesh.Store
	endpoints Endpoints
	stages    []Stage
	keeper    *keeper
	ready     chan struct{}
	// wake makes Run look at the time of the next attempt again.
	wake    chan struct{}
	secrets *secret.Store

	mu        sync.Mutex // guards:
	clusters  *table[mesh.Cluster]
	routes    *table[mesh.Route]
	listeners *table[mesh.Listener]
	sets      map[string]*endpointSet
	// unreadSets are the endpoint sets whose latest bytes cannot be read.
	unreadSets unread
	// receivedSecrets are those of the stream, by name.
	receivedSecrets map[string]ads.Resource
	// served are the endpoint sets that clusters in force use.
	served map[string]bool
	// force is the snapshot in force, whole that it was not made of static
	// resources alone; next is when to try again for another.
	force   *mesh.Snapshot
	whole   bool
	next    time.Time
	refused refused
	// readings are what secrets were kept for last; isReady says that ready is closed.
	readings []*secret.Reading
	isReady  bool
	// reconnected is when the stream was last opened again.
	reconnected time.Time
	told        told
	history     history
	holds       sync.WaitGroup
	// holding is the context of holds; nil while Run does not run.
	holding context.Context //nolint:containedctx // of the goroutines that Run owns

	statusMu sync.Mutex // guards:
	status   Status
	counts   counts
	// inForceBefore is what was counted last as being in force.
	inForceBefore *mesh.Snapshot
}

// New returns a Watcher that puts snapshots in force by stages, in this order,
// and then publishes them in store.
func New(cfg Config, store *mesh.Store, endpoints Endpoints, stages []Stage, log *slog.Logger) (*Watcher, error) {
	w := &Watcher{
		log: log, source: cfg.Source, probe: cfg.Probe, node: cfg.ADS.Node, target: cfg.ADS.Target,
		store: store, endpoints: endpoints, stages: stages,
		ready: make(chan struct{}), wake: make(chan struct{}, 1),
		sets: map[string]*endpointSet{}, unreadSets: unread{}, receivedSecrets: map[string]ads.Resource{},
	}
	w.secrets = w.newSecrets(&cfg)
	w.clusters = newTable(resource.Reader.Cluster, func(c *mesh.Cluster) string { return c.Name }, w.secrets)
	w.listeners = newTable(resource.Reader.Listener, func(l *mesh.Listener) string { return l.Name }, w.secrets)
	w.routes = newTable(func(_ resource.Reader, body []byte) (*mesh.Route, []string, error) { return resource.Route(body) },
		func(r *mesh.Route) string { return r.Name }, w.secrets)
	var err error
	if w.keeper, err = newKeeper(cfg.State, w.node.ID); err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	w.told.reset()
	if w.probe == nil {
		w.probe = dial
	}
	w.addStatic(&cfg.Static, time.Now())
	if w.source != nil {
		return w, nil
	}
	if len(cfg.ADS.Types) == 0 {
		cfg.ADS.Types = resource.Types()
	}
	client, err := ads.New(cfg.ADS)
	if err != nil {
		return nil, fmt.Errorf("xds: %w", err)
	}
	w.source = client
	return w, nil
}

// Ready is closed once the first whole snapshot is in force.
func (w *Watcher) Ready() <-chan struct{} { return w.ready }

// Received is what the control plane has told of last, by name, whether it is in
// force or not.
func (w *Watcher) Received() (clusters map[string]*mesh.Cluster, listeners map[string]*mesh.Listener) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.clusters.told(), w.listeners.told()
}

// Run follows the control plane until ctx ends. Whatever happens to the stream,
// what is in force stays.
func (w *Watcher) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w.mu.Lock()
	w.holding = ctx
	w.mu.Unlock()
	w.startStatic(time.Now())
	w.restore(time.Now())
	var clock sync.WaitGroup
	clock.Go(func() { w.tick(ctx) })
	clock.Go(func() { w.keep(ctx) })
	clock.Go(func() {
		if err := w.secrets.Run(ctx); err != nil && ctx.Err() == nil {
			w.log.Error("secrets are not looked after any more", "err", err)
		}
	})
	err := w.source.Run(ctx, handler{w})
	cancel()
	w.mu.Lock()
	w.holding = nil
	w.mu.Unlock()
	clock.Wait()
	w.holds.Wait()
	return err
}

// tick tries again when a wait is over.
func (w *Watcher) tick(ctx context.Context) {
	for {
		w.mu.Lock()
		next := w.due()
		w.mu.Unlock()
		var due <-chan time.Time
		if !next.IsZero() {
			due = time.After(time.Until(next))
		}
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		case <-due:
			w.mu.Lock()
			w.assemble(time.Now())
			w.mu.Unlock()
		}
	}
}

// assemble puts the next snapshot in force, if it is whole and not the same.
func (w *Watcher) assemble(now time.Time) {
	p := w.plan(now)
	clusters, listeners := warming(w.clusters, p.next.Clusters), warming(w.listeners, p.next.Listeners)
	w.change(func(s *Status) { s.WarmingClusters, s.WarmingListeners = clusters, listeners })
	w.dropSets()
	before := w.due()
	defer func() {
		if w.due() != before {
			select {
			case w.wake <- struct{}{}:
			default: // told already
			}
		}
	}()
	w.next = p.wake
	w.keepSecrets()
	first := !w.whole && p.complete()
	if !w.whole && !first {
		p.onlyStatic()
	}
	if (p.same() && !first) || (w.force == nil && !first && !w.hasStatic()) {
		w.takenBack()
		w.announce(p)
		return
	}
	if w.refused.is(p.next) && now.Before(w.refused.again) {
		w.change(func(s *Status) { s.LastError = w.refused.err.Error() })
		return
	}
	w.deliver(p.next)
	p.next.Version = 1
	if w.force != nil {
		p.next.Version = w.force.Version + 1
	}
	commits, err := w.prepare(p.next)
	if err != nil {
		if !errors.Is(err, ErrStopped) { // which no time heals
			w.refused.note(p.next, err, now)
		}
		w.failed(err)
		return
	}
	w.takenBack()
	for _, commit := range commits {
		commit()
	}
	w.store.Swap(p.next)
	w.history.snapshot(changeOf(w.force, p.next, now))
	w.force = p.next
	w.serve(p.next)
	w.inForce(p.next, now)
	w.whole = w.whole || first
	w.announce(p)
}

// announce tells once that we are ready: when the first whole snapshot is in force
// and the secrets that it needs have come, or were waited for.
func (w *Watcher) announce(p *plan) {
	if w.whole && !p.asks && !w.isReady {
		w.isReady = true
		close(w.ready)
	}
}

func (w *Watcher) prepare(next *mesh.Snapshot) ([]func(), error) {
	var commits []func()
	for _, stage := range w.stages {
		commit, err := stage.Prepare(next)
		if err != nil {
			return nil, err
		}
		if commit != nil {
			commits = append(commits, commit)
		}
	}
	return commits, nil
}
