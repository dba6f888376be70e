package resource

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// panicPercent is Envoy's default.
const panicPercent = 50

// balance reads how endpoints are chosen.
func (d *decoder) balance(msg *clusterv3.Cluster, c *mesh.Cluster) error {
	b := &c.Balance
	if policy := msg.GetLoadBalancingPolicy(); policy != nil {
		var err error
		if msg, err = d.typedBalance(policy, msg.GetCommonLbConfig()); err != nil {
			return fmt.Errorf("load_balancing_policy: %w", err)
		}
	}
	switch policy := msg.GetLbPolicy(); policy {
	case clusterv3.Cluster_ROUND_ROBIN:
		b.Policy = mesh.RoundRobin
		if err := d.roundRobin(msg.GetRoundRobinLbConfig(), b); err != nil {
			return err
		}
	case clusterv3.Cluster_LEAST_REQUEST:
		b.Policy = mesh.LeastRequest
		if err := d.leastRequest(msg.GetLeastRequestLbConfig(), b); err != nil {
			return err
		}
	case clusterv3.Cluster_RANDOM:
		b.Policy = mesh.Random
	case clusterv3.Cluster_RING_HASH:
		b.Policy = mesh.RingHash
		if err := d.ringHash(msg.GetRingHashLbConfig(), b); err != nil {
			return err
		}
	case clusterv3.Cluster_MAGLEV:
		b.Policy = mesh.Maglev
		if err := d.maglev(msg.GetMaglevLbConfig(), b); err != nil {
			return err
		}
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		if c.Kind != mesh.ClusterAggregate && c.Kind != mesh.ClusterOriginalDst {
			return errors.New("lb_policy CLUSTER_PROVIDED on a cluster that provides none")
		}
	default:
		return fmt.Errorf("lb_policy %s is not supported", policy)
	}
	return d.commonBalance(msg.GetCommonLbConfig(), c)
}

func (d *decoder) roundRobin(msg *clusterv3.Cluster_RoundRobinLbConfig, b *mesh.Balance) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "slow_start_config", "locality_lb_config"); err != nil {
		return err
	}
	return d.slowStart(msg.GetSlowStartConfig(), b)
}

func (d *decoder) leastRequest(msg *clusterv3.Cluster_LeastRequestLbConfig, b *mesh.Balance) error {
	if msg == nil {
		return nil
	}
	err := d.only(msg, "choice_count active_request_bias slow_start_config", "locality_lb_config enable_full_scan selection_method")
	if err != nil {
		return err
	}
	b.Choices = msg.GetChoiceCount().GetValue()
	if bias := msg.GetActiveRequestBias(); bias != nil {
		if b.Bias, b.HasBias = bias.GetDefaultValue(), true; !(b.Bias >= 0) {
			return fmt.Errorf("active_request_bias %v is not 0 or more", b.Bias)
		}
	}
	return d.slowStart(msg.GetSlowStartConfig(), b)
}

func (d *decoder) slowStart(msg *clusterv3.Cluster_SlowStartConfig, b *mesh.Balance) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "slow_start_window aggression min_weight_percent", ""); err != nil {
		return err
	}
	s := &b.SlowStart
	s.Window = duration(msg.GetSlowStartWindow(), 0)
	if a := msg.GetAggression(); a != nil {
		if s.Aggression = a.GetDefaultValue(); !(s.Aggression > 0) {
			return fmt.Errorf("slow_start_config.aggression %v is not more than 0", s.Aggression)
		}
	}
	if p := msg.GetMinWeightPercent(); p != nil {
		s.MinPercent, s.HasMin = p.GetValue(), true
		if !(s.MinPercent >= 0 && s.MinPercent <= 100) {
			return fmt.Errorf("slow_start_config.min_weight_percent %v is not 0 to 100", s.MinPercent)
		}
	}
	return nil
}

func (d *decoder) ringHash(msg *clusterv3.Cluster_RingHashLbConfig, b *mesh.Balance) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "minimum_ring_size maximum_ring_size hash_function", ""); err != nil {
		return err
	}
	switch f := msg.GetHashFunction(); f {
	case clusterv3.Cluster_RingHashLbConfig_XX_HASH:
	case clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2:
		b.Murmur = true
	default:
		return fmt.Errorf("hash_function %d is not supported", f)
	}
	const most = 8 << 20 // Envoy's
	b.MinRing, b.MaxRing = msg.GetMinimumRingSize().GetValue(), msg.GetMaximumRingSize().GetValue()
	if b.MinRing > most || b.MaxRing > most || b.MaxRing > 0 && b.MinRing > b.MaxRing {
		return fmt.Errorf("ring of %d to %d points is not supported", b.MinRing, b.MaxRing)
	}
	return nil
}

func (d *decoder) maglev(msg *clusterv3.Cluster_MaglevLbConfig, b *mesh.Balance) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "table_size", ""); err != nil {
		return err
	}
	const most = 5000011 // Envoy's
	if b.Table = msg.GetTableSize().GetValue(); b.Table > 0 && !isPrime(b.Table) || b.Table > most {
		return fmt.Errorf("maglev table_size %d is no prime up to %d", b.Table, most)
	}
	return nil
}

func isPrime(n uint64) bool {
	for i := uint64(2); i*i <= n && i < 1<<16; i++ {
		if n%i == 0 {
			return false
		}
	}
	return n > 1
}

