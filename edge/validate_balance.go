package edge

import (
	"strings"

	"golang.org/x/net/http/httpguts"

	"github.com/serai-net/serai/connect/mesh"
)

// validateSettings checks the blocks of an upstream.
func (u *Upstream) validateSettings(p *problems, who string) {
	for _, block := range []struct {
		name, entry string
		is          bool
		pos         func() Positions
	}{
		{"load_balancer", "service-resolver", u.LoadBalancer != nil, func() Positions { return u.LoadBalancer.Pos }},
		{"limits", "service-defaults", u.Limits != nil, func() Positions { return u.Limits.Pos }},
		{"passive_health_check", "service-defaults", u.PassiveHealthCheck != nil, func() Positions { return u.PassiveHealthCheck.Pos }},
		{"retry", "service-router", u.Retry != nil, func() Positions { return u.Retry.Pos }},
	} {
		if block.is && u.Service != "" {
			p.add(block.pos().At(""), "%s: %s of a mesh service is set in Consul's %s", who, block.name, block.entry)
		}
	}
	u.LoadBalancer.validate(p, who)
	u.PassiveHealthCheck.validate(p, who)
	u.Retry.validate(p, who)
}

func (b *LoadBalancer) validate(p *problems, who string) {
	if b == nil {
		return
	}
	policy, known := policyNamed(b.Policy)
	if !known {
		p.add(b.Pos.At("policy"), `%s: policy is %q; write "round_robin", "least_request", "random", "ring_hash" or "maglev"`, who, b.Policy)
		return
	}
	const mostRing = 8 << 20
	if b.MinimumRingSize > mostRing || b.MaximumRingSize > mostRing {
		p.add(b.Pos.At(""), "%s: a ring has at most %d points", who, mostRing)
	}
	if b.MaximumRingSize > 0 && b.MinimumRingSize > b.MaximumRingSize {
		p.add(b.Pos.At("minimum_ring_size"), "%s: minimum_ring_size is more than maximum_ring_size", who)
	}
	for _, one := range []struct {
		argument string
		is       bool
		only     []mesh.Policy
	}{
		{"choice_count", b.ChoiceCount != 0, []mesh.Policy{mesh.LeastRequest}},
		{"minimum_ring_size", b.MinimumRingSize != 0, []mesh.Policy{mesh.RingHash}},
		{"maximum_ring_size", b.MaximumRingSize != 0, []mesh.Policy{mesh.RingHash}},
		{"slow_start", b.SlowStart != 0, []mesh.Policy{mesh.RoundRobin, mesh.LeastRequest}},
		{"hash_policy", len(b.HashPolicies) > 0, []mesh.Policy{mesh.RingHash, mesh.Maglev}},
	} {
		if !one.is {
			continue
		}
		var names []string
		found := false
		for _, only := range one.only {
			names = append(names, only.String())
			found = found || only == policy
		}
		if !found {
			p.add(b.Pos.At(one.argument), "%s: %s goes with the policy %s, not with %s", who, one.argument, strings.Join(names, " or "), policy)
		}
	}
	if (policy == mesh.RingHash || policy == mesh.Maglev) && len(b.HashPolicies) == 0 {
		p.add(b.Pos.At(""), `%s: %s without a hash_policy; add hash_policy { header = "x-user" }`, who, policy)
	}
	for i := range b.HashPolicies {
		b.HashPolicies[i].validate(p, who)
	}
}

func (h *HashPolicy) validate(p *problems, who string) {
	kinds := 0
	for _, is := range []bool{h.Header != "", h.Query != "", h.Cookie != "", h.SourceIP} {
		if is {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		p.add(h.Pos.At(""), "%s: hash_policy needs exactly one of header, query_parameter, cookie and source_ip", who)
	case h.Cookie == "" && (h.TTL != nil || h.Path != ""):
		p.add(h.Pos.At(""), "%s: ttl and path of a hash_policy go with cookie", who)
	case h.Header != "" && !httpguts.ValidHeaderFieldName(h.Header):
		p.add(h.Pos.At("header"), "%s: %q is no header name; write for example \"x-user\"", who, h.Header)
	case h.Cookie != "" && !httpguts.ValidHeaderFieldName(h.Cookie):
		p.add(h.Pos.At("cookie"), "%s: %q is no name of a cookie", who, h.Cookie)
	case strings.ContainsAny(h.Path, ";\r\n\x00"):
		p.add(h.Pos.At("path"), "%s: %q is no path of a cookie", who, h.Path)
	}
}

func (c *PassiveHealthCheck) validate(p *problems, who string) {
	if c == nil {
		return
	}
	for argument, percent := range map[string]*uint32{
		"enforcing_consecutive_5xx": c.EnforcingConsecutive5xx, "max_ejection_percent": c.MaxEjectionPercent,
	} {
		if percent != nil && *percent > 100 {
			p.add(c.Pos.At(argument), "%s: %s is %d; it is a percentage, 0 to 100", who, argument, *percent)
		}
	}
}

func (r *Retry) validate(p *problems, who string) {
	if r == nil {
		return
	}
	if r.Attempts < 0 || r.Attempts > 10 {
		p.add(r.Pos.At("attempts"), "%s: attempts is %d; it can be 1 to 10", who, r.Attempts)
	}
	if _, unknown := mesh.ParseRetryOn(strings.Join(r.Conditions, ",")); len(unknown) > 0 {
		p.add(r.Pos.At("conditions"), "%s: condition %q is not known; write for example \"5xx\", \"gateway-error\" or \"connect-failure\"", who, unknown[0])
	}
	for _, code := range r.StatusCodes {
		if code < 400 || code > 599 {
			p.add(r.Pos.At("status_codes"), "%s: status code %d cannot be repeated; it must be 400 to 599", who, code)
		}
	}
}
