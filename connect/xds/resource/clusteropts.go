package resource

import (
	"errors"
	"fmt"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serai-net/serai/connect/mesh"
)

const upstreamsType = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// protocol reads what the upstream speaks. Nothing said means HTTP/1.1.
func (d *decoder) protocol(msg *clusterv3.Cluster, c *mesh.Cluster) (mesh.Protocol, error) {
	p := mesh.HTTP1
	if options := msg.GetHttp2ProtocolOptions(); options != nil { // deprecated, still in hand-written clusters
		p = mesh.HTTP2
		var err error
		if c.HTTP2Options, err = d.http2Options(options); err != nil {
			return p, err
		}
	}
	if msg.GetProtocolSelection() == clusterv3.Cluster_USE_DOWNSTREAM_PROTOCOL {
		p = mesh.FollowDownstream
	}
	auto := msg.GetUpstreamHttpProtocolOptions() // deprecated: what is typed goes before
	for name, options := range msg.GetTypedExtensionProtocolOptions() {
		if typeOf(options) != upstreamsType {
			return p, fmt.Errorf("protocol options %s are not supported", name)
		}
		config := &upstreamsv3.HttpProtocolOptions{}
		if err := unpack(options, config); err != nil {
			return p, err
		}
		if err := d.poolHTTP(config.GetCommonHttpProtocolOptions(), &c.Pool); err != nil {
			return p, err
		}
		var err error
		if p, err = d.protocolOptions(config, c); err != nil {
			return p, err
		}
		if typed := config.GetUpstreamHttpProtocolOptions(); typed != nil {
			auto = typed
		}
	}
	if p == mesh.Negotiated && c.TLS == nil { // Envoy does not take it either
		return p, errors.New("auto_config without TLS, by which to agree on a protocol")
	}
	return p, d.autoNames(auto, c)
}

// autoNames reads what of TLS goes by the host of a request.
func (d *decoder) autoNames(msg *corev3.UpstreamHttpProtocolOptions, c *mesh.Cluster) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "auto_sni auto_san_validation override_auto_sni_header", ""); err != nil {
		return err
	}
	t := c.TLS
	if t == nil {
		return nil
	}
	t.AutoSNI, t.AutoSAN, t.NameHeader = msg.GetAutoSni(), msg.GetAutoSanValidation(), strings.ToLower(msg.GetOverrideAutoSniHeader())
	return nil
}

func (d *decoder) protocolOptions(msg *upstreamsv3.HttpProtocolOptions, c *mesh.Cluster) (_ mesh.Protocol, err error) {
	err = d.only(msg, "explicit_http_config use_downstream_protocol_config auto_config common_http_protocol_options upstream_http_protocol_options",
		"request_mirror_policies hash_policy retry_policy outlier_detection header_validation_config")
	if err != nil {
		return mesh.HTTP1, err
	}
	switch options := msg.GetUpstreamProtocolOptions().(type) {
	case *upstreamsv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		as := options.UseDownstreamProtocolConfig
		if err := d.only(as, "http_protocol_options http2_protocol_options", "- http3_protocol_options"); err != nil {
			return mesh.HTTP1, err
		}
		if err := d.http1Upstream(as.GetHttpProtocolOptions()); err != nil {
			return mesh.HTTP1, err
		}
		c.HTTP2Options, err = d.http2Options(as.GetHttp2ProtocolOptions())
		return mesh.FollowDownstream, err
	case *upstreamsv3.HttpProtocolOptions_AutoConfig:
		if err := d.only(options.AutoConfig, "http_protocol_options http2_protocol_options", ""); err != nil {
			return mesh.HTTP1, err
		}
		if err := d.http1Upstream(options.AutoConfig.GetHttpProtocolOptions()); err != nil {
			return mesh.HTTP1, err
		}
		c.HTTP2Options, err = d.http2Options(options.AutoConfig.GetHttp2ProtocolOptions())
		return mesh.Negotiated, err
	case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_:
		switch options.ExplicitHttpConfig.GetProtocolConfig().(type) {
		case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions:
			return mesh.HTTP1, d.http1Upstream(options.ExplicitHttpConfig.GetHttpProtocolOptions())
		case *upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions:
			c.HTTP2Options, err = d.http2Options(options.ExplicitHttpConfig.GetHttp2ProtocolOptions())
			return mesh.HTTP2, err
		}
	}
	return mesh.HTTP1, errors.New("HttpProtocolOptions: neither HTTP/1.1 nor HTTP/2 nor as downstream")
}

func (d *decoder) limits(msg *clusterv3.CircuitBreakers) (mesh.Limits, error) {
	l := mesh.Limits{}
	if msg == nil {
		return l, nil
	}
	if err := d.only(msg, "thresholds per_host_thresholds", ""); err != nil {
		return l, err
	}
	for _, t := range msg.GetPerHostThresholds() {
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT {
			d.note("thresholds of priority %s are ignored", t.GetPriority())
			continue
		}
		if err := d.only(t, "priority max_connections", " - track_remaining"); err != nil {
			return l, fmt.Errorf("per_host_thresholds: %w", err) // Envoy refuses them, too
		}
		l.MaxHostConnections, l.HasHostConnections = limit(t.GetMaxConnections())
	}
	for _, t := range msg.GetThresholds() {
		if t.GetPriority() != corev3.RoutingPriority_DEFAULT {
			d.note("thresholds of priority %s are ignored", t.GetPriority())
			continue
		}
		err := d.only(t, "priority max_connections max_pending_requests max_requests max_retries retry_budget track_remaining",
			"max_connection_pools")
		if err != nil {
			return l, err
		}
		l.TrackRemaining = t.GetTrackRemaining()
		l.MaxConnections, l.HasConnections = limit(t.GetMaxConnections())
		l.MaxPending, l.HasPending = limit(t.GetMaxPendingRequests())
		l.MaxRequests, l.HasRequests = limit(t.GetMaxRequests())
		l.MaxRetries, l.HasRetries = limit(t.GetMaxRetries())
		if l.Budget, err = d.budget(t.GetRetryBudget()); err != nil {
			return l, err
		}
	}
	return l, nil
}

