package resource

import (
	"fmt"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	connlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of network filters.
const (
	netRBACType   = "envoy.extensions.filters.network.rbac.v3.RBAC"
	connLimitType = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit"
	tcpProxyType  = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
	hcmType       = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)

// tcpIdle is Envoy's default idle timeout of a TCP proxy.
const tcpIdle = time.Hour

// maxAttempts bounds max_connect_attempts.
const maxAttempts = 16

// networkFilter adds one filter to the chain. Filters are known by their type;
// names are free text in the protocol.
func (d *decoder) networkFilter(f *listenerv3.Filter, c *mesh.FilterChain) error {
	if err := d.only(f, "name typed_config", ""); err != nil {
		return err
	}
	switch typ := typeOf(f.GetTypedConfig()); typ {
	case netRBACType:
		msg := &netrbacv3.RBAC{}
		if err := unpack(f.GetTypedConfig(), msg); err != nil {
			return err
		}
		c.Intentions = append(c.Intentions, d.networkRBAC(msg))
		return nil
	case connLimitType:
		return d.connectionLimit(f, c)
	case tcpProxyType:
		return d.tcpProxy(f, c)
	case hcmType:
		msg := &hcmv3.HttpConnectionManager{}
		if err := unpack(f.GetTypedConfig(), msg); err != nil {
			return err
		}
		http, err := d.http(msg)
		c.HTTP = http
		return err
	case "":
		return fmt.Errorf("no typed_config")
	default:
		return fmt.Errorf("type %s is not supported", typ)
	}
}

func (d *decoder) connectionLimit(f *listenerv3.Filter, c *mesh.FilterChain) error {
	msg := &connlimitv3.ConnectionLimit{}
	if err := unpack(f.GetTypedConfig(), msg); err != nil {
		return err
	}
	if err := d.only(msg, "max_connections", "delay runtime_enabled - stat_prefix"); err != nil {
		return err
	}
	limit := msg.GetMaxConnections().GetValue()
	if limit == 0 {
		return fmt.Errorf("max_connections is 0")
	}
	if c.MaxConnections == 0 || limit < c.MaxConnections {
		c.MaxConnections = limit
	}
	return nil
}

func (d *decoder) tcpProxy(f *listenerv3.Filter, c *mesh.FilterChain) error {
	msg := &tcpv3.TcpProxy{}
	if err := unpack(f.GetTypedConfig(), msg); err != nil {
		return err
	}
	err := d.only(msg, "stat_prefix cluster weighted_clusters idle_timeout max_connect_attempts max_downstream_connection_duration",
		"access_log backoff_options hash_policy access_log_options access_log_flush_interval"+
			" flush_access_log_on_connected max_downstream_connection_duration_jitter_percentage"+
			" downstream_idle_timeout upstream_idle_timeout max_early_data_bytes check_drain_close")
	if err != nil {
		return err
	}
	tcp := &mesh.TCPProxy{
		StatPrefix: msg.GetStatPrefix(), IdleTimeout: duration(msg.GetIdleTimeout(), tcpIdle),
		MaxDuration: duration(msg.GetMaxDownstreamConnectionDuration(), 0), ConnectAttempts: msg.GetMaxConnectAttempts().GetValue(),
	}
	if msg.GetMaxConnectAttempts() != nil && tcp.ConnectAttempts == 0 {
		return fmt.Errorf("max_connect_attempts is 0")
	}
	if tcp.ConnectAttempts > maxAttempts {
		d.note("TcpProxy.max_connect_attempts counts up to %d", maxAttempts)
		tcp.ConnectAttempts = maxAttempts
	}
	if weighted := msg.GetWeightedClusters(); weighted != nil {
		for _, w := range weighted.GetClusters() {
			if err := d.only(w, "name weight", ""); err != nil {
				return err
			}
			tcp.Targets = append(tcp.Targets, mesh.Target{Cluster: w.GetName(), Weight: w.GetWeight()})
		}
	} else if name := msg.GetCluster(); name != "" {
		tcp.Targets = []mesh.Target{{Cluster: name, Weight: 1}}
	}
	if len(tcp.Targets) == 0 {
		return fmt.Errorf("no cluster (a cluster chosen by server name is not supported)")
	}
	c.TCP = tcp
	return nil
}
