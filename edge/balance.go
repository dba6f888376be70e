package edge

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// LoadBalancer says which instance takes a request, in the words of Consul's
// service-resolver.
//
//	load_balancer {
//	  policy = "ring_hash"
//	  hash_policy { header = "x-user" }
//	}
type LoadBalancer struct {
	// Policy is "round_robin", "least_request", "random", "ring_hash" or
	// "maglev"; "" means "round_robin".
	Policy string `hcl:"policy,optional"`
	// ChoiceCount is how many instances least_request draws; 0 means 2.
	ChoiceCount uint32 `hcl:"choice_count,optional"`
	// MinimumRingSize and MaximumRingSize of ring_hash; 0 means 1024 and 8388608.
	MinimumRingSize uint64 `hcl:"minimum_ring_size,optional"`
	MaximumRingSize uint64 `hcl:"maximum_ring_size,optional"`
	// SlowStart is the time in which a new instance comes to its full share, with
	// round_robin and least_request; 0 means at once.
	SlowStart time.Duration `hcl:"slow_start,optional"`
	// HashPolicies say what ring_hash and maglev go by, in this order.
	HashPolicies []HashPolicy `hcl:"hash_policy,block"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos" json:"-"`
}

// HashPolicy is what consistent hashing goes by: one of Header, Query, Cookie and
// SourceIP.
type HashPolicy struct {
	// Header, Query and Cookie are the names of a header, a query parameter and a
	// cookie.
	Header string `hcl:"header,optional"`
	Query  string `hcl:"query_parameter,optional"`
	Cookie string `hcl:"cookie,optional"`
	// SourceIP is the address of the client's connection.
	SourceIP bool `hcl:"source_ip,optional"`
	// TTL makes the cookie where a client has none; "0s" makes one that ends with
	// the browser's session.
	TTL *time.Duration `hcl:"ttl,optional"`
	// Path of a cookie that is made.
	Path string `hcl:"path,optional"`
	// Terminal leaves out what follows, if this gave something.
	Terminal bool `hcl:"terminal,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos" json:"-"`
}

// Limits are circuit breakers, in the words of Consul's service-defaults; nil
// means 1024.
type Limits struct {
	// MaxConnections to all instances; beyond it requests of HTTP/1 wait.
	MaxConnections *uint32 `hcl:"max_connections,optional"`
	// MaxPendingRequests may wait for a connection; beyond it: 503.
	MaxPendingRequests *uint32 `hcl:"max_pending_requests,optional"`
	// MaxConcurrentRequests may be under way; beyond it: 503.
	MaxConcurrentRequests *uint32 `hcl:"max_concurrent_requests,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos" json:"-"`
}

// PassiveHealthCheck takes instances out of use by how they answer, in the words
// of Consul's service-defaults.
type PassiveHealthCheck struct {
	// Interval between looks at ejected instances; 0 means 10 s.
	Interval time.Duration `hcl:"interval,optional"`
	// MaxFailures in a row (5xx, no connection, no answer) eject an instance; 0
	// means 5.
	MaxFailures uint32 `hcl:"max_failures,optional"`
	// EnforcingConsecutive5xx is how likely that is, in percent; nil means 100.
	EnforcingConsecutive5xx *uint32 `hcl:"enforcing_consecutive_5xx,optional"`
	// MaxEjectionPercent of the instances may be out at one time; nil means 10.
	MaxEjectionPercent *uint32 `hcl:"max_ejection_percent,optional"`
	// BaseEjectionTime times how often it was ejected is how long; 0 means 30 s.
	BaseEjectionTime time.Duration `hcl:"base_ejection_time,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos" json:"-"`
}

// Retry repeats requests that failed.
type Retry struct {
	// Attempts after the first try; 0 means 1, 10 is the most.
	Attempts int `hcl:"attempts,optional"`
	// Conditions are Envoy's retry_on tokens, such as "5xx", "gateway-error",
	// "connect-failure" and "unavailable"; none means "connect-failure",
	// "reset-before-request" and, with StatusCodes, "retriable-status-codes".
	Conditions []string `hcl:"conditions,optional"`
	// StatusCodes that are repeated.
	StatusCodes []int `hcl:"status_codes,optional"`
	// PerTryTimeout limits each try; 0 means that only the route's timeout does.
	PerTryTimeout time.Duration `hcl:"per_try_timeout,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos" json:"-"`
}

