package stack

import (
	"cmp"
	"errors"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// Explanation is what an HTTP chain would do with a request, up to its cluster.
type Explanation struct {
	// Authority and Path are as the route finds them: after the default host, and
	// made normal.
	Authority string `json:"authority"`
	Path      string `json:"path"`
	// Filters are those that the request meets, in order, up to one that answers.
	Filters []FilterVerdict `json:"filters,omitempty"`
	// Answer is what the client gets without an upstream; nil if it is forwarded.
	Answer *Answer `json:"answer,omitempty"`
	// Table is the name of the route table, Domains those of the virtual host, Rules
	// what each of its rules says.
	Table   string          `json:"table,omitempty"`
	Domains []string        `json:"domains,omitempty"`
	Rules   []route.Verdict `json:"rules,omitempty"`
	// Forward is how it goes on; nil if there is an Answer.
	Forward *Onward `json:"forward,omitempty"`
}

// FilterVerdict is what one HTTP filter says.
type FilterVerdict struct {
	Name string `json:"name"`
	// Verdict is "passes", "answers", or "not asked" for one that would call
	// somebody else, or change something.
	Verdict string `json:"verdict"`
	// Notes say what was found out, or is presumed.
	Notes []string `json:"notes,omitempty"`
	// Intentions are the decisions of an RBAC filter.
	Intentions []rbac.Verdict `json:"intentions,omitempty"`
}

// Answer is a response that the proxy makes itself.
type Answer struct {
	Status   int    `json:"status"`
	Location string `json:"location,omitempty"`
	// Why is whose answer it is.
	Why string `json:"why"`
}

// Onward is how a request is sent on.
type Onward struct {
	// Authority and Path are as the upstream gets them.
	Authority string `json:"authority"`
	Path      string `json:"path"`
	// Targets share the requests.
	Targets []Share `json:"targets"`
	// Timeout of the exchange and IdleTimeout of its pauses; "none" for no bound.
	Timeout     string `json:"timeout"`
	IdleTimeout string `json:"idle_timeout"`
	// Retry says when a try is repeated; "" for never.
	Retry string `json:"retry,omitempty"`
	// Mirrors are the clusters that get copies.
	Mirrors []string `json:"mirrors,omitempty"`
	// Hash says by what an endpoint is chosen consistently; nil for nothing.
	Hash []string `json:"hash,omitempty"`
}

// Share is a cluster and how much of the requests it gets.
type Share struct {
	Percent float64              `json:"percent"`
	Cluster upstream.Description `json:"cluster"`
}

// Explain tells what the chain of h would do with req of the peer. It compiles what
// HTTP compiles, by the same functions, and lets the request go through it; filters
// that would call somebody are left out and said to be so, but for ext_authz if place
// has it asked. Tokens are verified by keys
// that are at hand, or were fetched for the chain that serves at place. It changes req,
// and nothing else.
func Explain(h *mesh.HTTP, routes map[string]*mesh.Route, clusters *upstream.Set, place Place, peer *wire.Peer, req *wire.Request) (*Explanation, error) {
	table := h.Route
	if table == nil {
		table = routes[h.RouteName]
	}
	r, err := newRouter(table, h, clusters)
	if err != nil {
		return nil, err
	}
	place.router, place.clusters, place.scope, place.still = r, clusters, (&stats.Registry{}).Scope(""), true
	e := &explaining{Explanation: &Explanation{Table: r.name}, router: r, place: &place}
	place.asked = e.asked
	filters, err := e.filters(h.Filters)
	if err != nil {
		return nil, err
	}
	service := wire.Stack(wire.ServiceFunc(e.route), arrange(front(h, r, nil), filters)...)
	x := &wire.Exchange{}
	x.Reset(nil, peer, time.Now())
	x.Method, x.Authority, x.Path, x.Request = req.Method, req.Authority, req.Path, req
	defer func() { x.Done(time.Now()) }()
	if place.Ask > 0 {
		defer time.AfterFunc(place.Ask, func() { x.Abort(errAskedLong) }).Stop()
	}
	resp, err := service.Serve(x, req)
	if e.Forward == nil {
		e.answered(resp, err)
	}
	if e.Authority == "" && e.Path == "" { // it did not come to the route
		e.Authority, e.Path = req.Authority, req.Path
	}
	return e.Explanation, nil
}

var errAskedLong = errors.New("it takes longer to be asked than an explanation waits: what it would say is not known")

// explaining is an Explanation in the making.
type explaining struct {
	*Explanation
	router *router
	place  *Place
	by     string // whose turn it is to answer
	found  matched
	// asks is what to note if the service of the filter at hand is asked.
	asks []string
}

// matched is what the route table says of a head.
type matched struct {
	authority, path string
	domains         []string
	rules           []route.Verdict
	rule            *route.Rule // nil if none matches
}

// match asks the route table. That is done in front of each filter, as long as none has
// fixed the route: one that changes the head does not change it any more then.
func (e *explaining) match(x *wire.Exchange, req *wire.Request) {
	e.found = matched{authority: req.Authority, path: req.Path}
	if t := e.router.table; t != nil {
		e.found.domains, e.found.rules, e.found.rule = t.Explain(x, req)
	}
}

// filters are those that can be asked without a consequence, each behind a layer that
// says so.
func (e *explaining) filters(all []mesh.HTTPFilter) ([]filter, error) {
	filters := make([]filter, 0, len(all))
	for i := range all {
		f := &all[i]
		name := filterName(f)
		if f.Disabled {
			name += " (disabled but where a route says otherwise)"
		}
		harmless := f.Refusal != "" || f.Intention != nil || f.Metadata != nil || f.JWT != nil || f.ExtAuthz != nil && e.place.Ask > 0
		var made filter
		var policy *rbac.Policy
		var err error
		if harmless {
			if made, err = e.place.compileFilter(f); err != nil {
				return nil, err
			}
		}
		if f.Intention != nil {
			if policy, err = rbac.Compile([]*mesh.Intention{f.Intention}); err != nil {
				return nil, err
			}
		}
		made.layer = inOrder(e.told(name, harmless, policy, e.notes(f)), made.layer)
		filters = append(filters, made)
	}
	return filters, nil
}

// told is a layer that says that a filter is met.
func (e *explaining) told(name string, asked bool, policy *rbac.Policy, notes func(*wire.Exchange, *wire.Request) []string) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if x.Pinned == nil {
				e.match(x, req)
			}
			v := FilterVerdict{Name: name, Verdict: "passes", Notes: notes(x, req)}
			if !asked {
				v.Verdict = "not asked"
			}
			if policy != nil {
				v.Intentions = policy.Explain(rbac.Input{Peer: x.Peer, Request: req, Metadata: &x.Metadata})
			}
			at := len(e.Filters)
			e.Filters, e.by = append(e.Filters, v), name
			resp, err := next.Serve(x, req)
			if e.by == name && len(e.Filters) == at+1 && (resp != nil || err != nil) && e.Rules == nil && e.Forward == nil {
				e.Filters[at].Verdict = "answers"
			}
			return resp, err
		})
	}
}