func (d *decoder) commonBalance(msg *clusterv3.Cluster_CommonLbConfig, c *mesh.Cluster) error {
	c.PanicPercent = panicPercent
	if msg == nil {
		return nil
	}
	err := d.only(msg, "healthy_panic_threshold locality_weighted_lb_config consistent_hashing_lb_config",
		"zone_aware_lb_config override_host_status ignore_new_hosts_until_first_hc close_connections_on_host_set_change"+
			" - update_merge_window")
	if err != nil {
		return err
	}
	if p := msg.GetHealthyPanicThreshold(); p != nil {
		if v := math.Ceil(p.GetValue()); v >= 0 && v <= 100 {
			c.PanicPercent = uint32(v)
		}
	}
	c.Balance.LocalityWeighted = msg.GetLocalityWeightedLbConfig() != nil
	if hashing := msg.GetConsistentHashingLbConfig(); hashing != nil {
		if err := d.only(hashing, "use_hostname_for_hashing", "hash_balance_factor"); err != nil {
			return err
		}
		c.Balance.HashHostname = hashing.GetUseHostnameForHashing()
	}
	return nil
}

// pool reads how connections are kept.
func (d *decoder) pool(msg *clusterv3.Cluster, p *mesh.Pool) error {
	if policy := msg.GetPreconnectPolicy(); policy != nil {
		if err := d.only(policy, "per_upstream_preconnect_ratio", "predictive_preconnect_ratio"); err != nil {
			return err
		}
		if ratio := policy.GetPerUpstreamPreconnectRatio(); ratio != nil {
			if p.Preconnect = ratio.GetValue(); !(p.Preconnect >= 1 && p.Preconnect <= 3) {
				return fmt.Errorf("per_upstream_preconnect_ratio %v is not 1 to 3", p.Preconnect)
			}
		}
	}
	if options := msg.GetUpstreamConnectionOptions(); options != nil {
		if err := d.only(options, "tcp_keepalive happy_eyeballs_config", "set_local_interface_name_on_upstream_connections"); err != nil {
			return err
		}
		var err error
		if p.Race, err = d.race(options.GetHappyEyeballsConfig()); err != nil {
			return err
		}
		if k := options.GetTcpKeepalive(); k != nil {
			if err := d.only(k, "keepalive_probes keepalive_time keepalive_interval", ""); err != nil {
				return err
			}
			p.Keepalive = mesh.Keepalive{
				Idle: seconds(k.GetKeepaliveTime().GetValue()), Interval: seconds(k.GetKeepaliveInterval().GetValue()),
				Probes: int(min(k.GetKeepaliveProbes().GetValue(), 1000)),
			}
		}
	}
	p.MaxRequests = msg.GetMaxRequestsPerConnection().GetValue()
	p.CloseUnhealthy = msg.GetCloseConnectionsOnHostHealthFailure()
	var err error
	if p.Bind, err = d.bind(msg.GetUpstreamBindConfig()); err != nil {
		return fmt.Errorf("upstream_bind_config: %w", err)
	}
	return d.poolHTTP(msg.GetCommonHttpProtocolOptions(), p)
}

// race reads the order of the addresses of an endpoint.
func (d *decoder) race(msg *clusterv3.UpstreamConnectionOptions_HappyEyeballsConfig) (mesh.Race, error) {
	r := mesh.Race{}
	if msg == nil {
		return r, nil
	}
	if err := d.only(msg, "first_address_family_version first_address_family_count", ""); err != nil {
		return r, err
	}
	switch family := msg.GetFirstAddressFamilyVersion(); family {
	case clusterv3.UpstreamConnectionOptions_DEFAULT:
	case clusterv3.UpstreamConnectionOptions_V4:
		r.First = 4
	case clusterv3.UpstreamConnectionOptions_V6:
		r.First = 6
	default:
		return r, fmt.Errorf("first_address_family_version %s is not supported", family)
	}
	if count := msg.GetFirstAddressFamilyCount(); count != nil {
		if r.Count = number(count, 1<<16); r.Count == 0 {
			return r, errors.New("first_address_family_count of 0")
		}
	}
	return r, nil
}

// bind reads the address that connections are made from.
func (d *decoder) bind(msg *corev3.BindConfig) (netip.AddrPort, error) {
	if msg == nil {
		return netip.AddrPort{}, nil
	}
	if err := d.only(msg, "source_address", ""); err != nil {
		return netip.AddrPort{}, err
	}
	source := msg.GetSourceAddress()
	if source == nil {
		return netip.AddrPort{}, nil
	}
	if err := d.only(source, "protocol address port_value", " - ipv4_compat"); err != nil {
		return netip.AddrPort{}, err
	}
	ip, err := netip.ParseAddr(source.GetAddress())
	if err != nil || source.GetPortValue() > 65535 || source.GetProtocol() != corev3.SocketAddress_TCP {
		return netip.AddrPort{}, fmt.Errorf("source_address %q is no address of TCP", source.GetAddress())
	}
	return netip.AddrPortFrom(ip, uint16(source.GetPortValue())), nil
}

// poolHTTP reads what the options of HTTP say of connections.
func (d *decoder) poolHTTP(msg *corev3.HttpProtocolOptions, p *mesh.Pool) error {
	if msg == nil {
		return nil
	}
	err := d.only(msg, "idle_timeout max_connection_duration max_requests_per_connection",
		"max_headers_count max_response_headers_kb max_stream_duration headers_with_underscores_action")
	if err != nil {
		return err
	}
	if idle := msg.GetIdleTimeout(); idle != nil {
		if p.IdleTimeout = duration(idle, 0); p.IdleTimeout == 0 {
			p.IdleTimeout = -1
		}
	}
	p.MaxAge = duration(msg.GetMaxConnectionDuration(), 0)
	if n := msg.GetMaxRequestsPerConnection(); n != nil {
		p.MaxRequests = n.GetValue()
	}
	return nil
}

func seconds(n uint32) time.Duration { return time.Duration(n) * time.Second }
