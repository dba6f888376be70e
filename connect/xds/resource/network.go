package resource

import (
	"fmt"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	connlimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	netrbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	netwasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/wasm/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of network filters.
const (
	netRBACType    = "envoy.extensions.filters.network.rbac.v3.RBAC"
	connLimitType  = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit"
	tcpProxyType   = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
	sniClusterType = "envoy.extensions.filters.network.sni_cluster.v3.SniCluster"
	hcmType        = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)

// tcpIdle is Envoy's default idle timeout of a TCP proxy.
const tcpIdle = time.Hour

// maxAttempts bounds max_connect_attempts.
const maxAttempts = 16

// networkFilter adds one filter to the chain. Filters are known by their type;
// names are free text in the protocol. serverName says that sni_cluster stands before it.
func (d *decoder) networkFilter(f *listenerv3.Filter, c *mesh.FilterChain, serverName bool) error {
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
	case sniClusterType:
		return d.only(f, "name typed_config", "") // tcpProxy looks for it
	case connLimitType:
		return d.connectionLimit(f, c)
	case netExtAuthzType:
		authz, err := d.netExtAuthz(f.GetTypedConfig())
		c.Authz = append(c.Authz, authz)
		return err
	case netWasmType:
		msg := &netwasmv3.Wasm{}
		if err := unpack(f.GetTypedConfig(), msg); err != nil {
			return err
		}
		return d.wasm(f.GetName(), msg.GetConfig())
	case tcpProxyType:
		return d.tcpProxy(f, c, serverName)
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
	if err := d.only(msg, "max_connections delay stat_prefix runtime_enabled", ""); err != nil {
		return err
	}
	limit := &mesh.ConnectionLimit{
		Max: msg.GetMaxConnections().GetValue(), Delay: duration(msg.GetDelay(), 0), StatPrefix: msg.GetStatPrefix(),
		First: len(c.Intentions) == 0,
	}
	switch {
	case limit.Max == 0:
		return fmt.Errorf("max_connections is 0")
	case msg.GetRuntimeEnabled() != nil && !msg.GetRuntimeEnabled().GetDefaultValue().GetValue():
		return nil // nobody changes what is so at runtime
	case c.Limit == nil || limit.Max < c.Limit.Max:
		c.Limit = limit
	}
	return nil
}

func (d *decoder) tcpProxy(f *listenerv3.Filter, c *mesh.FilterChain, serverName bool) error {
	msg := &tcpv3.TcpProxy{}
	if err := unpack(f.GetTypedConfig(), msg); err != nil {
		return err
	}
	err := d.only(msg, "stat_prefix cluster weighted_clusters idle_timeout max_connect_attempts max_downstream_connection_duration hash_policy access_log"+
		" backoff_options max_downstream_connection_duration_jitter_percentage"+
		" access_log_options access_log_flush_interval flush_access_log_on_connected",
		"downstream_idle_timeout upstream_idle_timeout max_early_data_bytes check_drain_close")
	if err != nil {
		return err
	}
	tcp := &mesh.TCPProxy{
		AccessLogs: d.accessLogs(msg.GetAccessLog()),
		StatPrefix: msg.GetStatPrefix(), IdleTimeout: duration(msg.GetIdleTimeout(), tcpIdle),
		MaxDuration: duration(msg.GetMaxDownstreamConnectionDuration(), 0), ConnectAttempts: msg.GetMaxConnectAttempts().GetValue(),
	}
	if tcp.DurationJitter = msg.GetMaxDownstreamConnectionDurationJitterPercentage().GetValue(); !(tcp.DurationJitter >= 0 && tcp.DurationJitter <= 100) {
		return fmt.Errorf("max_downstream_connection_duration_jitter_percentage of %v", tcp.DurationJitter)
	}
	if b := msg.GetBackoffOptions(); b != nil {
		tcp.BackOff = duration(b.GetBaseInterval(), 0)
		if tcp.MaxBackOff = duration(b.GetMaxInterval(), 10*tcp.BackOff); tcp.BackOff < time.Millisecond || tcp.MaxBackOff < tcp.BackOff {
			return fmt.Errorf("backoff_options from %s to %s", tcp.BackOff, tcp.MaxBackOff)
		}
	}
	tcp.LogMoments = mesh.LogMoments{Connected: msg.GetFlushAccessLogOnConnected(), Every: d.logEvery(msg.GetAccessLogFlushInterval())}
	if o := msg.GetAccessLogOptions(); o != nil {
		tcp.LogMoments = mesh.LogMoments{
			Start: o.GetFlushAccessLogOnStart(), Connected: o.GetFlushAccessLogOnConnected(), Every: d.logEvery(o.GetAccessLogFlushInterval()),
		}
	}
	if msg.GetMaxConnectAttempts() != nil && tcp.ConnectAttempts == 0 {
		return fmt.Errorf("max_connect_attempts is 0")
	}
	if tcp.ConnectAttempts > maxAttempts {
		d.note("TcpProxy.max_connect_attempts counts up to %d", maxAttempts)
		tcp.ConnectAttempts = maxAttempts
	}
	if _, ok := msg.GetClusterSpecifier().(*tcpv3.TcpProxy_WeightedClusters); ok {
		weighted := msg.GetWeightedClusters()
		for _, w := range weighted.GetClusters() {
			if err := d.only(w, "name weight", ""); err != nil {
				return err
			}
			tcp.Targets = append(tcp.Targets, mesh.Target{Cluster: w.GetName(), Weight: w.GetWeight()})
		}
		if len(tcp.Targets) == 0 {
			return fmt.Errorf("no cluster among weighted_clusters")
		}
	} else if name := msg.GetCluster(); name != "" {
		tcp.Targets = []mesh.Target{{Cluster: name, Weight: 1}}
	}
	for _, policy := range msg.GetHashPolicy() {
		if policy.GetSourceIp() == nil {
			return fmt.Errorf("hash_policy other than source_ip is not supported")
		}
		tcp.HashSource = true
	}
	// Without a cluster every connection is closed, unless its server name is one.
	tcp.ServerName = serverName
	c.TCP = tcp
	return nil
}
