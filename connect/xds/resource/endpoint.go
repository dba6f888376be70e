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
	for i, group := range msg.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			endpoint, name, err := d.endpoint(e, group, i)
			if err == nil && name != "" {
				err = fmt.Errorf("address: a host name in place of an IP address")
			}
			if err != nil {
				d.note("endpoint is left out: %v", err)
				continue
			}
			set.Endpoints = append(set.Endpoints, endpoint)
		}
	}
	if len(msg.GetPolicy().GetDropOverloads()) > 0 {
		d.note("ClusterLoadAssignment.policy.drop_overloads is ignored")
	}
	return set, d.notes, nil
}

// endpointSet reads the endpoints in a cluster: those with an address, and the
// names of the others.
func (d *decoder) endpointSet(msg *endpointv3.ClusterLoadAssignment) (*mesh.EndpointSet, []string, error) {
	set := &mesh.EndpointSet{Name: msg.GetClusterName()}
	var names []string
	for i, group := range msg.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			endpoint, name, err := d.endpoint(e, group, i)
			switch {
			case err != nil:
				return nil, nil, err
			case name != "":
				names = append(names, name)
			default:
				set.Endpoints = append(set.Endpoints, endpoint)
			}
		}
	}
	return set, names, nil
}

// endpoint reads one of the endpoints of a group, which is the number-th.
func (d *decoder) endpoint(msg *endpointv3.LbEndpoint, group *endpointv3.LocalityLbEndpoints, number int) (mesh.Endpoint, string, error) {
	addr, name, err := address(msg.GetEndpoint().GetAddress())
	if err != nil {
		return mesh.Endpoint{}, "", err
	}
	if addr.Socket == "" && name == "" && addr.AddrPort.Port() == 0 {
		return mesh.Endpoint{}, "", fmt.Errorf("address: %s has no port", addr)
	}
	e := mesh.Endpoint{
		Address: addr, Hostname: msg.GetEndpoint().GetHostname(),
		Weight: max(1, msg.GetLoadBalancingWeight().GetValue()), Priority: group.GetPriority(),
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
		d.note("degraded endpoints count as healthy")
	default:
		e.Health = mesh.Healthy
	}
	return e, name, nil
}
