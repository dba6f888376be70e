package upstream

import (
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// hosts is the endpoint set of a cluster, made ready for picking. It is
// immutable and swapped whole.
type hosts struct {
	all []*Host
	// healthy counts those that the control plane calls so, usable those that
	// are in the schedule.
	healthy, usable int
	// schedule is the order in which hosts are taken: each as often as its
	// weight says, spread evenly. Unhealthy hosts are in it only in a panic.
	schedule []*Host
}

// maxSchedule bounds a schedule; weights beyond it are scaled down.
const maxSchedule = 4096

// setEndpoints joins the new set with the hosts that are there, or makes all
// anew if they are not to be kept. An address that occurs twice counts once.
// Callers hold the set's lock.
func (c *Cluster) setEndpoints(set *mesh.EndpointSet, keep bool) {
	gone := map[mesh.Address]*Host{}
	for _, h := range c.hosts.Load().all {
		gone[h.address] = h
	}
	next := &hosts{}
	if set != nil {
		seen := make(map[mesh.Address]bool, len(set.Endpoints))
		for i := range set.Endpoints {
			endpoint := &set.Endpoints[i]
			if seen[endpoint.Address] {
				continue
			}
			seen[endpoint.Address] = true
			h := gone[endpoint.Address]
			if h == nil || !keep {
				h = &Host{address: endpoint.Address, text: endpoint.Address.String()}
			} else {
				delete(gone, endpoint.Address)
			}
			h.endpoint.Store(endpoint)
			next.all = append(next.all, h)
		}
	}
	next.plan(c.config.Load().PanicPercent)
	c.hosts.Store(next)
	for _, h := range gone {
		h.close()
	}
}

// set is the endpoints as they were given.
func (hs *hosts) set() *mesh.EndpointSet {
	set := &mesh.EndpointSet{Endpoints: make([]mesh.Endpoint, len(hs.all))}
	for i, h := range hs.all {
		set.Endpoints[i] = *h.endpoint.Load()
	}
	return set
}

// plan makes the schedule of the healthy hosts of the best priority (0 is
// better than 1) that has any.
func (hs *hosts) plan(panicPercent uint32) {
	var usable []*Host
	var best uint32
	for _, h := range hs.all {
		endpoint := h.endpoint.Load()
		if endpoint.Health != mesh.Healthy {
			continue
		}
		hs.healthy++
		if len(usable) == 0 || endpoint.Priority < best {
			best, usable = endpoint.Priority, nil
		}
		if endpoint.Priority == best {
			usable = append(usable, h)
		}
	}
	if len(hs.all) > 0 && uint32(100*hs.healthy/len(hs.all)) < panicPercent {
		usable = hs.all
	}
	hs.usable = len(usable)
	hs.schedule = spread(usable)
}

// spread makes a schedule by smooth weighted round robin: at each step every
// host gains its weight, the richest is taken and pays the total.
func spread(all []*Host) []*Host {
	weights := make([]int, len(all))
	divisor, total := 0, 0
	for i, h := range all {
		weights[i] = int(max(1, h.endpoint.Load().Weight))
		divisor = gcd(divisor, weights[i])
	}
	for i := range weights {
		weights[i] /= divisor
		total += weights[i]
	}
	for total > maxSchedule && total > len(all) {
		total = 0
		for i := range weights {
			weights[i] = max(1, weights[i]/2)
			total += weights[i]
		}
	}
	if total == len(all) {
		return all
	}
	schedule := make([]*Host, 0, total)
	credit := make([]int, len(all))
	for range total {
		best := 0
		for i := range credit {
			credit[i] += weights[i]
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		schedule = append(schedule, all[best])
	}
	return schedule
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// pick returns the next host that is not paused and not in tried. If all are
// paused, the next that was not tried is as good as any; nil if there is none.
func (c *Cluster) pick(now time.Time, tried []*Host) *Host {
	schedule := c.hosts.Load().schedule
	if len(schedule) == 0 {
		return nil
	}
	start := int(c.turn.Add(1) % uint64(len(schedule)))
	var second *Host
	for i := range schedule {
		h := schedule[(start+i)%len(schedule)]
		if slices.Contains(tried, h) {
			continue
		}
		if !h.paused(now) {
			return h
		}
		if second == nil {
			second = h
		}
	}
	return second
}
