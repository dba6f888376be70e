package agent

import (
	"context"
	"log/slog"
	"time"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/edge"
)

// gateway is the role of the block edge.
type gateway struct{ *edge.Gateway }

func newEdge(c *config.Config, d deps) (role, error) {
	follower := &follower{consul: d.consul, client: d.client, service: c.Edge.ServiceName(), metrics: d.metrics, log: d.log}
	g, err := edge.New(*c.Edge, edge.Deps{
		Log: d.log, Stdout: d.stdout, Metrics: d.metrics, Consul: d.client, Mesh: follower.watch,
	})
	if err != nil {
		return nil, err
	}
	return gateway{g}, nil
}

func (g gateway) reload(c *config.Config) error { return g.Reload(*c.Edge) }

// follower follows xDS for the edge.
type follower struct {
	consul  catalog.Config
	client  *catalog.Client
	service string
	metrics *telemetry.Metrics
	log     *slog.Logger
}

// firstPause doubles up to lastPause while Consul cannot be asked where its xDS is.
const firstPause, lastPause = 250 * time.Millisecond, 5 * time.Second

// watch implements [edge.MeshWatcher].
func (f *follower) watch(ctx context.Context, proxyID string, endpoints *upstream.Set, stage edge.Stage) error {
	pause := firstPause
	for {
		source, err := ADS(ctx, f.client, f.consul, catalog.Proxy{ID: proxyID, Service: f.service})
		if err == nil {
			var store mesh.Store
			watcher, err := xds.New(xds.Config{ADS: source}, &store, endpoints, []xds.Stage{stage}, f.log)
			if err != nil {
				return err
			}
			f.metrics.Add(controlPlane(watcher))
			return watcher.Run(ctx)
		}
		if !catalog.Heals(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
	}
}
