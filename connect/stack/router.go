package stack

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// router is the end of an HTTP chain: it finds the rule and hands over to a
// cluster.
type router struct {
	table    *route.Table
	config   *mesh.Route // what table was made of
	name     string
	clusters *upstream.Set
	retries  map[*mesh.Retry]*retryPolicy
	// upgrades, idle and conduct are the chain's.
	upgrades []string
	conduct  mesh.Conduct
	idle     time.Duration
	// most is the chain's max_stream_duration, if rules have their own (durations).
	most      time.Duration
	durations bool
}

func newRouter(table *mesh.Route, h *mesh.HTTP, clusters *upstream.Set) (*router, error) {
	if table == nil {
		return &router{name: h.RouteName}, nil
	}
	compiled, err := route.Compile(table)
	if err != nil {
		return nil, err
	}
	r := &router{
		table: compiled, config: table, name: table.Name, clusters: clusters, retries: map[*mesh.Retry]*retryPolicy{},
		upgrades: h.Upgrades, idle: h.StreamIdleTimeout, conduct: h.Conduct, most: h.MaxStreamDuration,
	}
	for _, vh := range table.VirtualHosts {
		for _, rule := range vh.Rules {
			r.durations = r.durations || rule.Stream != nil
			if rule.Retry == nil || rule.Refusal != "" || r.retries[rule.Retry] != nil {
				continue
			}
			if r.retries[rule.Retry], err = compileRetry(rule.Retry); err != nil {
				return nil, fmt.Errorf("route %q: %w", table.Name, err)
			}
		}
	}
	return r, nil
}

// Serve implements [wire.Service].
func (r *router) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if r.table == nil {
		return nil, &wire.Fault{
			Status: http.StatusServiceUnavailable, Flag: wire.FlagNoRoute, Text: "no routes yet",
			Err: fmt.Errorf("route table %q has not arrived", r.name),
		}
	}
	rule, target := r.chosen(x, req)
	if rule == nil {
		return nil, &wire.Fault{Status: http.StatusNotFound, Flag: wire.FlagNoRoute, Details: "route_not_found"}
	}
	if x.Route == "" {
		x.Route = ruleName(rule, r.name)
	}
	x.Rule, x.RouteMetadata = rule.Name, rule.Told
	if rule.Refusal != "" {
		return nil, &wire.Fault{
			Status: http.StatusServiceUnavailable, Flag: wire.FlagInternal,
			Text: "configuration not understood by this proxy", Err: fmt.Errorf("route %q: %s", r.name, rule.Refusal),
		}
	}
	if err := r.mayUpgrade(rule, req); err != nil {
		return nil, err
	}
	if rule.AnswersItself() {
		x.Details = directResponse
		settle(x, rule, nil)
		resp := rule.Answer(x, req)
		if req.Method == http.MethodConnect && resp.Status/100 == 2 {
			// It would promise a tunnel (RFC 9110 section 9.3.6).
			return nil, &wire.Fault{Status: http.StatusNotImplemented, Flag: wire.FlagDenied, Text: "there is no tunnel"}
		}
		return resp, nil
	}
	resp, target, err := r.forward(x, req, rule, target)
	if err != nil {
		settle(x, rule, target)
		return nil, err
	}
	x.Finalizer = nil // it would match what has been rewritten
	if x.Details == "" {
		x.Details = "via_upstream"
	}
	(&choice{rule, target}).Finalize(x, resp)
	return resp, nil
}

// directResponse are the details of a rule's own answer.
const directResponse = "direct_response"

// finalizing lets the route of a request have its say in answers of filters, if any
// route has one; else it is nil.
func (r *router) finalizing() wire.Layer {
	if r.table == nil || !r.table.Answers() {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.Finalizer = r
			if x.Request == nil { // of a codec that does not tell
				x.Request = req
			}
			return next.Serve(x, req)
		})
	}
}

// Finalize implements [wire.Finalizer]. A route that answers itself has no say in the
// answers of others.
func (r *router) Finalize(x *wire.Exchange, resp *wire.Response) {
	r.aim(x, x.Request)
	if c, ok := x.Pinned.(*choice); ok && c.rule != nil && !c.rule.AnswersItself() {
		c.Finalize(x, resp)
	}
}

