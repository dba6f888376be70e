package resource

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// forward reads the action that sends a request to a cluster.
func (d *decoder) forward(msg *routev3.RouteAction, from inherited, r *mesh.Rule) error {
	err := d.only(msg, "cluster cluster_header weighted_clusters cluster_not_found_response_code timeout idle_timeout max_stream_duration"+
		" max_grpc_timeout grpc_timeout_offset prefix_rewrite regex_rewrite path_rewrite_policy retry_policy hash_policy"+
		" host_rewrite_literal host_rewrite_header host_rewrite_path_regex auto_host_rewrite append_x_forwarded_host"+
		" request_mirror_policies upgrade_configs",
		"priority flush_timeout hedge_policy - include_vh_rate_limits early_data_policy")
	if err != nil {
		return err
	}
	if err := d.timeouts(msg, r); err != nil {
		return err
	}
	if err := d.ruleUpgrades(msg.GetUpgradeConfigs(), r); err != nil {
		return err
	}
	if err := rewrites(msg, r); err != nil {
		return err
	}
	if r.Targets, err = d.targets(msg, append([]overrides{r.Filters}, from.filters...)); err != nil {
		return err
	}
	r.WeightHeader = strings.ToLower(msg.GetWeightedClusters().GetHeaderName())
	r.WeightHash = msg.GetWeightedClusters().GetUseHashPolicy().GetValue()
	if r.NoCluster, err = noCluster(msg.GetClusterNotFoundResponseCode()); err != nil {
		return err
	}
	if r.Retry, err = from.retry(); msg.GetRetryPolicy() != nil {
		r.Retry, err = d.retry(msg.GetRetryPolicy())
	}
	if err != nil {
		return err
	}
	r.Mirrors = from.mirrors
	if len(msg.GetRequestMirrorPolicies()) > 0 {
		if r.Mirrors, err = d.mirrors(msg.GetRequestMirrorPolicies()); err != nil {
			return err
		}
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

// timeouts reads what bounds an exchange.
func (d *decoder) timeouts(msg *routev3.RouteAction, r *mesh.Rule) error {
	r.Timeout = duration(msg.GetTimeout(), routeTimeout)
	if idle := msg.GetIdleTimeout(); idle != nil {
		r.IdleTimeout, r.HasIdleTimeout = duration(idle, 0), true
	}
	if most := msg.GetMaxGrpcTimeout(); most != nil {
		r.GRPCTimeout = &mesh.GRPCTimeout{Most: duration(most, 0), Offset: duration(msg.GetGrpcTimeoutOffset(), 0)}
	}
	stream := msg.GetMaxStreamDuration()
	if stream == nil {
		return nil
	}
	if err := d.only(stream, "max_stream_duration grpc_timeout_header_max grpc_timeout_header_offset", ""); err != nil {
		return err
	}
	r.Stream = &mesh.StreamDuration{Most: duration(stream.GetMaxStreamDuration(), 0), HasMost: stream.GetMaxStreamDuration() != nil}
	if most := stream.GetGrpcTimeoutHeaderMax(); most != nil {
		r.Stream.GRPC = &mesh.GRPCTimeout{Most: duration(most, 0), Offset: duration(stream.GetGrpcTimeoutHeaderOffset(), 0)}
	}
	return nil
}

// rewrites reads what the upstream gets for authority and path.
func rewrites(msg *routev3.RouteAction, r *mesh.Rule) error {
	var err error
	r.AppendHost = msg.GetAppendXForwardedHost()
	r.HostRewrite = msg.GetHostRewriteLiteral()
	r.HostHeader = strings.ToLower(msg.GetHostRewriteHeader())
	r.AutoHost = msg.GetAutoHostRewrite().GetValue()
	if r.HostPath, err = substitution(msg.GetHostRewritePathRegex()); err != nil {
		return fmt.Errorf("host_rewrite_path_regex: %w", err)
	}
	if r.PrefixRewrite = msg.GetPrefixRewrite(); r.PrefixRewrite != "" {
		r.HasPrefixRewrite = true
	}
	if r.RegexRewrite, err = regexRewrite(msg.GetRegexRewrite()); err != nil {
		return err
	}
	r.TemplateRewrite, err = templateRewrite(msg.GetPathRewritePolicy(), r.Match.Template)
	if err == nil && r.TemplateRewrite != "" && (r.HasPrefixRewrite || r.RegexRewrite != nil) {
		err = errors.New("path_rewrite_policy beside another rewrite")
	}
	return err
}

func noCluster(code routev3.RouteAction_ClusterNotFoundResponseCode) (int, error) {
	switch code {
	case routev3.RouteAction_SERVICE_UNAVAILABLE:
		return 0, nil
	case routev3.RouteAction_NOT_FOUND:
		return http.StatusNotFound, nil
	case routev3.RouteAction_INTERNAL_SERVER_ERROR:
		return http.StatusInternalServerError, nil
	default:
		return 0, fmt.Errorf("cluster_not_found_response_code %d is not supported", code)
	}
}

// mirrors reads to whom copies of requests go.
func (d *decoder) mirrors(msgs []*routev3.RouteAction_RequestMirrorPolicy) ([]mesh.Mirror, error) {
	var all []mesh.Mirror
	for _, msg := range msgs {
		err := d.only(msg, "cluster cluster_header runtime_fraction disable_shadow_host_suffix_append", "trace_sampled")
		if err != nil {
			return nil, err
		}
		m := mesh.Mirror{
			Cluster: msg.GetCluster(), ClusterHeader: strings.ToLower(msg.GetClusterHeader()), Share: 1_000_000,
			PlainHost: msg.GetDisableShadowHostSuffixAppend(),
		}
		if (m.Cluster == "") == (m.ClusterHeader == "") {
			return nil, errors.New("request_mirror_policies: either a cluster or a header that names one")
		}
		if f := msg.GetRuntimeFraction(); f != nil {
			if m.Share, err = d.share(f); err != nil {
				return nil, fmt.Errorf("request_mirror_policies: %w", err)
			}
		}
		all = append(all, m)
	}
	return all, nil
}

// targets reads where requests go; above is what is said about filters for all of them.
func (d *decoder) targets(msg *routev3.RouteAction, above []overrides) ([]mesh.Target, error) {
	weighted := msg.GetWeightedClusters()
	if weighted == nil {
		if msg.GetCluster() == "" && msg.GetClusterHeader() == "" {
			return nil, fmt.Errorf("route without a cluster")
		}
		return []mesh.Target{{Cluster: msg.GetCluster(), Header: strings.ToLower(msg.GetClusterHeader()), Weight: 1}}, nil
	}
	if err := d.only(weighted, "clusters total_weight header_name use_hash_policy", " - runtime_key_prefix"); err != nil {
		return nil, err
	}
	var out []mesh.Target
	total := uint64(0)
	for _, w := range weighted.GetClusters() {
		err := d.only(w, "name cluster_header weight request_headers_to_add request_headers_to_remove response_headers_to_add"+
			" response_headers_to_remove host_rewrite_literal typed_per_filter_config", "")
		if err != nil {
			return nil, err
		}
		if (w.GetName() == "") == (w.GetClusterHeader() == "") {
			return nil, fmt.Errorf("weighted cluster without a name, or with two")
		}
		t := mesh.Target{
			Cluster: w.GetName(), Header: strings.ToLower(w.GetClusterHeader()), Weight: w.GetWeight().GetValue(),
			HostRewrite: w.GetHostRewriteLiteral(), Filters: d.overrides(w.GetTypedPerFilterConfig(), above),
		}
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
	rewrite, err := substitution(msg)
	if err != nil {
		return nil, fmt.Errorf("regex_rewrite: %w", err)
	}
	return rewrite, nil
}

// substitution reads a rewrite by a regular expression and tries its pattern out.
func substitution(msg *matcherv3.RegexMatchAndSubstitute) (*mesh.RegexRewrite, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no rewrite
	}
	pattern := msg.GetPattern().GetRegex()
	if _, err := match.Regex(pattern); err != nil {
		return nil, err
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
		h.Cookie = &mesh.HashCookie{Name: p.Cookie.GetName(), Path: p.Cookie.GetPath()}
		for _, a := range p.Cookie.GetAttributes() {
			if strings.ContainsAny(a.GetName()+a.GetValue(), ";\r\n\x00") || a.GetName() == "" {
				return h, fmt.Errorf("hash_policy with the cookie attribute %q", a.GetName())
			}
			h.Cookie.Attributes = append(h.Cookie.Attributes, mesh.Pair{Name: a.GetName(), Value: a.GetValue()})
		}
		if ttl := p.Cookie.GetTtl(); ttl != nil {
			h.Cookie.TTL, h.Cookie.HasTTL = duration(ttl, 0), true
		}
	default:
		return h, fmt.Errorf("hash_policy %T is not supported", p)
	}
	return h, nil
}
