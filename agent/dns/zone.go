package dns

import (
	"context"
	"net/netip"
	"time"

	"github.com/serai-net/serai/agent/catalog"
)

// zone answers for all names at and below its origin. It is safe for concurrent
// use.
type zone interface {
	// answer returns the reply, never nil. It may wait for somebody else's
	// answer until ctx ends, which has the server's deadline.
	answer(ctx context.Context, q *question) *reply
}

// Catalog is what zones know of Consul; [catalog.Index] is one.
type Catalog interface {
	Mesh
	Services
	// Ready returns nil when all was seen once, else what is missing.
	Ready() error
	// Settings are what the agent says of itself, zero before Ready.
	Settings() catalog.Settings
	// Stale returns since when Consul has not answered; zero if it does.
	Stale() time.Time
}

// Mesh is who is in the mesh, and who may call whom.
type Mesh interface {
	// Workloads are those whose sidecar is at the address, on any node.
	Workloads(address netip.Addr) []catalog.Workload
	// Workload are those whose sidecar has the ID name, or else those of the
	// service of that name.
	Workload(name string) []catalog.Workload
	// Decide tells whether a service may call another.
	Decide(ctx context.Context, source, destination string) catalog.Decision
}

// Services are what Consul's catalog has of a datacenter, "" for the agent's
// own. Errors are [catalog.ErrNoService], [catalog.ErrNoNode],
// [catalog.ErrNoDatacenter], or why Consul could not be asked.
type Services interface {
	Instances(ctx context.Context, service, datacenter string) ([]catalog.Instance, error)
	Node(ctx context.Context, name, datacenter string) (*catalog.Node, error)
	// Datacenter returns nil if Consul knows the datacenter.
	Datacenter(ctx context.Context, name string) error
}

var _ Catalog = (*catalog.Index)(nil)
