package upstream

import (
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// Description is a cluster as it is chosen from now.
type Description struct {
	Name string `json:"name"`
	// Kind is where its endpoints come from.
	Kind string `json:"kind"`
	// Refusal says why it answers nothing but 503; "" if it does not.
	Refusal string `json:"refusal,omitempty"`
	// Balance is the policy by which an endpoint is chosen.
	Balance string `json:"balance,omitempty"`
	// HealthPercent is how much of its requests it is fit for, Panic that it takes
	// unhealthy endpoints for want of others.
	HealthPercent uint32 `json:"health_percent"`
	Panic         bool   `json:"panic,omitempty"`
	// ServerName and Names are what is asked of a peer's certificate; TLS says that
	// it is asked.
	TLS        bool     `json:"tls"`
	ServerName string   `json:"server_name,omitempty"`
	Names      []string `json:"names,omitempty"`
	// ConnectTimeout covers TCP and TLS.
	ConnectTimeout string `json:"connect_timeout"`
	// Endpoints, or Members of an aggregate, the preferred first.
	Endpoints []EndpointDescription `json:"endpoints,omitempty"`
	Members   []Description         `json:"members,omitempty"`
}

// EndpointDescription is one endpoint.
type EndpointDescription struct {
	Address  string `json:"address"`
	Hostname string `json:"hostname,omitempty"`
	// Health is what the control plane says, or what keeps an endpoint out that is
	// healthy for it: "ejected" by outlier detection, "not checked yet", "failing its
	// health check", or "degraded by its health check".
	Health   string `json:"health"`
	Weight   uint32 `json:"weight"`
	Priority uint32 `json:"priority"`
	// LoadPercent is how much of the cluster's requests its priority gets.
	LoadPercent uint32 `json:"load_percent"`
	// Candidate says that it may be chosen now; else Why says why not.
	Candidate bool   `json:"candidate"`
	Why       string `json:"why,omitempty"`
	// Active are the exchanges under way, Connections those that are open.
	Active      int `json:"active"`
	Connections int `json:"connections"`
}

// Describe tells of the cluster, by the plan that its requests go by.
func (c *Cluster) Describe(now time.Time) Description { return c.describe(now, &[]*Cluster{}) }

// describe tells of the cluster; in are the aggregates that were gone into, as in members.
func (c *Cluster) describe(now time.Time, in *[]*Cluster) Description {
	cfg, hs := c.config.Load(), c.hosts.Load()
	d := Description{
		Name: c.name, Kind: kindName(cfg.Kind), Refusal: cfg.refusal, Balance: cfg.Balance.Policy.String(),
		HealthPercent: hs.health, Panic: hs.panics, TLS: cfg.TLS != nil, ConnectTimeout: cfg.connectTimeout().String(),
	}
	if cfg.TLS != nil {
		d.ServerName = cfg.TLS.ServerName
		d.Names = append(append(d.Names, cfg.TLS.URIs...), cfg.TLS.DNSNames...)
	}
	if cfg.Kind == mesh.ClusterAggregate {
		if len(*in) >= maxAggregates || slices.Contains(*in, c) {
			return d
		}
		*in = append(*in, c)
		for _, name := range cfg.Members {
			if m := c.set.Cluster(name); m != nil {
				d.Members = append(d.Members, m.describe(now, in))
			}
		}
		return d
	}
	given := map[*Host]*level{}
	for i := range hs.levels {
		for _, h := range hs.levels[i].hosts {
			given[h] = &hs.levels[i]
		}
	}
	for _, h := range hs.all {
		d.Endpoints = append(d.Endpoints, h.describe(given[h], now))
	}
	return d
}

// describe tells of a host; in is the level that gives it, nil if none does.
func (h *Host) describe(in *level, now time.Time) EndpointDescription {
	e := h.endpoint.Load()
	d := EndpointDescription{
		Address: h.text, Hostname: e.Hostname, Health: e.Health.String(), Weight: e.Weight, Priority: e.Priority,
		Active: int(h.active.Load()), Connections: h.allConns(),
	}
	if e.Health == mesh.Healthy && !h.healthy() {
		d.Health = h.ailment()
	}
	switch {
	case in == nil:
		d.Why = "it is " + d.Health
	case in.load == 0:
		d.Why = "endpoints of a better priority take all requests"
	case h.paused(now):
		d.LoadPercent, d.Why = in.load, "it refused a connection a moment ago: others are tried first"
	default:
		d.LoadPercent, d.Candidate = in.load, true
	}
	return d
}

// ailment is why a host is not healthy that the control plane says is.
func (h *Host) ailment() string {
	switch verdict(h.verdict.Load()) {
	case passed:
		return "ejected"
	case unchecked:
		return "not checked yet"
	case degradedByCheck:
		return "degraded by its health check"
	default:
		return "failing its health check"
	}
}

func kindName(k mesh.ClusterKind) string {
	switch k {
	case mesh.ClusterStatic:
		return "static"
	case mesh.ClusterAggregate:
		return "aggregate"
	case mesh.ClusterStrictDNS:
		return "strict DNS"
	case mesh.ClusterLogicalDNS:
		return "logical DNS"
	case mesh.ClusterOriginalDst:
		return "original destination"
	default:
		return "EDS"
	}
}
