package mesh

import "net/netip"

// Place is where a workload runs. Zones of two regions may have one name. The zero
// Place is unknown.
type Place struct{ Region, Zone string }

// Distance is 0 within a zone, 1 within a region and 2 beyond it, also where either
// place is unknown.
func (p Place) Distance(other Place) uint8 {
	switch {
	case p == Place{} || other == Place{} || p.Region != other.Region:
		return 2
	case p.Zone != "" && p.Zone == other.Zone:
		return 0
	case p.Region == "":
		return 2
	default:
		return 1
	}
}

// Map tells where we and others are.
type Map struct {
	Own Place
	// Places of IP addresses.
	Places map[netip.Addr]Place
}

// Distance to an address; a nil Map and one that does not know our own place have
// all at the same distance.
func (m *Map) Distance(a Address) uint8 {
	if m == nil || m.Own == (Place{}) || a.Socket != "" {
		return 2
	}
	return m.Own.Distance(m.Places[a.AddrPort.Addr().Unmap()])
}
