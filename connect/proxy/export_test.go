package proxy

import (
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
)

// Compiled is how many listeners were compiled so far.
func (p *Proxy) Compiled() int64 { return p.chains.compiled.Load() }

// Use puts the listeners of a snapshot in force.
func (p *Proxy) Use(next *mesh.Snapshot) error {
	commit, err := p.chains.Prepare(next)
	if err == nil {
		commit()
	}
	return err
}

// Registry is what is counted.
func (p *Proxy) Registry() *stats.Registry { return &p.registry }
