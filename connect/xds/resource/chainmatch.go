package resource

import (
	"fmt"
	"math"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/serai-net/serai/connect/mesh"
)

func (d *decoder) chainMatch(msg *listenerv3.FilterChainMatch) (mesh.ChainMatch, error) {
	m := mesh.ChainMatch{}
	if msg == nil {
		return m, nil
	}
	if err := d.readMatch(msg, &m); err != nil {
		return m, fmt.Errorf("filter_chain_match: %w", err)
	}
	return m, nil
}

func (d *decoder) readMatch(msg *listenerv3.FilterChainMatch, m *mesh.ChainMatch) error {
	err := d.only(msg, "destination_port prefix_ranges server_names source_prefix_ranges transport_protocol application_protocols"+
		" direct_source_prefix_ranges source_type source_ports", "")
	if err != nil {
		return err
	}
	switch m.Transport = msg.GetTransportProtocol(); m.Transport {
	case "", mesh.TransportTLS, mesh.TransportRaw:
	default:
		return fmt.Errorf("transport_protocol %q is not supported", m.Transport)
	}
	if p := msg.GetDestinationPort(); p != nil {
		if p.GetValue() == 0 || p.GetValue() > math.MaxUint16 {
			return fmt.Errorf("destination_port %d", p.GetValue())
		}
		m.DestinationPort = uint16(p.GetValue())
	}
	if m.Prefixes, err = prefixes(msg.GetPrefixRanges()); err != nil {
		return err
	}
	if m.DirectSourcePrefixes, err = prefixes(msg.GetDirectSourcePrefixRanges()); err != nil {
		return err
	}
	if m.SourcePrefixes, err = prefixes(msg.GetSourcePrefixRanges()); err != nil {
		return err
	}
	for _, p := range msg.GetSourcePorts() {
		if p == 0 || p > math.MaxUint16 {
			return fmt.Errorf("source port %d", p)
		}
		m.SourcePorts = append(m.SourcePorts, uint16(p))
	}
	switch typ := msg.GetSourceType(); typ {
	case listenerv3.FilterChainMatch_ANY:
	case listenerv3.FilterChainMatch_SAME_IP_OR_LOOPBACK:
		m.SourceType = mesh.LocalSource
	case listenerv3.FilterChainMatch_EXTERNAL:
		m.SourceType = mesh.ExternalSource
	default:
		return fmt.Errorf("source_type %s is not supported", typ)
	}
	m.ServerNames = lowerAll(msg.GetServerNames())
	m.ALPN = msg.GetApplicationProtocols()
	return nil
}
