package resource

import (
	"errors"
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	commonv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/common/v3"
	leastv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/least_request/v3"
	maglevv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/maglev/v3"
	randomv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/random/v3"
	ringv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/ring_hash/v3"
	roundv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/load_balancing_policies/round_robin/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

const balanceTypes = "envoy.extensions.load_balancing_policies."

// typedBalance reads a policy that has a message of its own, as the fields of a cluster
// that mean the same. common is the cluster's, of which only the panic threshold counts
// besides. Of several policies Envoy takes the first that it knows.
func (d *decoder) typedBalance(msg *clusterv3.LoadBalancingPolicy, common *clusterv3.Cluster_CommonLbConfig) (*clusterv3.Cluster, error) {
	for _, policy := range msg.GetPolicies() {
		config := policy.GetTypedExtensionConfig().GetTypedConfig()
		if typ, known := strings.CutPrefix(typeOf(config), balanceTypes); known {
			as := &clusterv3.Cluster{CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: common.GetHealthyPanicThreshold()}}
			return as, d.typedPolicy(typ, config, as)
		}
	}
	return nil, errors.New("none of the policies is known")
}

func (d *decoder) typedPolicy(typ string, config *anypb.Any, as *clusterv3.Cluster) error {
	switch typ {
	case "round_robin.v3.RoundRobin":
		return d.typedRoundRobin(config, as)
	case "least_request.v3.LeastRequest":
		return d.typedLeastRequest(config, as)
	case "random.v3.Random":
		return d.typedRandom(config, as)
	case "ring_hash.v3.RingHash":
		return d.typedRingHash(config, as)
	case "maglev.v3.Maglev":
		return d.typedMaglev(config, as)
	case "cluster_provided.v3.ClusterProvided":
		as.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
		return nil
	default:
		return fmt.Errorf("type %q is not supported", typ)
	}
}

func (d *decoder) typedRoundRobin(config *anypb.Any, as *clusterv3.Cluster) error {
	own := &roundv3.RoundRobin{}
	if err := unpack(config, own); err != nil {
		return err
	}
	if err := d.only(own, "slow_start_config locality_lb_config", ""); err != nil {
		return err
	}
	as.LbPolicy = clusterv3.Cluster_ROUND_ROBIN
	as.LbConfig = &clusterv3.Cluster_RoundRobinLbConfig_{RoundRobinLbConfig: &clusterv3.Cluster_RoundRobinLbConfig{
		SlowStartConfig: slowStartOf(own.GetSlowStartConfig()),
	}}
	return d.typedLocality(own.GetLocalityLbConfig(), as)
}

func (d *decoder) typedLeastRequest(config *anypb.Any, as *clusterv3.Cluster) error {
	own := &leastv3.LeastRequest{}
	if err := unpack(config, own); err != nil {
		return err
	}
	err := d.only(own, "choice_count active_request_bias slow_start_config locality_lb_config", "enable_full_scan selection_method")
	if err != nil {
		return err
	}
	as.LbPolicy = clusterv3.Cluster_LEAST_REQUEST
	as.LbConfig = &clusterv3.Cluster_LeastRequestLbConfig_{LeastRequestLbConfig: &clusterv3.Cluster_LeastRequestLbConfig{
		ChoiceCount: own.GetChoiceCount(), ActiveRequestBias: own.GetActiveRequestBias(), SlowStartConfig: slowStartOf(own.GetSlowStartConfig()),
	}}
	return d.typedLocality(own.GetLocalityLbConfig(), as)
}

func (d *decoder) typedRandom(config *anypb.Any, as *clusterv3.Cluster) error {
	own := &randomv3.Random{}
	if err := unpack(config, own); err != nil {
		return err
	}
	as.LbPolicy = clusterv3.Cluster_RANDOM
	return d.typedLocality(own.GetLocalityLbConfig(), as)
}

func (d *decoder) typedRingHash(config *anypb.Any, as *clusterv3.Cluster) error {
	own := &ringv3.RingHash{}
	if err := unpack(config, own); err != nil {
		return err
	}
	err := d.only(own, "hash_function minimum_ring_size maximum_ring_size use_hostname_for_hashing consistent_hashing_lb_config"+
		" locality_weighted_lb_config", "hash_balance_factor")
	if err != nil {
		return err
	}
	function := clusterv3.Cluster_RingHashLbConfig_XX_HASH
	switch f := own.GetHashFunction(); f {
	case ringv3.RingHash_DEFAULT_HASH, ringv3.RingHash_XX_HASH:
	case ringv3.RingHash_MURMUR_HASH_2:
		function = clusterv3.Cluster_RingHashLbConfig_MURMUR_HASH_2
	default:
		return fmt.Errorf("hash_function %d is not supported", f)
	}
	as.LbPolicy = clusterv3.Cluster_RING_HASH
	as.LbConfig = &clusterv3.Cluster_RingHashLbConfig_{RingHashLbConfig: &clusterv3.Cluster_RingHashLbConfig{
		HashFunction: function, MinimumRingSize: own.GetMinimumRingSize(), MaximumRingSize: own.GetMaximumRingSize(),
	}}
	return d.typedHashing(own.GetConsistentHashingLbConfig(), own.GetUseHostnameForHashing(), own.GetLocalityWeightedLbConfig(), as)
}

func (d *decoder) typedMaglev(config *anypb.Any, as *clusterv3.Cluster) error {
	own := &maglevv3.Maglev{}
	if err := unpack(config, own); err != nil {
		return err
	}
	as.LbPolicy = clusterv3.Cluster_MAGLEV
	as.LbConfig = &clusterv3.Cluster_MaglevLbConfig_{MaglevLbConfig: &clusterv3.Cluster_MaglevLbConfig{TableSize: own.GetTableSize()}}
	return d.typedHashing(own.GetConsistentHashingLbConfig(), false, own.GetLocalityWeightedLbConfig(), as)
}

func (d *decoder) typedHashing(
	msg *commonv3.ConsistentHashingLbConfig, hostname bool, weighted *commonv3.LocalityLbConfig_LocalityWeightedLbConfig, as *clusterv3.Cluster,
) error {
	if msg != nil {
		if err := d.only(msg, "use_hostname_for_hashing", "hash_balance_factor"); err != nil {
			return err
		}
		hostname = msg.GetUseHostnameForHashing()
	}
	as.CommonLbConfig.ConsistentHashingLbConfig = &clusterv3.Cluster_CommonLbConfig_ConsistentHashingLbConfig{UseHostnameForHashing: hostname}
	if weighted != nil {
		as.CommonLbConfig.LocalityConfigSpecifier = byWeight()
	}
	return nil
}

func (d *decoder) typedLocality(msg *commonv3.LocalityLbConfig, as *clusterv3.Cluster) error {
	if msg == nil {
		return nil
	}
	if msg.GetLocalityWeightedLbConfig() != nil {
		as.CommonLbConfig.LocalityConfigSpecifier = byWeight()
	}
	return d.only(msg, "locality_weighted_lb_config", "zone_aware_lb_config")
}

func byWeight() *clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_ {
	return &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig_{
		LocalityWeightedLbConfig: &clusterv3.Cluster_CommonLbConfig_LocalityWeightedLbConfig{},
	}
}

func slowStartOf(msg *commonv3.SlowStartConfig) *clusterv3.Cluster_SlowStartConfig {
	if msg == nil {
		return nil
	}
	return &clusterv3.Cluster_SlowStartConfig{
		SlowStartWindow: msg.GetSlowStartWindow(), Aggression: msg.GetAggression(), MinWeightPercent: msg.GetMinWeightPercent(),
	}
}