// route is the end of the chain.
func (e *explaining) route(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	r := e.router
	if x.Pinned == nil {
		e.match(x, req)
	}
	e.by, e.Authority, e.Path = "the route", e.found.authority, e.found.path
	if r.table == nil {
		return r.Serve(x, req)
	}
	rule := e.found.rule
	e.Domains, e.Rules = e.found.domains, e.found.rules
	if e.Rules == nil {
		e.Rules = []route.Verdict{}
	}
	if rule == nil || rule.Refusal != "" || r.mayUpgrade(rule, req) != nil || rule.Direct != nil || rule.Redirect != nil {
		return r.Serve(x, req) // which answers by itself
	}
	e.Forward = &Onward{Timeout: bound(rule.Timeout), IdleTimeout: bound(r.pause(rule)), Retry: describeRetry(rule.Retry), Hash: describeHash(rule.Hash)}
	e.Forward.Targets = shares(rule.Targets, r.clusters)
	if host := rule.NewHost(req); host != "" {
		req.Authority = host
	}
	rule.Rewrite(req)
	for i := range rule.Mirrors {
		e.Forward.Mirrors = append(e.Forward.Mirrors, cmp.Or(rule.Mirrors[i].Cluster, "by the header "+rule.Mirrors[i].ClusterHeader))
	}
	e.Forward.Authority, e.Forward.Path = req.Authority, req.Path
	return wire.Text(http.StatusOK, ""), nil
}

// answered notes a response that the chain made itself.
func (e *explaining) answered(resp *wire.Response, err error) {
	e.Answer = &Answer{Why: "the connection's own rules"}
	if e.by != "" {
		e.Answer.Why = e.by
	}
	if err != nil {
		fault := wire.AsFault(err)
		e.Answer.Status = fault.Status
		if text := fault.Text; text != "" {
			e.Answer.Why += ": " + text
		}
		if fault.Err != nil {
			e.Answer.Why += ": " + fault.Err.Error()
		}
		return
	}
	e.Answer.Status, e.Answer.Location = resp.Status, resp.Header.Get("location")
}

// filterName is the filter's kind: the name of the one field that is set.
func filterName(f *mesh.HTTPFilter) string {
	if f.Intention != nil {
		return "rbac"
	}
	v := reflect.ValueOf(f).Elem()
	for i := range v.NumField() {
		if !v.Field(i).IsZero() && v.Type().Field(i).Name != "Name" && v.Type().Field(i).Name != "Disabled" {
			return strings.ToLower(v.Type().Field(i).Name)
		}
	}
	return "empty"
}

func bound(d time.Duration) string {
	if d <= 0 {
		return "none"
	}
	return d.String()
}

// ExplainTCP tells who shares the connections of a chain, of one that the peer
// makes.
func ExplainTCP(proxy *mesh.TCPProxy, clusters *upstream.Set, peer *wire.Peer) []Share {
	targets := proxy.Targets
	if name := peer.ServerName; proxy.ServerName && name != "" {
		targets = []mesh.Target{{Cluster: clusterOf(proxy, peer)}}
	}
	return shares(targets, clusters)
}

// shares tells of targets and how much each of them gets.
func shares(targets []mesh.Target, clusters *upstream.Set) []Share {
	total := uint32(0)
	for i := range targets {
		total += targets[i].Weight
	}
	all := make([]Share, 0, len(targets))
	for i := range targets {
		target := &targets[i]
		if target.Header != "" {
			target = &mesh.Target{Cluster: "by the header " + target.Header, Weight: target.Weight}
		}
		share := Share{Percent: 100, Cluster: upstream.Description{Name: target.Cluster, Refusal: "it is not known"}}
		if len(targets) > 1 && total > 0 {
			share.Percent = 100 * float64(target.Weight) / float64(total)
		}
		if c := clusters.Cluster(target.Cluster); c != nil {
			share.Cluster = c.Describe(time.Now())
		}
		all = append(all, share)
	}
	return all
}
