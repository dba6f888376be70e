package resource

import (
	"fmt"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	prioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	previousHosts      = "envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
	previousPriorities = "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"
)

// retry reads a retry policy.
func (d *decoder) retry(msg *routev3.RetryPolicy) (*mesh.Retry, error) {
	if msg == nil {
		return nil, nil //nolint:nilnil // nil is no retry
	}
	err := d.only(msg, "retry_on num_retries per_try_timeout retriable_status_codes per_try_idle_timeout retry_priority"+
		" retry_host_predicate host_selection_retry_max_attempts retry_back_off rate_limited_retry_back_off retriable_headers"+
		" retriable_request_headers", "refresh_cluster_on_retry")
	if err != nil {
		return nil, err
	}
	r := &mesh.Retry{
		Retries: 1, PerTry: duration(msg.GetPerTryTimeout(), 0), PerTryIdle: duration(msg.GetPerTryIdleTimeout(), 0),
		HostAttempts: int(min(max(0, msg.GetHostSelectionRetryMaxAttempts()), 1000)),
	}
	if n := msg.GetNumRetries(); n != nil {
		r.Retries = int(min(n.GetValue(), 1000))
	}
	var unknown []string
	if r.On, unknown = mesh.ParseRetryOn(msg.GetRetryOn()); len(unknown) > 0 {
		d.note("retry_on %s is ignored", strings.Join(unknown, ","))
	}
	for _, code := range msg.GetRetriableStatusCodes() {
		r.Codes = append(r.Codes, int(code))
	}
	if r.Headers, err = headerMatches(msg.GetRetriableHeaders()); err != nil {
		return nil, fmt.Errorf("retriable_headers: %w", err)
	}
	if r.RequestHeaders, err = headerMatches(msg.GetRetriableRequestHeaders()); err != nil {
		return nil, fmt.Errorf("retriable_request_headers: %w", err)
	}
	if err := d.backOff(msg, r); err != nil {
		return nil, err
	}
	return r, d.elsewhere(msg, r)
}

func headerMatches(all []*routev3.HeaderMatcher) ([]mesh.HeaderMatch, error) {
	var out []mesh.HeaderMatch
	for _, one := range all {
		m, err := headerMatch(one)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// backOff reads the pauses between tries.
func (d *decoder) backOff(msg *routev3.RetryPolicy, r *mesh.Retry) error {
	if b := msg.GetRetryBackOff(); b != nil {
		if err := d.only(b, "base_interval max_interval", ""); err != nil {
			return err
		}
		r.BackOff = max(time.Millisecond, duration(b.GetBaseInterval(), 0))
		if b.GetMaxInterval() != nil {
			if r.MaxBackOff = duration(b.GetMaxInterval(), 0); r.MaxBackOff < r.BackOff {
				return fmt.Errorf("retry_back_off: max_interval %s is less than base_interval %s", r.MaxBackOff, r.BackOff)
			}
		}
	}
	limited := msg.GetRateLimitedRetryBackOff()
	if limited == nil {
		return nil
	}
	if err := d.only(limited, "reset_headers max_interval", ""); err != nil {
		return err
	}
	r.RateLimited = &mesh.RateLimitedBackOff{Max: duration(limited.GetMaxInterval(), 300*time.Second)}
	for _, h := range limited.GetResetHeaders() {
		r.RateLimited.Headers = append(r.RateLimited.Headers, mesh.ResetHeader{
			Name: strings.ToLower(h.GetName()), Unix: h.GetFormat() == routev3.RetryPolicy_UNIX_TIMESTAMP,
		})
	}
	return nil
}

// elsewhere reads what makes a retry go to another host or priority.
func (d *decoder) elsewhere(msg *routev3.RetryPolicy, r *mesh.Retry) error {
	for _, p := range msg.GetRetryHostPredicate() {
		if typ := typeOf(p.GetTypedConfig()); typ != previousHosts && p.GetName() != "envoy.retry_host_predicates.previous_hosts" {
			return fmt.Errorf("retry_host_predicate %s is not supported", p.GetName())
		}
		r.PreviousHosts = true
	}
	p := msg.GetRetryPriority()
	if p == nil {
		return nil
	}
	config := &prioritiesv3.PreviousPrioritiesConfig{}
	if typ := typeOf(p.GetTypedConfig()); typ != previousPriorities {
		return fmt.Errorf("retry_priority %s is not supported", p.GetName())
	}
	if err := unpack(p.GetTypedConfig(), config); err != nil {
		return err
	}
	r.PreviousPriorities = max(1, int(config.GetUpdateFrequency()))
	return nil
}
