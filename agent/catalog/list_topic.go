package catalog

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

// namesTopic follows the list of services of one datacenter.
type namesTopic struct {
	topic
	// set by the maker
	client     *api.Client
	datacenter string
	bound      int
	stands     bool                // for Consul as a whole
	changed    func(doubtful bool) // called when there is an answer

	answer map[string][]string               // owned by the loop
	over   bool                              // owned by the loop: told of too many
	names  atomic.Pointer[map[string]string] // as registered, by the name in lower case
	left   atomic.Int64                      // out for the bound
}

func (t *namesTopic) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	t.trace.queries.Add(1)
	o.Datacenter = t.datacenter
	answer, meta, err := t.client.Catalog().Services(o)
	if err != nil {
		t.trace.errors.Add(1)
		return nil, Explain(err, "service:read")
	}
	t.answer = answer
	return meta, nil
}

func (t *namesTopic) answered(_ context.Context, doubtful bool) (held bool) {
	all := make([]string, 0, len(t.answer))
	for name := range t.answer {
		all = append(all, name)
	}
	t.answer = nil
	slices.Sort(all)
	over := len(all) > t.bound
	if over && !t.over {
		t.trace.log.Warn("too many services, those last in the alphabet are not known here",
			"asked_for", t.about, "services", len(all), "limit", t.bound)
	}
	t.over = over
	t.left.Store(int64(max(0, len(all)-t.bound)))
	names := make(map[string]string, min(len(all), t.bound))
	for _, name := range all[:min(len(all), t.bound)] {
		names[strings.ToLower(name)] = name
	}
	t.names.Store(&names)
	t.changed(doubtful || t.trace.doubtful())
	t.seen()
	return false
}

// lost implements [question].
func (t *namesTopic) lost(err error) {
	if t.stands {
		t.trace.gone()
	}
	t.topic.lost(err)
}

// back implements [question].
func (t *namesTopic) back() {
	t.topic.back()
	if t.stands {
		t.trace.returnedNow()
	}
}

// nodesTopic follows the nodes of one datacenter.
type nodesTopic struct {
	topic
	// set by the maker
	client     *api.Client
	datacenter string

	answer []*api.Node // owned by the loop
	nodes  atomic.Pointer[map[string]*Node]
	own    atomic.Pointer[string] // name of the datacenter, as a node has it
}

func (t *nodesTopic) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	t.trace.queries.Add(1)
	o.Datacenter = t.datacenter
	answer, meta, err := t.client.Catalog().Nodes(o)
	if err != nil {
		t.trace.errors.Add(1)
		return nil, Explain(err, "node:read")
	}
	t.answer = answer
	return meta, nil
}

func (t *nodesTopic) answered(context.Context, bool) (held bool) {
	nodes := make(map[string]*Node, len(t.answer))
	for _, n := range t.answer {
		nodes[strings.ToLower(n.Node)] = &Node{Name: n.Node, Datacenter: n.Datacenter, Address: n.Address, Meta: n.Meta}
		t.own.Store(&n.Datacenter)
	}
	t.answer = nil
	t.nodes.Store(&nodes)
	t.seen()
	return false
}

// datacentersTopic asks for the names of all datacenters.
type datacentersTopic struct {
	topic
	client *api.Client // set by the maker

	answer []string // owned by the loop
	names  atomic.Pointer[[]string]
}

func (t *datacentersTopic) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	t.trace.queries.Add(1)
	var err error
	meta, err := t.client.Raw().Query("/v1/catalog/datacenters", &t.answer, o)
	if err != nil {
		t.trace.errors.Add(1)
		return nil, Explain(err)
	}
	return meta, nil
}

func (t *datacentersTopic) answered(context.Context, bool) (held bool) {
	names := t.answer
	t.answer = nil
	t.names.Store(&names)
	t.seen()
	return false
}

// selfTopic asks the agent for what it says of itself.
type selfTopic struct {
	topic
	client *api.Client // set by the maker

	answer agentSelf // owned by the loop
	state  atomic.Pointer[agentSelf]
}

// agentSelf is what we read of /v1/agent/self.
type agentSelf struct {
	Config      struct{ Datacenter, NodeName string }
	DebugConfig struct {
		ACLResolverSettings    struct{ ACLDefaultPolicy string }
		ACLsEnabled            bool
		DefaultIntentionPolicy string
		DNSOnlyPassing         bool
		DNSNodeMetaTXT         bool
		DNSUDPAnswerLimit      int
		DNSARecordLimit        int
		DNSEnableTruncate      bool
		DNSSOA                 SOA
	}
}

// selfEvery is the pause between two looks at the agent, listEvery between two
// at the datacenters: neither can be asked by a blocking query.
const selfEvery, listEvery = 30 * time.Second, 30 * time.Second

func (t *selfTopic) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	t.trace.queries.Add(1)
	t.answer = agentSelf{}
	meta, err := t.client.Raw().Query("/v1/agent/self", &t.answer, o)
	if err != nil {
		t.trace.errors.Add(1)
		return nil, Explain(err, "agent:read")
	}
	return meta, nil
}

func (t *selfTopic) answered(context.Context, bool) (held bool) {
	answer := t.answer
	t.state.Store(&answer)
	t.seen()
	return false
}

// policy is what holds where no intention matches, if it is known.
func (t *selfTopic) policy() (allow, known bool) {
	s := t.state.Load()
	if s == nil {
		return false, false
	}
	switch s.DebugConfig.DefaultIntentionPolicy {
	case "allow":
		return true, true
	case "":
		d := s.DebugConfig
		if !d.ACLsEnabled {
			return true, true
		}
		return d.ACLResolverSettings.ACLDefaultPolicy == "allow", true
	default:
		return false, true
	}
}

// why tells why policy is not known.
func (t *selfTopic) why() error {
	if failure := t.failure.Load(); failure != nil {
		return *failure
	}
	return fmt.Errorf("the %s were not seen yet", t.about)
}
