package resource

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/serai-net/serai/connect/mesh"
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
	l.Address, l.StatName = addr, msg.GetStatPrefix()
	l.AccessLogs = d.accessLogs(msg.GetAccessLog())
	err = d.only(msg, "access_log name address filter_chains default_filter_chain listener_filters traffic_direction bind_to_port use_original_dst"+
		" listener_filters_timeout continue_on_listener_filters_timeout enable_reuse_port stat_prefix",
		"socket_options tcp_fast_open_queue_length freebind tcp_keepalive stats_matcher drain_type tcp_backlog_size"+
			" per_connection_buffer_limit_bytes per_connection_buffer_high_watermark_timeout enable_mptcp"+
			" - metadata connection_balance_config reuse_port max_connections_to_accept_per_socket_event"+
			" ignore_global_conn_limit bypass_overload_manager")
	if err != nil {
		return err
	}
	l.Unbound = msg.GetBindToPort() != nil && !msg.GetBindToPort().GetValue()
	l.Exclusive = msg.GetEnableReusePort() != nil && !msg.GetEnableReusePort().GetValue()
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
	return d.listenerFilters(msg, l)
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
	serverName := false
	for _, f := range msg.GetFilters() {
		if c.TCP != nil || c.HTTP != nil {
			return fmt.Errorf("network filter %s comes after the last one", f.GetName())
		}
		if err := d.networkFilter(f, c, serverName); err != nil {
			return fmt.Errorf("network filter %s: %w", f.GetName(), err)
		}
		serverName = serverName || typeOf(f.GetTypedConfig()) == sniClusterType
	}
	if c.TCP == nil && c.HTTP == nil {
		return fmt.Errorf("no tcp_proxy or http_connection_manager at the end of the chain")
	}
	return nil
}
