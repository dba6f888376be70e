package resource

import (
	"fmt"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// forward reads the action that sends a request to a cluster.
func (d *decoder) forward(msg *routev3.RouteAction, inherited *routev3.RetryPolicy, r *mesh.Rule) error {
	err := d.only(msg, "cluster weighted_clusters timeout idle_timeout prefix_rewrite regex_rewrite retry_policy hash_policy"+
		" host_rewrite_literal auto_host_rewrite upgrade_configs",
		"cluster_not_found_response_code request_mirror_policies append_x_forwarded_host priority max_stream_duration"+
			" max_grpc_timeout grpc_timeout_offset flush_timeout - include_vh_rate_limits early_data_policy")
	if err != nil {
		return err
	}
	r.Timeout = duration(msg.GetTimeout(), routeTimeout)
	if idle := msg.GetIdleTimeout(); idle != nil {
		r.IdleTimeout, r.HasIdleTimeout = duration(idle, 0), true
	}
	r.HostRewrite = msg.GetHostRewriteLiteral()
	r.AutoHost = msg.GetAutoHostRewrite().GetValue()
	if err := d.ruleUpgrades(msg.GetUpgradeConfigs(), r); err != nil {
		return err
	}
	if r.PrefixRewrite = msg.GetPrefixRewrite(); r.PrefixRewrite != "" {
		r.HasPrefixRewrite = true
	}
	if r.RegexRewrite, err = regexRewrite(msg.GetRegexRewrite()); err != nil {
		return err
	}
	if r.Targets, err = d.targets(msg); err != nil {
		return err
	}
	policy := msg.GetRetryPolicy()
	if policy == nil {
		policy = inherited
	}
	if r.Retry, err = d.retry(policy); err != nil {
		return err
	}
	for _, h := range msg.GetHashPolicy() {
		hash, err := d.hash(h)
		if err != nil {
			return err
		}
		r.Hash = append(r.Hash, hash)
	}
	return nil
}

func (d *decoder) targets(msg *routev3.RouteAction) ([]mesh.Target, error) {
	weighted := msg.GetWeightedClusters()
	if weighted == nil {
		if msg.GetCluster() == "" {
			return nil, fmt.Errorf("route without a cluster")
		}
		return []mesh.Target{{Cluster: msg.GetCluster(), Weight: 1}}, nil
	}
	if err := d.only(weighted, "clusters total_weight", " - runtime_key_prefix"); err != nil {
		return nil, err
	}
	var out []mesh.Target
	total := uint64(0)
	for _, w := range weighted.GetClusters() {
		err := d.only(w, "name weight request_headers_to_add request_headers_to_remove response_headers_to_add response_headers_to_remove", "")
		if err != nil {
			return nil, err
		}
		if w.GetName() == "" {
			return nil, fmt.Errorf("weighted cluster without a name")
		}
		t := mesh.Target{Cluster: w.GetName(), Weight: w.GetWeight().GetValue()}
		if t.Edit, err = edit(w); err != nil {
			return nil, err
		}
		total += uint64(t.Weight)
		out = append(out, t)
	}
	if total == 0 {
		return nil, fmt.Errorf("weighted clusters without a weight")
	}
	return out, nil
}

// regexRewrite recognises the rewrite that Consul puts on every route of a
// router: it cuts the matched prefix off, which needs no regular expression.
func regexRewrite(msg *matcherv3.RegexMatchAndSubstitute) (*mesh.RegexRewrite, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no rewrite
	}
	pattern := msg.GetPattern().GetRegex()
	if prefix, ok := strippedPrefix(pattern, msg.GetSubstitution()); ok {
		return &mesh.RegexRewrite{StripPrefix: prefix}, nil
	}
	if _, err := match.Regex(pattern); err != nil {
		return nil, fmt.Errorf("regex_rewrite: %w", err)
	}
	return &mesh.RegexRewrite{Pattern: pattern, Substitution: msg.GetSubstitution()}, nil
}

// strippedPrefix reads `^<prefix>(/?)(.*)` with `/\2`, where the prefix is
// quoted for regular expressions.
func strippedPrefix(pattern, substitution string) (string, bool) {
	quoted, ok := strings.CutPrefix(pattern, "^")
	if !ok || substitution != `/\2` {
		return "", false
	}
	if quoted, ok = strings.CutSuffix(quoted, "(/?)(.*)"); !ok || quoted == "" {
		return "", false
	}
	var plain strings.Builder
	for i := 0; i < len(quoted); i++ {
		if quoted[i] == '\\' && i+1 < len(quoted) {
			i++
		}
		plain.WriteByte(quoted[i])
	}
	if regexp.QuoteMeta(plain.String()) != quoted {
		return "", false // something in it is meant as an expression
	}
	return plain.String(), true
}

func (d *decoder) hash(msg *routev3.RouteAction_HashPolicy) (mesh.HashPolicy, error) {
	h := mesh.HashPolicy{Terminal: msg.GetTerminal()}
	switch p := msg.GetPolicySpecifier().(type) {
	case *routev3.RouteAction_HashPolicy_Header_:
		if p.Header.GetRegexRewrite() != nil {
			return h, fmt.Errorf("hash_policy with regex_rewrite is not supported")
		}
		h.Header = strings.ToLower(p.Header.GetHeaderName())
	case *routev3.RouteAction_HashPolicy_QueryParameter_:
		h.Query = p.QueryParameter.GetName()
	case *routev3.RouteAction_HashPolicy_ConnectionProperties_:
		h.SourceIP = p.ConnectionProperties.GetSourceIp()
	case *routev3.RouteAction_HashPolicy_Cookie_:
		if len(p.Cookie.GetAttributes()) > 0 {
			return h, fmt.Errorf("hash_policy with cookie attributes is not supported")
		}
		h.Cookie = &mesh.HashCookie{Name: p.Cookie.GetName(), Path: p.Cookie.GetPath()}
		if ttl := p.Cookie.GetTtl(); ttl != nil {
			h.Cookie.TTL, h.Cookie.HasTTL = duration(ttl, 0), true
		}
	default:
		return h, fmt.Errorf("hash_policy %T is not supported", p)
	}
	return h, nil
}
