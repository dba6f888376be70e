package upstream

import (
	"cmp"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	defaultMinRing = 1024
	defaultMaxRing = 8 << 20
	// mostRing bounds the memory of one ring, 16 bytes a point, whatever is asked for.
	mostRing     = 8 << 20
	defaultTable = 65537
	// mostTable is Envoy's bound.
	mostTable = 5000011
)

// ring is a ring of points, some for each host. A request goes to the first point
// at or after its hash, so a host that leaves takes only its own requests along.
// Points are where Envoy has them, so proxies of both kinds choose alike.
type ring struct {
	points []point
	hosts  []*Host
}

type point struct {
	hash uint64
	host uint32 // index in hosts
}

func newRing(b *mesh.Balance, hosts []*Host, weights []float64) *ring {
	low, high := float64(cmp.Or(b.MinRing, defaultMinRing)), float64(min(cmp.Or(b.MaxRing, defaultMaxRing), mostRing))
	shares, least, _ := normal(hosts, weights)
	// As many points that the lightest host has a whole number of them, and all
	// together at least low.
	scale := min(math.Ceil(least*low)/least, high)
	r := &ring{hosts: hosts, points: make([]point, 0, int(math.Ceil(scale)))}
	var key []byte
	current, target := 0.0, 0.0
	for i, h := range hosts {
		key = append(append(key[:0], h.hashKey(b)...), '_')
		size := len(key)
		target += scale * shares[i]
		for n := uint64(0); current < target; n++ {
			key = strconv.AppendUint(key[:size], n, 10)
			hash := xxhash.Sum64
			if b.Murmur {
				hash = murmur
			}
			r.points = append(r.points, point{hash(key), uint32(i)})
			current++
		}
	}
	slices.SortStableFunc(r.points, func(a, b point) int { return cmp.Compare(a.hash, b.hash) })
	return r
}

func (r *ring) candidate(seed uint64, n int) *Host {
	at := sort.Search(len(r.points), func(i int) bool { return r.points[i].hash >= seed })
	return r.hosts[r.points[(at+n)%len(r.points)].host]
}

// maglev is a table in which every host has places by its weight, each host having
// its own order of preference (Eisenbud et al., "Maglev", NSDI 2016).
type maglev struct {
	table []uint16 // index in hosts
	hosts []*Host
}

// seat is a host's claim to places in a maglev table.
type seat struct {
	host               *Host
	key                string
	offset, skip, next uint64
	weight, target     float64
}

func newMaglev(b *mesh.Balance, hosts []*Host, weights []float64) *maglev {
	size := min(cmp.Or(b.Table, defaultTable), mostTable)
	shares, _, most := normal(hosts, weights)
	seats := make([]seat, len(hosts))
	for i, h := range hosts {
		key := h.hashKey(b)
		seeded := xxhash.NewWithSeed(1)
		seeded.WriteString(key) //nolint:errcheck // never fails
		seats[i] = seat{
			host: h, key: key, weight: shares[i],
			offset: xxhash.Sum64String(key) % size, skip: seeded.Sum64()%(size-1) + 1,
		}
	}
	// In one order for all, whatever that of the endpoints is: who comes first has
	// the place that two want.
	slices.SortStableFunc(seats, func(a, b seat) int { return strings.Compare(a.key, b.key) })
	seats = seats[:min(len(seats), math.MaxUint16)]
	m := &maglev{table: make([]uint16, size), hosts: make([]*Host, len(seats))}
	for i := range seats {
		m.hosts[i] = seats[i].host
	}
	m.fill(seats, most)
	return m
}

// fill gives every place of the table to a seat.
func (m *maglev) fill(seats []seat, most float64) {
	size := uint64(len(m.table))
	taken := make([]bool, size)
	for filled, round := uint64(0), 1.0; filled < size; round++ {
		for i := range seats {
			s := &seats[i]
			// The heaviest has its turn in every round, others in some.
			if filled == size || round*s.weight < s.target {
				continue
			}
			s.target += most
			at := (s.offset + s.skip*s.next) % size
			for taken[at] {
				s.next++
				at = (s.offset + s.skip*s.next) % size
			}
			taken[at], m.table[at] = true, uint16(i)
			s.next++
			filled++
		}
	}
}

func (m *maglev) candidate(seed uint64, n int) *Host {
	if n > 0 {
		seed ^= -uint64(n) // another place, the same for everyone (Envoy's)
	}
	return m.hosts[m.table[seed%uint64(len(m.table))]]
}

// normal are the shares of weights in their sum, with the least and the most.
func normal(hosts []*Host, weights []float64) (shares []float64, least, most float64) {
	shares = make([]float64, len(hosts))
	sum := 0.0
	for i := range shares {
		if shares[i] = 1; weights != nil {
			shares[i] = max(weights[i], math.SmallestNonzeroFloat32)
		}
		sum += shares[i]
	}
	least = math.Inf(1)
	for i := range shares {
		shares[i] /= sum
		least, most = min(least, shares[i]), max(most, shares[i])
	}
	return shares, least, most
}

// hashKey is what a host is placed by.
func (h *Host) hashKey(b *mesh.Balance) string {
	if name := h.Name(); b.HashHostname && name != "" {
		return name
	}
	return h.text
}