// settings names all in which plain clusters of the same instances may differ by
// the blocks above; "" if there are none.
func (u *Upstream) settings() string {
	if u.LoadBalancer == nil && u.Limits == nil && u.PassiveHealthCheck == nil {
		return ""
	}
	text, err := json.Marshal([]any{u.LoadBalancer, u.Limits, u.PassiveHealthCheck})
	if err != nil {
		return err.Error() // they are plain data
	}
	hash := sha256.Sum256(text)
	return fmt.Sprintf("%x", hash[:6])
}

// apply puts the blocks into a cluster.
func (u *Upstream) apply(c *mesh.Cluster) {
	if b := u.LoadBalancer; b != nil {
		c.Balance.Policy, _ = policyNamed(b.Policy)
		c.Balance.Choices = b.ChoiceCount
		c.Balance.MinRing, c.Balance.MaxRing = b.MinimumRingSize, b.MaximumRingSize
		c.Balance.SlowStart.Window = b.SlowStart
	}
	if l := u.Limits; l != nil {
		set := func(from *uint32, to *uint32, has *bool) {
			if from != nil {
				*to, *has = *from, true
			}
		}
		set(l.MaxConnections, &c.Limits.MaxConnections, &c.Limits.HasConnections)
		set(l.MaxPendingRequests, &c.Limits.MaxPending, &c.Limits.HasPending)
		set(l.MaxConcurrentRequests, &c.Limits.MaxRequests, &c.Limits.HasRequests)
	}
	if p := u.PassiveHealthCheck; p != nil {
		o := mesh.DefaultOutlier()
		o.Interval = cmp.Or(p.Interval, o.Interval)
		o.Consecutive5xx = cmp.Or(p.MaxFailures, o.Consecutive5xx)
		o.BaseEjection = cmp.Or(p.BaseEjectionTime, o.BaseEjection)
		o.EnforcingConsecutive5xx = orDefault(p.EnforcingConsecutive5xx, o.EnforcingConsecutive5xx)
		o.MaxEjectionPercent = orDefault(p.MaxEjectionPercent, o.MaxEjectionPercent)
		c.Outlier = o
	}
}

// hashPolicies are those of the load balancer.
func (u *Upstream) hashPolicies() []mesh.HashPolicy {
	if u.LoadBalancer == nil {
		return nil
	}
	var all []mesh.HashPolicy
	for _, h := range u.LoadBalancer.HashPolicies {
		p := mesh.HashPolicy{Header: strings.ToLower(h.Header), Query: h.Query, SourceIP: h.SourceIP, Terminal: h.Terminal}
		if h.Cookie != "" {
			p.Cookie = &mesh.HashCookie{Name: h.Cookie, Path: h.Path, TTL: orDefault(h.TTL, 0), HasTTL: h.TTL != nil}
		}
		all = append(all, p)
	}
	return all
}

// policy is the retry policy; nil if there is none.
func (r *Retry) policy() *mesh.Retry {
	if r == nil {
		return nil
	}
	policy := &mesh.Retry{Retries: cmp.Or(r.Attempts, 1), Codes: r.StatusCodes, PerTry: r.PerTryTimeout, PreviousHosts: true}
	policy.On, _ = mesh.ParseRetryOn(strings.Join(r.Conditions, ","))
	if len(r.Conditions) == 0 {
		policy.On = mesh.RetryConnectFailure | mesh.RetryResetBeforeRequest
	}
	if len(r.StatusCodes) > 0 {
		policy.On |= mesh.RetryStatusCodes
	}
	return policy
}

func policyNamed(name string) (mesh.Policy, bool) {
	all := []mesh.Policy{mesh.RoundRobin, mesh.LeastRequest, mesh.Random, mesh.RingHash, mesh.Maglev}
	i := slices.IndexFunc(all, func(p mesh.Policy) bool { return p.String() == name })
	if i < 0 {
		return mesh.RoundRobin, name == ""
	}
	return all[i], true
}