func limit(v *wrapperspb.UInt32Value) (uint32, bool) {
	return v.GetValue(), v != nil
}

func (d *decoder) budget(msg *clusterv3.CircuitBreakers_Thresholds_RetryBudget) (*mesh.RetryBudget, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no budget
	}
	if err := d.only(msg, "budget_percent min_retry_concurrency", "budget_interval"); err != nil {
		return nil, err
	}
	b := &mesh.RetryBudget{Percent: 20, MinConcurrency: value(msg.GetMinRetryConcurrency(), 3)} // Envoy's defaults
	if p := msg.GetBudgetPercent(); p != nil {
		if b.Percent = p.GetValue(); !(b.Percent >= 0 && b.Percent <= 100) {
			return nil, fmt.Errorf("retry_budget of %v percent", b.Percent)
		}
	}
	return b, nil
}

// outlier fills in Envoy's defaults. An empty message means detection with all
// defaults, none means no detection.
func (d *decoder) outlier(msg *clusterv3.OutlierDetection) (*mesh.Outlier, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no detection
	}
	err := d.only(msg, "consecutive_5xx interval base_ejection_time max_ejection_percent enforcing_consecutive_5xx"+
		" split_external_local_origin_errors consecutive_local_origin_failure enforcing_consecutive_local_origin_failure"+
		" enforcing_local_origin_success_rate enforcing_success_rate enforcing_failure_percentage"+
		" enforcing_failure_percentage_local_origin enforcing_consecutive_gateway_failure consecutive_gateway_failure"+
		" success_rate_minimum_hosts success_rate_request_volume success_rate_stdev_factor failure_percentage_threshold"+
		" failure_percentage_minimum_hosts failure_percentage_request_volume max_ejection_time max_ejection_time_jitter"+
		" always_eject_one_host successful_active_health_check_uneject_host",
		"detect_degraded_hosts - monitors")
	if err != nil {
		return nil, err
	}
	o := mesh.DefaultOutlier()
	o.SplitLocalOrigin = msg.GetSplitExternalLocalOriginErrors()
	o.KeepEjected = msg.GetSuccessfulActiveHealthCheckUnejectHost() != nil && !msg.GetSuccessfulActiveHealthCheckUnejectHost().GetValue()
	o.AlwaysEjectOne = msg.GetAlwaysEjectOneHost().GetValue()
	o.Interval = duration(msg.GetInterval(), o.Interval)
	o.BaseEjection = duration(msg.GetBaseEjectionTime(), o.BaseEjection)
	o.MaxEjection = duration(msg.GetMaxEjectionTime(), o.MaxEjection)
	o.MaxEjectionJitter = duration(msg.GetMaxEjectionTimeJitter(), 0)
	for _, field := range []struct {
		into *uint32
		v    *wrapperspb.UInt32Value
		most uint32 // 0 means any
	}{
		{&o.Consecutive5xx, msg.GetConsecutive_5Xx(), 0},
		{&o.EnforcingConsecutive5xx, msg.GetEnforcingConsecutive_5Xx(), 100},
		{&o.ConsecutiveGatewayFailure, msg.GetConsecutiveGatewayFailure(), 0},
		{&o.EnforcingConsecutiveGatewayFailure, msg.GetEnforcingConsecutiveGatewayFailure(), 100},
		{&o.ConsecutiveLocalOriginFailure, msg.GetConsecutiveLocalOriginFailure(), 0},
		{&o.EnforcingConsecutiveLocalOriginFailure, msg.GetEnforcingConsecutiveLocalOriginFailure(), 100},
		{&o.MaxEjectionPercent, msg.GetMaxEjectionPercent(), 100},
		{&o.SuccessRateMinimumHosts, msg.GetSuccessRateMinimumHosts(), 0},
		{&o.SuccessRateRequestVolume, msg.GetSuccessRateRequestVolume(), 0},
		{&o.SuccessRateStdevFactor, msg.GetSuccessRateStdevFactor(), 0},
		{&o.EnforcingSuccessRate, msg.GetEnforcingSuccessRate(), 100},
		{&o.EnforcingLocalOriginSuccessRate, msg.GetEnforcingLocalOriginSuccessRate(), 100},
		{&o.FailurePercentageThreshold, msg.GetFailurePercentageThreshold(), 100},
		{&o.FailurePercentageMinimumHosts, msg.GetFailurePercentageMinimumHosts(), 0},
		{&o.FailurePercentageRequestVolume, msg.GetFailurePercentageRequestVolume(), 0},
		{&o.EnforcingFailurePercentage, msg.GetEnforcingFailurePercentage(), 100},
		{&o.EnforcingFailurePercentageLocalOrigin, msg.GetEnforcingFailurePercentageLocalOrigin(), 100},
	} {
		if *field.into = value(field.v, *field.into); field.most > 0 {
			*field.into = min(*field.into, field.most)
		}
	}
	return o, nil
}

// value returns what v holds, or fallback if it is absent.
func value(v *wrapperspb.UInt32Value, fallback uint32) uint32 {
	if v == nil {
		return fallback
	}
	return v.GetValue()
}
