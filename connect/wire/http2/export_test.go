package http2

// Poison makes b overwrite what is given back, to show who still looks at it.
func (b *Buffers) Poison() { b.poison = true }
