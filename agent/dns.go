package agent

import (
	"context"
	"fmt"
	"sync"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/agent/dns"
)

// resolver is the role of the block dns: the server, and what it knows of
// Consul.
type resolver struct {
	*dns.Server
	index *catalog.Index
}

func newDNS(c *config.Config, d deps) (role, error) {
	log := d.log.With("role", "dns")
	index := catalog.NewIndex(d.client, catalog.IndexConfig{Workloads: c.DNS.Workloads()}, log)
	server, err := dns.New(*c.DNS, dns.Deps{Catalog: index, Log: log})
	if err != nil {
		return nil, err
	}
	r := &resolver{Server: server, index: index}
	d.metrics.Add(r.samples())
	return r, nil
}

// Run serves until ctx ends; the index is kept until the last query has its
// answer.
func (r *resolver) Run(ctx context.Context) error {
	following, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var running sync.WaitGroup
	var failed error
	running.Go(func() { failed = r.index.Run(following) })
	err := r.Server.Run(ctx)
	stop()
	running.Wait()
	if err == nil && failed != nil {
		err = fmt.Errorf("dns: %w", failed)
	}
	return err
}

func (r *resolver) reload(c *config.Config) error { return r.Reload(*c.DNS) }