// settle lets a rule have its say in an answer of our own.
func settle(x *wire.Exchange, rule *route.Rule, target *mesh.Target) {
	x.Finalizer = nil
	if rule.Answers(target) || rule.Host.ResponseAttempts {
		x.Finalizer = &choice{rule, target}
	}
}

// choice is what was chosen of a request ahead of time: its rule, nil if none
// matches, and perhaps its target.
type choice struct {
	rule   *route.Rule
	target *mesh.Target
}

// Finalize implements [wire.Finalizer]. It is what the rule says of a response of an
// upstream, too.
func (c *choice) Finalize(x *wire.Exchange, resp *wire.Response) {
	c.rule.EditOf(c.target).Response(x, resp)
	for _, edit := range c.rule.Edits {
		edit.Response(x, resp)
	}
	if c.rule.Host.ResponseAttempts && x.Tries > 0 && x.Flag != wire.FlagStreamIdle && x.Flag != wire.FlagDuration { // which are not of the router, for Envoy
		resp.Header.Set(attemptsField, strconv.Itoa(x.Tries))
	}
}

// pin chooses the rule of a request before its head is changed, and tells whether
// there is one.
func (r *router) pin(x *wire.Exchange, req *wire.Request) (routed bool) {
	if r.table != nil && x.Pinned == nil {
		x.Pinned = &choice{rule: r.table.Match(x, req)}
	}
	c, ok := x.Pinned.(*choice)
	return ok && c.rule != nil
}

// clusterOf names the cluster that a request would go to, "" if there is none.
func (r *router) clusterOf(x *wire.Exchange, req *wire.Request) string {
	if x.Cluster != "" { // it has been chosen
		return x.Cluster
	}
	target := r.aim(x, req)
	if target == nil {
		return ""
	}
	name := route.ClusterOf(target, req)
	if target.Header != "" && r.clusters.Cluster(name) == nil {
		return "" // nothing is counted by what clients make up
	}
	return name
}

// started tells of a request before filters see it, with its route; tell may be nil.
func (r *router) started(tell func(x *wire.Exchange)) wire.Layer {
	if tell == nil {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if cluster := r.goesTo(x, req); cluster != nil {
				cluster.Note(x)
			}
			if c, ok := x.Pinned.(*choice); ok && c.rule != nil {
				x.Rule, x.RouteMetadata = c.rule.Name, c.rule.Told
			}
			tell(x)
			return next.Serve(x, req)
		})
	}
}

// chosen is the rule of a request, and its target if that was chosen before.
func (r *router) chosen(x *wire.Exchange, req *wire.Request) (*route.Rule, *mesh.Target) {
	if c, ok := x.Pinned.(*choice); ok {
		return c.rule, c.target
	}
	return r.table.Match(x, req), nil
}

// goesTo chooses the cluster of a request ahead of time; nil if there is none.
func (r *router) goesTo(x *wire.Exchange, req *wire.Request) *upstream.Cluster {
	if target := r.aim(x, req); target != nil {
		return r.clusters.Cluster(route.ClusterOf(target, req))
	}
	return nil
}

// aim chooses the rule of a request and its target ahead of time; nil if there is
// none.
func (r *router) aim(x *wire.Exchange, req *wire.Request) *mesh.Target {
	r.pin(x, req)
	c, ok := x.Pinned.(*choice)
	if !ok || c.rule == nil {
		return nil
	}
	if c.target == nil {
		c.target = choose(x, req, c.rule)
	}
	return c.target
}

// choose takes one of the rule's targets: by chance, or by what the request says.
func choose(x *wire.Exchange, req *wire.Request, rule *route.Rule) *mesh.Target {
	switch {
	case rule.WeightHeader != "":
		value, _ := match.Value(req, rule.WeightHeader)
		if n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 64); err == nil {
			return mesh.ChooseBy(rule.Targets, n)
		}
	case rule.WeightHash:
		if hash(rule.Hash, x, req); x.Choice.Hashed {
			n := x.Choice.Hash
			x.Choice.Hash, x.Choice.Hashed = 0, false // as if it had not been looked at
			return mesh.ChooseBy(rule.Targets, n)
		}
	}
	return rule.Target()
}

func ruleName(rule *route.Rule, table string) string {
	if rule.Name != "" {
		return rule.Name
	}
	return table
}

