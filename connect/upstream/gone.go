package upstream

import "github.com/serai-net/serai/connect/stats"

// Gone is what clusters of that stat name have counted that are no more; nil if there
// were none. Counters do not go back as long as one of the name is there.
func (s *Set) Gone(statName string) *stats.Sum {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.gone[statName]
	if kept == nil {
		return nil
	}
	own := &stats.Sum{} // who reads it has no lock
	own.AddAll(kept)
	return own
}

// keep keeps what a cluster has counted that goes. Callers hold the lock.
func (s *Set) keep(c *Cluster) {
	all := c.counted()
	name := all.StatName()
	sum := s.gone[name]
	if sum == nil {
		sum = &stats.Sum{}
		s.gone[name] = sum
	}
	all.Each("", func(one stats.Stat) bool {
		sum.Add(one)
		return true
	})
	sum.Keep()
}

// forget drops what nobody asks for any more. Callers hold the lock.
func (s *Set) forget() {
	if len(s.gone) == 0 {
		return
	}
	living := map[string]bool{}
	for _, c := range *s.clusters.Load() {
		living[statName(c.config.Load().Cluster)] = true
	}
	for name := range s.gone {
		if !living[name] {
			delete(s.gone, name)
		}
	}
}
