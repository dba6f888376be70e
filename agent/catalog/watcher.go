package catalog

import (
	"context"
	"log/slog"
	"sync"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/mesh"
)

// Query asks for the passing instances of one service.
type Query struct {
	// Cluster is the name of the EndpointSet that answers become.
	Cluster string
	// Service in Consul's catalog; Tag "" is any, Datacenter "" the agent's own.
	Service, Tag, Datacenter string
}

// Sink takes endpoints; upstream.Set is one.
type Sink interface {
	SetEndpoints(set *mesh.EndpointSet)
}

// Watcher follows queries. It is safe for concurrent use.
type Watcher struct {
	// set by NewWatcher
	client *api.Client
	sink   Sink
	log    *slog.Logger
	wake   chan struct{}

	mu     sync.Mutex // guards:
	wanted map[Query]bool
}

// NewWatcher returns a Watcher without queries; client may be nil as long as
// there are none.
func NewWatcher(client *api.Client, sink Sink, log *slog.Logger) *Watcher {
	return &Watcher{client: client, sink: sink, log: log, wake: make(chan struct{}, 1)}
}

// Watch replaces the queries. Those that stay are not interrupted.
func (w *Watcher) Watch(queries []Query) {
	wanted := make(map[Query]bool, len(queries))
	for _, q := range queries {
		wanted[q] = true
	}
	w.mu.Lock()
	w.wanted = wanted
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run follows the queries until ctx ends. Endpoints stay as they are then.
func (w *Watcher) Run(ctx context.Context) error {
	var following sync.WaitGroup
	defer following.Wait()
	running := map[Query]context.CancelFunc{}
	defer func() {
		for _, stop := range running {
			stop()
		}
	}()
	for {
		w.mu.Lock()
		wanted := w.wanted
		w.mu.Unlock()
		for q, stop := range running {
			if !wanted[q] {
				stop()
				delete(running, q)
			}
		}
		for q := range wanted {
			if running[q] == nil {
				one, stop := context.WithCancel(ctx)
				running[q] = stop
				f := &follower{Query: q, client: w.client, sink: w.sink, log: w.log.With("service", q.Service)}
				following.Go(func() { (&loop{question: f}).run(one) })
			}
		}
		select {
		case <-w.wake:
		case <-ctx.Done():
			return nil
		}
	}
}
