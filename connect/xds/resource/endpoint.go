package resource

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Endpoints reads the endpoints of a cluster. An endpoint whose address is
// not understood is left out, with a note.
func Endpoints(body []byte) (*mesh.EndpointSet, []string, error) {
	msg := &endpointv3.ClusterLoadAssignment{}
	if err := parse(body, msg); err != nil {
		return nil, nil, err
	}
	d := &decoder{}
	set := &mesh.EndpointSet{Name: msg.GetClusterName()}
	count := 0
	for _, group := range msg.GetEndpoints() {
		count += len(group.GetLbEndpoints())
	}
	set.Endpoints = make([]mesh.Endpoint, 0, count) // there may be thousands of sets: no room to grow
	for i, group := range msg.GetEndpoints() {
		if err := d.group(group); err != nil {
			d.note("%v", err)
		}
		for _, e := range group.GetLbEndpoints() {
			endpoint, name, err := d.endpoint(e, group, i)
			if err == nil && name.Host != "" {
				err = fmt.Errorf("address: a host name in place of an IP address")
			}
			if err != nil {
				d.note("endpoint is left out: %v", err)
				continue
			}
			set.Endpoints = append(set.Endpoints, endpoint)
		}
	}
	if err := d.loadPolicy(msg.GetPolicy(), set); err != nil {
		d.note("%v", err)
	}
	return set, d.notes, nil
}

// loadPolicy reads how priorities share the load.
func (d *decoder) loadPolicy(msg *endpointv3.ClusterLoadAssignment_Policy, set *mesh.EndpointSet) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "overprovisioning_factor", "drop_overloads weighted_priority_health - endpoint_stale_after"); err != nil {
		return err
	}
	if factor := msg.GetOverprovisioningFactor(); factor != nil {
		if set.Overprovisioning = factor.GetValue(); set.Overprovisioning == 0 {
			return fmt.Errorf("overprovisioning_factor is 0")
		}
	}
	return nil
}

// group looks for endpoints of a group that stand elsewhere than in its list: there are
// none then.
func (d *decoder) group(msg *endpointv3.LocalityLbEndpoints) error {
	return d.only(msg, "locality lb_endpoints load_balancing_weight priority", "- metadata proximity")
}

// endpointSet reads the endpoints in a cluster: those with an address, and the
// names of the others.
func (d *decoder) endpointSet(msg *endpointv3.ClusterLoadAssignment) (*mesh.EndpointSet, []mesh.DNSName, error) {
	set := &mesh.EndpointSet{Name: msg.GetClusterName()}
	var names []mesh.DNSName
	if err := d.loadPolicy(msg.GetPolicy(), set); err != nil {
		return nil, nil, err
	}
	for i, group := range msg.GetEndpoints() {
		if err := d.group(group); err != nil {
			return nil, nil, err
		}
		var where *mesh.Locality
		if l := group.GetLocality(); l.GetRegion() != "" || l.GetZone() != "" || l.GetSubZone() != "" {
			where = &mesh.Locality{Region: l.GetRegion(), Zone: l.GetZone(), SubZone: l.GetSubZone()}
		}
		for _, e := range group.GetLbEndpoints() {
			endpoint, name, err := d.endpoint(e, group, i)
			endpoint.Where, name.Endpoint.Where = where, where
			switch {
			case err != nil:
				return nil, nil, err
			case name.Host != "":
				names = append(names, name)
			default:
				set.Endpoints = append(set.Endpoints, endpoint)
			}
		}
	}
	return set, names, nil
}

// endpoint reads one of the endpoints of a group, which is the number-th. One with a
// host name in place of an address comes back as name.
func (d *decoder) endpoint(
	msg *endpointv3.LbEndpoint, group *endpointv3.LocalityLbEndpoints, number int,
) (e mesh.Endpoint, name mesh.DNSName, err error) {
	addr, host, err := address(msg.GetEndpoint().GetAddress())
	if err != nil {
		return e, name, err
	}
	if addr.Socket == "" && host == "" && addr.AddrPort.Port() == 0 {
		return e, name, fmt.Errorf("address: %s has no port", addr)
	}
	e = mesh.Endpoint{
		Address: addr, Hostname: msg.GetEndpoint().GetHostname(),
		Weight: max(1, msg.GetLoadBalancingWeight().GetValue()), Priority: group.GetPriority(),
		Metadata: d.filterMetadata(msg.GetMetadata()),
	}
	if w := group.GetLoadBalancingWeight(); w != nil {
		e.Locality, e.LocalityWeight = uint32(number), w.GetValue()
	}
	switch msg.GetHealthStatus() {
	case corev3.HealthStatus_UNHEALTHY, corev3.HealthStatus_TIMEOUT:
		e.Health = mesh.Unhealthy
	case corev3.HealthStatus_DRAINING:
		e.Health = mesh.Draining
	case corev3.HealthStatus_DEGRADED:
		e.Health = mesh.Degraded
	default:
		e.Health = mesh.Healthy
	}
	if msg.GetEndpoint().GetHealthCheckConfig() != nil {
		d.note("Endpoint.health_check_config is ignored: an endpoint is checked where it serves")
	}
	for _, other := range msg.GetEndpoint().GetAdditionalAddresses() {
		more, text, err := address(other.GetAddress())
		if err != nil || text != "" || more.Socket != "" || host != "" || addr.Socket != "" {
			return e, name, fmt.Errorf("additional_addresses: only IP addresses are supported")
		}
		e.Others = append(e.Others, more.AddrPort)
	}
	if host != "" {
		name, err = mesh.ParseDNSName(host)
		name.Endpoint = e
	}
	return e, name, err
}