// forward sends the request to one of the rule's clusters. The target is nil if it
// has none.
func (r *router) forward(x *wire.Exchange, req *wire.Request, rule *route.Rule, target *mesh.Target) (*wire.Response, *mesh.Target, error) {
	if target == nil {
		target = choose(x, req, rule)
	}
	if target == nil {
		return nil, nil, &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Details: "cluster_not_found"}
	}
	cluster, err := r.clusterFor(x, req, rule, target)
	if err != nil {
		return nil, target, err
	}
	dropAsked(&req.Header)
	if x.Request == nil { // of a codec that does not tell
		x.Request = req
	}
	cluster.Note(x)
	// Before the path is rewritten: what an edit is told of is what the client sent.
	rule.EditOf(target).Request(x, &req.Header)
	for _, edit := range rule.Edits {
		edit.Request(x, &req.Header)
	}
	setCookie := ""
	if len(rule.Hash) > 0 {
		setCookie = hash(rule.Hash, x, req)
	}
	r.rewrite(x, req, rule, target)
	policy := r.retries[rule.Retry]
	r.bound(x, req, rule, policy)
	if len(rule.Mirrors) > 0 {
		r.mirror(x, req, rule.Mirrors)
	}
	resp, err := r.serve(x, req, rule, cluster, policy)
	if err != nil {
		return nil, target, err
	}
	if setCookie != "" {
		resp.Header.Add("set-cookie", setCookie)
	}
	if !r.conduct.Suppress {
		tellServiceTime(x, resp)
	}
	return resp, target, nil
}

// clusterFor finds the cluster of a target, and notes it.
func (r *router) clusterFor(x *wire.Exchange, req *wire.Request, rule *route.Rule, target *mesh.Target) (*upstream.Cluster, error) {
	name := route.ClusterOf(target, req)
	if cluster := r.clusters.Cluster(name); cluster != nil {
		x.Cluster = cluster.Name()
		return cluster, nil
	}
	x.Cluster = target.Cluster // what a client says is not counted by
	return nil, &wire.Fault{
		Status: cmp.Or(rule.NoCluster, http.StatusServiceUnavailable), Flag: wire.FlagNoCluster, Details: "cluster_not_found",
		Err: fmt.Errorf("cluster %q is not known", name),
	}
}

// rewrite gives the request the authority and the path that the upstream gets.
func (r *router) rewrite(x *wire.Exchange, req *wire.Request, rule *route.Rule, target *mesh.Target) {
	if target.HostRewrite != "" {
		req.Authority = target.HostRewrite
	}
	if host := rule.NewHost(req); host != "" {
		req.SetHost(host, rule.AppendHost, !r.conduct.Suppress)
	}
	if rule.Rewrites() {
		if !r.conduct.Suppress && !req.Header.Has(originalPath) {
			req.Header.Add(originalPath, req.Path)
		}
		rule.Rewrite(req)
	}
	x.Choice.AutoHost, x.Choice.MatchScheme = rule.AutoHost, r.conduct.MatchScheme
	x.Choice.AppendHost, x.Choice.OriginalHost = rule.AppendHost, !r.conduct.Suppress
}

// originalPath is where the upstream learns what the path was.
const originalPath = "x-envoy-original-path"

// serve hands over to the cluster, or to what opens a tunnel to it.
func (r *router) serve(
	x *wire.Exchange, req *wire.Request, rule *route.Rule, cluster *upstream.Cluster, policy *retryPolicy,
) (*wire.Response, error) {
	if rule.Connect && req.Method == http.MethodConnect {
		x.Tries++
		return Connect(func() (*upstream.Cluster, error) { return cluster, nil }).Serve(x, req)
	}
	return retry(cluster, policy, x, req, telling{rule.Host.RequestAttempts, rule.Host.TimeoutRetry})
}

// mayUpgrade refuses to switch to a protocol, or to a tunnel, that neither the rule
// nor the chain allows.
func (r *router) mayUpgrade(rule *route.Rule, req *wire.Request) error {
	if !req.Raw() {
		return nil
	}
	protocol := strings.ToLower(req.Upgrade)
	if protocol == "" {
		protocol = upgradeConnect
	}
	allowed, told := rule.Upgrades[protocol]
	if allowed || !told && slices.Contains(r.upgrades, protocol) {
		return nil
	}
	return &wire.Fault{Status: http.StatusForbidden, Flag: wire.FlagDenied, Text: "upgrade not allowed", Details: "upgrade_failed"}
}

// upgradeConnect is what CONNECT is called among protocols.
const upgradeConnect = "connect"
