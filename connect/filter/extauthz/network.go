package extauthz

import (
	"context"
	"errors"
	"fmt"
	"time"

	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// Gate asks about connections. It is safe for concurrent use.
type Gate struct {
	filter        *filter
	total, closed *stats.Counter
	active        *stats.Gauge
}

// NewGate compiles a network filter, which asks by gRPC.
func NewGate(c *mesh.ExtAuthz, place Place) (*Gate, error) {
	f, err := compile(c, place)
	if err != nil {
		return nil, err
	}
	s := place.Stats
	return &Gate{filter: f, total: s.Counter("total"), closed: s.Counter("cx_closed"), active: s.Gauge("active")}, nil
}

var errDenied = errors.New("the service does not allow it")

// Admit returns why a connection may not be served, nil if it may. It ends with
// ctx. Unlike Envoy we ask before the client has sent its
// first byte, so that no protocol in which the server speaks first passes
// unasked.
func (g *Gate) Admit(ctx context.Context, peer *wire.Peer) error {
	f := g.filter
	g.total.Add(1)
	g.active.Add(1)
	defer g.active.Add(-1)
	asked, cancel := context.WithTimeout(ctx, max(f.Service.Timeout, time.Millisecond))
	defer cancel()
	v, err := f.askGRPC(asked, f.place.Find(f.Service.Cluster), &authv3.CheckRequest{Attributes: f.connection(peer)})
	switch {
	case ctx.Err() != nil: // the connection is over, and nothing was wrong with the service
		return fmt.Errorf("ext_authz: %w", context.Cause(ctx))
	case err != nil:
		f.failed.Add(1)
		if f.FailOpen {
			f.failOpen.Add(1)
			return nil
		}
	case v.allowed:
		f.ok.Add(1)
		return nil
	default:
		f.denied.Add(1)
		err = errDenied
	}
	g.closed.Add(1)
	return fmt.Errorf("ext_authz: %w", err)
}
