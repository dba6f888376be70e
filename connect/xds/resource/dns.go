package resource

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	caresv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/cares/v3"
	getaddrinfov3 "github.com/envoyproxy/go-control-plane/envoy/extensions/network/dns_resolver/getaddrinfo/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of clusters and resolvers.
const (
	dnsType         = "envoy.extensions.clusters.dns.v3.DnsCluster"
	caresType       = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig"
	getaddrinfoType = "envoy.extensions.network.dns_resolver.getaddrinfo.v3.GetAddrInfoDnsResolverConfig"
)

const (
	// dnsRefresh is Envoy's default.
	dnsRefresh = 5 * time.Second
	// getaddrinfoTTL is how long Envoy takes for good what getaddrinfo has found, which
	// tells no such thing.
	getaddrinfoTTL = time.Minute
	// maxServers bounds how many servers of DNS a cluster may name.
	maxServers = 16
)

// names reads the names of a cluster whose kind is known.
func (d *decoder) names(msg *clusterv3.Cluster, c *mesh.Cluster) error {
	set, names, err := d.endpointSet(msg.GetLoadAssignment())
	if err != nil {
		return err
	}
	c.Names = names
	for i := range set.Endpoints {
		// An address among names is its own name.
		e := set.Endpoints[i]
		if e.Address.Socket != "" {
			return errors.New("unix socket in a DNS cluster")
		}
		name := mesh.DNSName{Host: e.Address.AddrPort.Addr().String(), Port: e.Address.AddrPort.Port(), Endpoint: e}
		name.Endpoint.Address = mesh.Address{}
		c.Names = append(c.Names, name)
	}
	switch {
	case len(c.Names) == 0:
		return errors.New("DNS cluster without a name")
	case len(c.Names) > 1 && c.Kind == mesh.ClusterLogicalDNS:
		return errors.New("LOGICAL_DNS cluster of several names")
	}
	return nil
}

// dns reads a cluster of names as its own fields have it.
func (d *decoder) dns(msg *clusterv3.Cluster, c *mesh.Cluster) error {
	if c.Kind != mesh.ClusterLogicalDNS {
		c.Kind = mesh.ClusterStrictDNS
	}
	if err := d.names(msg, c); err != nil {
		return err
	}
	dns := &c.DNS
	var err error
	if dns.Family, err = dnsFamily(int32(msg.GetDnsLookupFamily())); err != nil {
		return err
	}
	if rate := msg.GetDnsFailureRefreshRate(); rate != nil {
		if err := dnsRetries(rate.GetBaseInterval(), rate.GetMaxInterval(), dns); err != nil {
			return err
		}
	}
	dnsTimes(msg.GetDnsRefreshRate(), msg.GetDnsJitter(), msg.GetRespectDnsTtl(), dns)
	dns.NoWait = noWait(msg)
	dns.TCP = msg.GetUseTcpForDnsLookups()
	switch config := msg.GetDnsResolutionConfig(); { // deprecated, as are the fields of the cluster
	case msg.GetTypedDnsResolverConfig() != nil:
		dns.TCP = false
		return d.resolver(msg.GetTypedDnsResolverConfig(), dns)
	case config != nil:
		d.resolverOptions(config.GetDnsResolverOptions(), dns)
		return servers(config.GetResolvers(), dns)
	default:
		return servers(msg.GetDnsResolvers(), dns)
	}
}

// dnsCluster reads a cluster of names as its own message has it.
func (d *decoder) dnsCluster(msg *clusterv3.Cluster, config *anypb.Any, c *mesh.Cluster) error {
	own := &dnsv3.DnsCluster{}
	if err := unpack(config, own); err != nil {
		return err
	}
	err := d.only(own, "dns_refresh_rate dns_failure_refresh_rate respect_dns_ttl dns_jitter typed_dns_resolver_config dns_lookup_family"+
		" all_addresses_in_single_endpoint", "dns_min_refresh_rate")
	if err != nil {
		return err
	}
	if c.Kind = mesh.ClusterStrictDNS; own.GetAllAddressesInSingleEndpoint() {
		c.Kind = mesh.ClusterLogicalDNS
	}
	if err := d.names(msg, c); err != nil {
		return err
	}
	dns := &c.DNS
	if family := int32(own.GetDnsLookupFamily()); family > 0 { // 0 is unspecified, which is AUTO
		if dns.Family, err = dnsFamily(family - 1); err != nil {
			return err
		}
	}
	if rate := own.GetDnsFailureRefreshRate(); rate != nil {
		if err := dnsRetries(rate.GetBaseInterval(), rate.GetMaxInterval(), dns); err != nil {
			return err
		}
	}
	dnsTimes(own.GetDnsRefreshRate(), own.GetDnsJitter(), own.GetRespectDnsTtl(), dns)
	dns.NoWait = noWait(msg)
	if own.GetTypedDnsResolverConfig() == nil {
		return nil
	}
	return d.resolver(own.GetTypedDnsResolverConfig(), dns)
}

