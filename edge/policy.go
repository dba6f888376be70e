package edge

import (
	"reflect"
	"time"
)

// policy is what most stacks are made of. Routes that have nothing of their own
// besides share one: there may be thousands, and what few requests need the
// processor has to fetch anew for each.
type policy struct {
	api     *API
	service meshService
	cluster string
	timeout time.Duration
}

// policyOf returns the policy of a route, and whether the route is of it alone.
// It is not if it has any argument that is not named here, so that a new one may
// be forgotten without harm.
func policyOf(r *route) (p policy, alone bool) {
	own, to := *r.config, *r.config.Upstream
	p = policy{
		api: r.api, service: meshService{to.Service, to.Datacenter}, cluster: to.clusterName(), timeout: own.timeout(),
	}
	// in the policy
	own.Timeout, own.Upstream = nil, nil
	to.Service, to.Catalog, to.Tag, to.Datacenter, to.Addresses = "", "", "", "", nil
	to.Protocol, to.ConnectTimeout, to.Pos = "", 0, nil
	// what finds the route
	own.Name, own.Path, own.PathPrefix, own.PathRegex = "", "", "", ""
	own.Methods, own.Headers, own.Pos = nil, nil, nil
	return p, !r.rewrites() && reflect.ValueOf(own).IsZero() && reflect.ValueOf(to).IsZero()
}
