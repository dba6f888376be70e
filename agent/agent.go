// Package agent runs any set of Serai's roles in one process, from one
// configuration. It is the only package that knows all parts.
package agent

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/edge"
)

// Agent is a process with its roles; now that is the edge.
type Agent struct {
	gateway *edge.Gateway
}

// errNoRole: nothing to run.
var errNoRole = errors.New("the configuration has no edge block, so there is nothing to run")

// New makes an Agent. The whole configuration is checked and nothing is bound
// before Run. consul says how to reach Consul, all defaults filled in; stdout
// takes access logs whose path is "-".
func New(c *config.Config, consul catalog.Config, stdout io.Writer, log *slog.Logger) (*Agent, error) {
	if c.Edge == nil {
		return nil, errNoRole
	}
	client, err := catalog.NewClient(consul)
	if err != nil {
		return nil, err
	}
	follower := &follower{consul: consul, client: client, service: c.Edge.ServiceName(), log: log}
	gateway, err := edge.New(*c.Edge, edge.Deps{Log: log, Stdout: stdout, Consul: client, Mesh: follower.watch})
	if err != nil {
		return nil, err
	}
	return &Agent{gateway: gateway}, nil
}

// Run serves until ctx ends, and then drains. The error is of what could not
// begin.
func (a *Agent) Run(ctx context.Context) error { return a.gateway.Run(ctx) }

// Reload puts another configuration in force. On an error the old one stays.
func (a *Agent) Reload(c *config.Config) error {
	if c.Edge == nil {
		return errNoRole
	}
	return a.gateway.Reload(*c.Edge)
}

// Ready returns nil if traffic should be sent here, else the reason.
func (a *Agent) Ready() error { return a.gateway.Ready() }

// follower follows xDS for the edge.
type follower struct {
	consul  catalog.Config
	client  *catalog.Client
	service string
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