func noWait(msg *clusterv3.Cluster) bool {
	return msg.GetWaitForWarmOnInit() != nil && !msg.GetWaitForWarmOnInit().GetValue()
}

// dnsFamily reads a family as the cluster's own field counts them.
func dnsFamily(family int32) (mesh.DNSFamily, error) {
	switch clusterv3.Cluster_DnsLookupFamily(family) {
	case clusterv3.Cluster_AUTO:
		return mesh.DNSAuto, nil
	case clusterv3.Cluster_V4_ONLY:
		return mesh.DNSv4Only, nil
	case clusterv3.Cluster_V6_ONLY:
		return mesh.DNSv6Only, nil
	case clusterv3.Cluster_V4_PREFERRED:
		return mesh.DNSv4Preferred, nil
	case clusterv3.Cluster_ALL:
		return mesh.DNSAll, nil
	default:
		return 0, fmt.Errorf("dns_lookup_family %d is not supported", family)
	}
}

// dnsTimes reads how long a lookup holds.
func dnsTimes(refresh, jitter *durationpb.Duration, ttl bool, dns *mesh.DNS) {
	if dns.Refresh = duration(refresh, dnsRefresh); dns.Refresh == 0 {
		dns.Refresh = dnsRefresh
	}
	dns.RespectTTL, dns.Jitter = ttl, duration(jitter, 0)
}

func dnsRetries(base, most *durationpb.Duration, dns *mesh.DNS) error {
	dns.Retry, dns.MaxRetry = duration(base, 0), duration(most, 0)
	if dns.Retry == 0 || dns.MaxRetry != 0 && dns.MaxRetry < dns.Retry {
		return fmt.Errorf("dns_failure_refresh_rate from %s to %s", dns.Retry, dns.MaxRetry)
	}
	return nil
}

// resolver reads who is asked. How c-ares shares out its own queries is its own
// business.
func (d *decoder) resolver(msg *corev3.TypedExtensionConfig, dns *mesh.DNS) error {
	switch typ := typeOf(msg.GetTypedConfig()); typ {
	case caresType:
		config := &caresv3.CaresDnsResolverConfig{}
		if err := unpack(msg.GetTypedConfig(), config); err != nil {
			return err
		}
		err := d.only(config, "resolvers dns_resolver_options use_resolvers_as_fallback", "filter_unroutable_families query_timeout_seconds query_tries"+
			" - rotate_nameservers udp_max_queries edns0_max_payload_size max_udp_channel_duration reinit_channel_on_timeout qcache_max_ttl")
		if err != nil {
			return err
		}
		d.resolverOptions(config.GetDnsResolverOptions(), dns)
		if config.GetUseResolversAsFallback() {
			d.note("CaresDnsResolverConfig.use_resolvers_as_fallback: the machine's own servers are asked only")
			return nil
		}
		return servers(config.GetResolvers(), dns)
	case getaddrinfoType:
		if err := unpack(msg.GetTypedConfig(), &getaddrinfov3.GetAddrInfoDnsResolverConfig{}); err != nil {
			return err
		}
		if dns.RespectTTL {
			dns.RespectTTL, dns.Refresh = false, getaddrinfoTTL
		}
		return nil
	default:
		return fmt.Errorf("DNS resolver of type %q is not supported", typ)
	}
}

func (d *decoder) resolverOptions(msg *corev3.DnsResolverOptions, dns *mesh.DNS) {
	dns.TCP, dns.NoSearch = msg.GetUseTcpForDnsLookups(), msg.GetNoDefaultSearchDomain()
}

// servers reads the addresses of servers of DNS.
func servers(msgs []*corev3.Address, dns *mesh.DNS) error {
	if len(msgs) > maxServers {
		return fmt.Errorf("%d DNS servers are more than %d", len(msgs), maxServers)
	}
	for _, msg := range msgs {
		// Names of DNS are mostly asked for by UDP: whichever is said, the address counts.
		socket := msg.GetSocketAddress()
		ip, err := netip.ParseAddr(socket.GetAddress())
		if err != nil || socket.GetPortValue() == 0 || socket.GetPortValue() > 65535 {
			return fmt.Errorf("DNS server %q with port %d is no address", socket.GetAddress(), socket.GetPortValue())
		}
		dns.Servers = append(dns.Servers, netip.AddrPortFrom(ip, uint16(socket.GetPortValue())))
	}
	return nil
}
