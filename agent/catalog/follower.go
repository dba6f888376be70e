package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// waitTime is how long Consul may hold a query; patience is what we wait
	// longer, since Consul adds up to a sixteenth.
	waitTime = time.Minute
	patience = 20 * time.Second
	// holdFor is how long after an error an empty answer is doubted, and
	// holdWait how long each query then may take.
	holdFor  = time.Minute
	holdWait = 5 * time.Second
	// pace is the least time between two queries.
	pace = 200 * time.Millisecond
	// firstPause between queries that fail doubles up to lastPause.
	firstPause, lastPause = time.Second, 30 * time.Second
)

// follower follows one query. All its state is owned by run.
type follower struct {
	Query
	client *api.Client
	sink   Sink
	log    *slog.Logger

	index  uint64
	pause  time.Duration
	told   string
	last   []mesh.Endpoint
	known  bool // there was an answer
	hidden bool // the last answer was empty for want of permissions
	// doubtUntil is when an empty answer is believed again, after an error.
	doubtUntil time.Time
	holding    bool
}

func (f *follower) run(ctx context.Context) {
	for ctx.Err() == nil {
		begin := time.Now()
		entries, err := f.ask(ctx)
		if ctx.Err() != nil {
			return
		}
		next := pace - time.Since(begin)
		if err != nil {
			next = f.failed(err)
		} else {
			f.answered(ctx, entries)
		}
		if next > 0 && !sleep(ctx, next) {
			return
		}
	}
}

func (f *follower) ask(ctx context.Context) ([]*api.ServiceEntry, error) {
	wait := waitTime
	if f.holding {
		wait = holdWait
	}
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	options := &api.QueryOptions{
		Datacenter: f.Datacenter, WaitIndex: f.index, WaitTime: wait, AllowStale: true,
	}
	entries, meta, err := f.client.Health().Service(f.Service, f.Tag, true, options.WithContext(ctx))
	if err != nil {
		return nil, Explain(err, fmt.Sprintf("service:read on %q", f.Service), "node:read")
	}
	hidden := meta.ResultsFilteredByACLs && len(entries) == 0
	if hidden && !f.hidden {
		f.log.Warn("consul hides instances from this token, which needs service:read on the service and node:read")
	}
	f.hidden = hidden
	if meta.LastIndex < f.index {
		f.index = 0 // Consul has lost its state: begin anew
	} else {
		f.index = meta.LastIndex
	}
	return entries, nil
}

// failed tells of an error once, and how long to wait.
func (f *follower) failed(err error) time.Duration {
	// An agent that comes back may count from a lower index, and would let us
	// wait for one that is long in the future.
	f.index = 0
	f.doubtUntil = time.Time{}
	if text := err.Error(); text != f.told {
		f.log.Warn("catalog not asked, keeping the last instances", "instances", len(f.last), "err", err)
		f.told = text
	}
	f.pause = min(max(2*f.pause, firstPause), lastPause)
	return f.pause/2 + rand.N(f.pause)
}

// answered puts an answer in force.
func (f *follower) answered(ctx context.Context, entries []*api.ServiceEntry) {
	if f.told != "" {
		f.log.Info("catalog answers again")
		f.told, f.pause = "", 0
		f.doubtUntil = time.Now().Add(holdFor)
	}
	endpoints := f.endpoints(ctx, entries)
	if f.doubted(ctx, endpoints) {
		return
	}
	f.holding = false
	if f.known && slices.Equal(endpoints, f.last) {
		return
	}
	if len(endpoints) == 0 {
		f.log.Warn("no passing instance in the catalog")
	}
	f.last, f.known = endpoints, true
	f.sink.SetEndpoints(&mesh.EndpointSet{Name: f.Cluster, Endpoints: slices.Clone(endpoints)})
}

// doubted tells whether an answer is held back: it would empty a service that
// seems to be well, and Consul has only just come back.
func (f *follower) doubted(ctx context.Context, endpoints []mesh.Endpoint) bool {
	if len(endpoints) > 0 || len(f.last) == 0 || !time.Now().Before(f.doubtUntil) || !anyAccepts(ctx, f.last) {
		return false
	}
	if !f.holding {
		f.log.Warn("consul came back and names no passing instance, but they accept: keeping them", "at_most", holdFor)
	}
	f.holding = true
	return true
}

// endpoints makes an answer ours, in an order of its own.
func (f *follower) endpoints(ctx context.Context, entries []*api.ServiceEntry) []mesh.Endpoint {
	var all []mesh.Endpoint
	for _, entry := range entries {
		address, err := addressOf(ctx, entry)
		if err != nil {
			f.log.Warn("instance left out", "id", entry.Service.ID, "err", err)
			continue
		}
		all = append(all, mesh.Endpoint{Address: address, Weight: uint32(min(max(1, entry.Service.Weights.Passing), 128))})
	}
	slices.SortFunc(all, func(a, b mesh.Endpoint) int {
		if n := a.Address.AddrPort.Compare(b.Address.AddrPort); n != 0 {
			return n
		}
		return slices.Compare([]byte(a.Address.Socket), []byte(b.Address.Socket))
	})
	return slices.CompactFunc(all, func(a, b mesh.Endpoint) bool { return a.Address == b.Address })
}

// sleep waits; false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
