package resource

import (
	"fmt"
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// maxPort is the largest port.
const maxPort = 65535

// connectionPermission reads what asks about the connection.
func (d *decoder) connectionPermission(msg *rbacv3.Permission, p *mesh.Permission) (err error) {
	switch rule := msg.GetRule().(type) {
	case *rbacv3.Permission_DestinationIp:
		p.Destination, err = prefixOf(rule.DestinationIp)
	case *rbacv3.Permission_DestinationPort:
		if rule.DestinationPort > maxPort {
			return fmt.Errorf("destination_port %d", rule.DestinationPort)
		}
		p.Ports = &mesh.PortRange{First: uint16(rule.DestinationPort), Last: uint16(rule.DestinationPort)}
	case *rbacv3.Permission_DestinationPortRange:
		start, end := rule.DestinationPortRange.GetStart(), rule.DestinationPortRange.GetEnd() // end is not in it
		if start < 0 || start >= end || end > maxPort+1 {
			return fmt.Errorf("destination_port_range from %d to %d", start, end)
		}
		p.Ports = &mesh.PortRange{First: uint16(start), Last: uint16(end - 1)}
	case *rbacv3.Permission_RequestedServerName:
		var m mesh.StringMatch
		m, err = stringMatch(rule.RequestedServerName)
		p.ServerName = &m
	default:
		err = fmt.Errorf("permission %T is not supported", rule)
	}
	return err
}

func prefixOf(msg *corev3.CidrRange) (*netip.Prefix, error) {
	list, err := prefixes([]*corev3.CidrRange{msg})
	if err != nil {
		return nil, err
	}
	return &list[0], nil
}

// sourced reads what is asked of metadata, if it is that of the request.
func (d *decoder) sourced(msg *rbacv3.SourcedMetadata) (*mesh.MetadataMatch, error) {
	if source := msg.GetMetadataSource(); source != rbacv3.MetadataSource_DYNAMIC {
		return nil, fmt.Errorf("metadata of source %s is not supported", source)
	}
	return d.metadata(msg.GetMetadataMatcher())
}
