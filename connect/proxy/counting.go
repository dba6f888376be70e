package proxy

import (
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
)

// counter counts by Envoy's names what passes an HTTP chain.
func (cs *chains) counter(l *mesh.Listener, d *mesh.FilterChain) *stack.HTTPCounter {
	return stack.CountHTTP(cs.clusters.Registry(), d.HTTP.StatPrefix, l.Address.String())
}
