package resource

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of listener filters.
const (
	tlsInspectorType  = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
	httpInspectorType = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
	proxyProtocolType = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
)

// Listener reads a listener. If its address is none that can be bound, the
// listener has a Refusal and a zero Address.
func Listener(body []byte) (*mesh.Listener, []string, error) { return Reader{}.Listener(body) }

// Listener reads a listener that may refer to secrets.
func (r Reader) Listener(body []byte) (*mesh.Listener, []string, error) {
	msg := &listenerv3.Listener{}
	if err := parse(body, msg); err != nil {
		return nil, nil, err
	}
	d := r.decoder()
	l := &mesh.Listener{Name: msg.GetName()}
	switch msg.GetTrafficDirection() {
	case corev3.TrafficDirection_INBOUND:
		l.Direction = mesh.Inbound
	case corev3.TrafficDirection_OUTBOUND:
		l.Direction = mesh.Outbound
	default:
		l.Direction = mesh.Unspecified
	}
	if err := d.listener(msg, l); err != nil {
		l.Refusal = reason(err)
		l.Chains, l.Default = nil, nil
	}
	return l, d.notes, nil
}

func (d *decoder) listener(msg *listenerv3.Listener, l *mesh.Listener) error {
	addr, name, err := address(msg.GetAddress())
	if err != nil {
		return err
	}
	if name != "" {
		return fmt.Errorf("address: %s is no IP address", name)
	}
	l.Address = addr
	err = d.only(msg, "name address filter_chains default_filter_chain listener_filters traffic_direction bind_to_port use_original_dst",
		"access_log listener_filters_timeout continue_on_listener_filters_timeout socket_options tcp_fast_open_queue_length freebind tcp_keepalive"+
			" - stat_prefix stats_matcher metadata connection_balance_config enable_reuse_port reuse_port drain_type tcp_backlog_size"+
			" per_connection_buffer_limit_bytes per_connection_buffer_high_watermark_timeout max_connections_to_accept_per_socket_event"+
			" ignore_global_conn_limit bypass_overload_manager enable_mptcp")
	if err != nil {
		return err
	}
	if bind := msg.GetBindToPort(); bind != nil && !bind.GetValue() {
		return fmt.Errorf("bind_to_port: false is not supported")
	}
	if msg.GetUseOriginalDst().GetValue() {
		return fmt.Errorf("use_original_dst is not supported")
	}
	for _, f := range msg.GetListenerFilters() {
		if err := d.listenerFilter(f, l); err != nil {
			return err
		}
	}
	for _, c := range msg.GetFilterChains() {
		chain, err := d.chain(c)
		if err != nil {
			return err
		}
		l.Chains = append(l.Chains, chain)
	}
	if c := msg.GetDefaultFilterChain(); c != nil {
		chain, err := d.chain(c)
		if err != nil {
			return err
		}
		chain.Match = mesh.ChainMatch{} // of no meaning here
		l.Default = chain
	}
	return nil
}

func (d *decoder) listenerFilter(f *listenerv3.ListenerFilter, l *mesh.Listener) error {
	if err := d.only(f, "name typed_config", ""); err != nil {
		return fmt.Errorf("listener filter %s: %w", f.GetName(), err)
	}
	switch typeOf(f.GetTypedConfig()) {
	case tlsInspectorType:
		l.InspectTLS = true
	case proxyProtocolType:
		msg := &proxyprotocolv3.ProxyProtocol{}
		if err := unpack(f.GetTypedConfig(), msg); err != nil {
			return err
		}
		// What a rule keeps of TLVs nothing here could ask for.
		if err := d.only(msg, "allow_requests_without_proxy_protocol", "rules pass_through_tlvs tlv_location - stat_prefix"); err != nil {
			return fmt.Errorf("listener filter %s: %w", f.GetName(), err)
		}
		l.ProxyProtocol = &mesh.ProxyProtocol{Optional: msg.GetAllowRequestsWithoutProxyProtocol()}
	case httpInspectorType:
		// Whether a connection speaks HTTP/1.1 or HTTP/2 is seen from its first
		// bytes on every HTTP chain; what this filter adds is a chain match on it,
		// which chainMatch refuses without TLS.
	default:
		return fmt.Errorf("listener filter %s is not supported", f.GetName())
	}
	return nil
}

// chain reads a filter chain. An error means that not even its match is
// understood, so that the whole listener must be refused: it cannot be told
// which connections the chain is for.
func (d *decoder) chain(msg *listenerv3.FilterChain) (*mesh.FilterChain, error) {
	m, err := d.chainMatch(msg.GetFilterChainMatch())
	if err != nil {
		return nil, err
	}
	c := &mesh.FilterChain{Name: msg.GetName(), Match: m}
	if err := d.chainBody(msg, c); err != nil {
		c.TLS, c.Intentions, c.TCP, c.HTTP = nil, nil, nil, nil
		c.Refusal = reason(err)
	}
	return c, nil
}

func (d *decoder) chainBody(msg *listenerv3.FilterChain, c *mesh.FilterChain) error {
	err := d.only(msg, "filter_chain_match filters transport_socket name", "transport_socket_connect_timeout - metadata")
	if err != nil {
		return err
	}
	if c.TLS, err = d.downstreamTLS(msg.GetTransportSocket()); err != nil {
		return err
	}
	for _, f := range msg.GetFilters() {
		if c.TCP != nil || c.HTTP != nil {
			return fmt.Errorf("network filter %s comes after the last one", f.GetName())
		}
		if err := d.networkFilter(f, c); err != nil {
			return fmt.Errorf("network filter %s: %w", f.GetName(), err)
		}
	}
	if c.TCP == nil && c.HTTP == nil {
		return fmt.Errorf("no tcp_proxy or http_connection_manager at the end of the chain")
	}
	return nil
}

func (d *decoder) chainMatch(msg *listenerv3.FilterChainMatch) (mesh.ChainMatch, error) {
	m := mesh.ChainMatch{}
	if msg == nil {
		return m, nil
	}
	err := d.only(msg, "destination_port prefix_ranges server_names source_prefix_ranges transport_protocol application_protocols", "")
	if err != nil {
		return m, err
	}
	switch transport := msg.GetTransportProtocol(); {
	case transport == "":
	case transport == "tls" && len(msg.GetServerNames())+len(msg.GetApplicationProtocols()) > 0:
		// A server name or ALPN implies TLS.
	default:
		return m, fmt.Errorf("filter_chain_match: transport_protocol %q is not supported", transport)
	}
	for _, p := range msg.GetApplicationProtocols() {
		if p == "http/1.0" || p == "h2c" {
			return m, fmt.Errorf("filter_chain_match: application protocol %q is not supported", p)
		}
	}
	if p := msg.GetDestinationPort(); p != nil {
		if p.GetValue() == 0 || p.GetValue() > 65535 {
			return m, fmt.Errorf("filter_chain_match: destination_port %d", p.GetValue())
		}
		m.DestinationPort = uint16(p.GetValue())
	}
	if m.Prefixes, err = prefixes(msg.GetPrefixRanges()); err != nil {
		return m, fmt.Errorf("filter_chain_match: %w", err)
	}
	if m.SourcePrefixes, err = prefixes(msg.GetSourcePrefixRanges()); err != nil {
		return m, fmt.Errorf("filter_chain_match: %w", err)
	}
	m.ServerNames = lowerAll(msg.GetServerNames())
	m.ALPN = msg.GetApplicationProtocols()
	return m, nil
}
