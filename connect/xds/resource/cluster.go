package resource

import (
	"errors"
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	aggregateType = "envoy.extensions.clusters.aggregate.v3.ClusterConfig"
	// connectTimeout is Envoy's default.
	connectTimeout = 5 * time.Second
)

// Cluster reads a cluster.
func Cluster(body []byte) (*mesh.Cluster, []string, error) { return Reader{}.Cluster(body) }

// Cluster reads a cluster that may refer to secrets.
func (r Reader) Cluster(body []byte) (*mesh.Cluster, []string, error) {
	msg := &clusterv3.Cluster{}
	if err := parse(body, msg); err != nil {
		return nil, nil, err
	}
	d := r.decoder()
	c := &mesh.Cluster{Name: msg.GetName()}
	if err := d.cluster(msg, c); err != nil {
		// A refused cluster needs nothing of the control plane, so that no
		// snapshot waits for it.
		c = &mesh.Cluster{
			Name: msg.GetName(), StatName: msg.GetAltStatName(), Kind: mesh.ClusterStatic,
			Endpoints: &mesh.EndpointSet{Name: msg.GetName()}, Refusal: reason(err),
		}
	}
	return c, d.notes, nil
}

func (d *decoder) cluster(msg *clusterv3.Cluster, c *mesh.Cluster) error {
	err := d.only(msg, "name alt_stat_name type cluster_type eds_cluster_config load_assignment connect_timeout lb_policy transport_socket"+
		" circuit_breakers outlier_detection common_lb_config typed_extension_protocol_options http2_protocol_options"+
		" protocol_selection ring_hash_lb_config least_request_lb_config maglev_lb_config round_robin_lb_config"+
		" original_dst_lb_config dns_refresh_rate dns_failure_refresh_rate dns_lookup_family common_http_protocol_options max_requests_per_connection"+
		" upstream_connection_options preconnect_policy metadata health_checks upstream_http_protocol_options upstream_bind_config load_balancing_policy close_connections_on_host_health_failure respect_dns_ttl dns_jitter dns_resolvers use_tcp_for_dns_lookups"+
		" dns_resolution_config typed_dns_resolver_config wait_for_warm_on_init",
		"http_protocol_options connection_pool_per_downstream_connection stats_matcher per_connection_buffer_limit_bytes"+
			" per_connection_buffer_high_watermark_timeout cleanup_interval ignore_health_on_host_removal lrs_server"+
			" lrs_report_endpoint_metrics track_timeout_budgets track_cluster_stats")
	if err != nil {
		return err
	}
	c.StatName = msg.GetAltStatName()
	c.Metadata = d.filterMetadata(msg.GetMetadata())
	c.Lambda = msg.GetMetadata().GetFilterMetadata()["com.amazonaws.lambda"].GetFields()["egress_gateway"].GetBoolValue()
	c.ConnectTimeout = duration(msg.GetConnectTimeout(), connectTimeout)
	if c.ConnectTimeout == 0 {
		c.ConnectTimeout = connectTimeout
	}
	if err := d.discovery(msg, c); err != nil {
		return err
	}
	if err := d.balance(msg, c); err != nil {
		return err
	}
	if err := d.upstreamSocket(msg.GetTransportSocket(), c); err != nil {
		return err
	}
	if err = d.pool(msg, &c.Pool); err != nil {
		return err
	}
	if c.Protocol, err = d.protocol(msg, c); err != nil {
		return err
	}
	if c.Limits, err = d.limits(msg.GetCircuitBreakers()); err != nil {
		return err
	}
	if c.Check, err = d.check(msg.GetHealthChecks(), c.Name); err != nil {
		return fmt.Errorf("health_checks: %w", err)
	}
	c.Outlier, err = d.outlier(msg.GetOutlierDetection())
	return err
}

// discovery reads where the endpoints come from.
func (d *decoder) discovery(msg *clusterv3.Cluster, c *mesh.Cluster) error {
	if custom := msg.GetClusterType(); custom != nil {
		return d.customType(msg, custom, c)
	}
	switch typ := msg.GetType(); typ {
	case clusterv3.Cluster_EDS:
		if msg.GetEdsClusterConfig().GetEdsConfig().GetAds() == nil {
			return errors.New("endpoints from elsewhere than the stream of the cluster are not supported")
		}
		c.Kind, c.EndpointName = mesh.ClusterEDS, msg.GetEdsClusterConfig().GetServiceName()
		c.EndpointWait = wait(msg.GetEdsClusterConfig().GetEdsConfig())
		return nil
	case clusterv3.Cluster_STATIC:
		return d.static(msg, c)
	case clusterv3.Cluster_STRICT_DNS, clusterv3.Cluster_LOGICAL_DNS:
		c.Kind = mesh.ClusterStrictDNS
		if typ == clusterv3.Cluster_LOGICAL_DNS {
			c.Kind = mesh.ClusterLogicalDNS
		}
		return d.dns(msg, c)
	case clusterv3.Cluster_ORIGINAL_DST:
		c.Kind = mesh.ClusterOriginalDst
		if config := msg.GetOriginalDstLbConfig(); config != nil {
			return d.only(config, "", "")
		}
		return nil
	default:
		return fmt.Errorf("cluster type %s is not supported", typ)
	}
}

// customType reads the kinds of cluster that are named by the type of their own message.
func (d *decoder) customType(msg *clusterv3.Cluster, custom *clusterv3.Cluster_CustomClusterType, c *mesh.Cluster) error {
	switch typeOf(custom.GetTypedConfig()) {
	case aggregateType:
		config := &aggregatev3.ClusterConfig{}
		if err := unpack(custom.GetTypedConfig(), config); err != nil {
			return err
		}
		c.Kind, c.Members = mesh.ClusterAggregate, config.GetClusters()
		if len(c.Members) == 0 {
			return errors.New("aggregate cluster without members")
		}
		return nil
	case dnsType:
		return d.dnsCluster(msg, custom.GetTypedConfig(), c)
	default:
		return fmt.Errorf("cluster type %s is not supported", custom.GetName())
	}
}

// static reads endpoints that stand in the cluster. If one of them is a host
// name, which Consul writes for some JWKS servers, it is looked up.
func (d *decoder) static(msg *clusterv3.Cluster, c *mesh.Cluster) error {
	set, names, err := d.endpointSet(msg.GetLoadAssignment())
	if err != nil {
		return err
	}
	if len(names) > 0 {
		return d.dns(msg, c)
	}
	set.Name = c.Name
	c.Kind, c.Endpoints = mesh.ClusterStatic, set
	return nil
}
