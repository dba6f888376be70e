package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/consul/api"
)

// sourceTopic follows the intentions that have one service as their source.
type sourceTopic struct {
	topic
	// set by the maker
	client *api.Client
	source string

	matches []*api.Intention // owned by the loop
	rules   atomic.Pointer[[]rule]
}

// rule is an intention of one source.
type rule struct {
	destination string // "*" is any
	source      string // "*" is any
	allow       bool
	inRequests  bool // L7 permissions or JWTs decide
}

func (t *sourceTopic) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	t.trace.queries.Add(1)
	matches, meta, err := t.client.Connect().IntentionMatch(&api.IntentionMatch{By: api.IntentionMatchSource, Names: []string{t.source}}, o)
	if err != nil {
		t.trace.errors.Add(1)
		return nil, Explain(err, fmt.Sprintf("intentions:read on %q", t.source))
	}
	t.matches = matches[t.source]
	return meta, nil
}

func (t *sourceTopic) answered(context.Context, bool) (held bool) {
	rules := rulesOf(t.matches)
	t.matches = nil
	t.rules.Store(&rules)
	t.seen()
	return false
}

// rulesOf orders intentions by precedence: the first that matches decides. Those
// for sources of other clusters are left out, since nobody here is one.
func rulesOf(intentions []*api.Intention) []rule {
	intentions = slices.Clone(intentions)
	slices.SortStableFunc(intentions, func(a, b *api.Intention) int { return b.Precedence - a.Precedence })
	var rules []rule
	for _, i := range intentions {
		if i.SourcePeer != "" || i.SourceSamenessGroup != "" {
			continue
		}
		rules = append(rules, rule{
			destination: i.DestinationName, source: i.SourceName,
			allow: i.Action == api.IntentionActionAllow, inRequests: len(i.Permissions) > 0,
		})
	}
	return rules
}

// decide gives the decision of the first rule that matches.
func decide(rules []rule, destination string) (Decision, bool) {
	for _, r := range rules {
		if r.destination != "*" && !strings.EqualFold(r.destination, destination) {
			continue
		}
		d := Decision{Known: true, Allowed: r.allow || r.inRequests}
		switch {
		case r.inRequests:
			d.Reason = fmt.Sprintf("the intention %s -> %s decides on each request", r.source, r.destination)
		case r.allow:
			d.Reason = fmt.Sprintf("the intention %s -> %s allows", r.source, r.destination)
		default:
			d.Reason = fmt.Sprintf("the intention %s -> %s denies", r.source, r.destination)
		}
		return d, true
	}
	return Decision{}, false
}

// Decide tells whether source may call destination, both services of the agent's
// own datacenter. The intentions of a source that was never asked for are asked
// for, until ctx ends.
func (x *Index) Decide(ctx context.Context, source, destination string) Decision {
	t := x.source(source)
	if err := t.wait(ctx); err != nil {
		return Decision{Reason: fmt.Sprintf("the intentions of %s are not known: %v", source, err)}
	}
	if d, ok := decide(*t.rules.Load(), destination); ok {
		return d
	}
	allow, known := x.self.policy()
	switch {
	case !known:
		return Decision{Reason: fmt.Sprintf("no intention names %s -> %s, and the default is not known: %v", source, destination, x.self.why())}
	case allow:
		return Decision{Known: true, Allowed: true, Reason: fmt.Sprintf("no intention names %s -> %s, and the default allows", source, destination)}
	default:
		return Decision{Known: true, Reason: fmt.Sprintf("no intention allows %s -> %s, and the default denies", source, destination)}
	}
}

// source returns the topic of a source, which the manager follows.
func (x *Index) source(name string) *sourceTopic {
	x.mu.RLock()
	t := x.sources[name]
	followed := t != nil && t.stop != nil
	x.mu.RUnlock()
	if t == nil {
		x.mu.Lock()
		if t = x.sources[name]; t == nil {
			t = x.newSource(name)
		}
		x.mu.Unlock()
	}
	t.touch()
	if !followed {
		x.wake()
	}
	return t
}

// newSource makes a topic; the caller holds mu.
func (x *Index) newSource(name string) *sourceTopic {
	t := &sourceTopic{client: x.client, source: name}
	t.begin(t, fmt.Sprintf("intentions of %q", name), x.trace)
	x.sources[name] = t
	return t
}
