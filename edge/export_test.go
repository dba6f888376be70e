package edge

// MeshStage is what follows Consul's snapshots.
func (g *Gateway) MeshStage() Stage { return g.mesh }
