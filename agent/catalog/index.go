package catalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/consul/api"
)

// Index is our own copy of what DNS asks of Consul: instances, nodes, sidecars
// with their upstreams, and intentions. All of it is kept by blocking queries,
// and stays in force for as long as Consul is gone. It is safe for concurrent
// use.
type Index struct {
	// set by NewIndex
	client      *api.Client
	config      IndexConfig
	trace       *trace
	self        selfTopic
	datacenters datacentersTopic
	own         *datacenter
	waking      chan struct{}

	ready    atomic.Bool // was ready once
	sidecars atomic.Bool // found is out of date
	found    atomic.Pointer[workloadIndex]
	making   sync.Mutex // held while found is made
	counts   counts

	mu      sync.RWMutex            // guards:
	remote  map[string]*datacenter  // by name
	sources map[string]*sourceTopic // by name
	// and what datacenter and topic say
}

// datacenter is what is kept of one.
type datacenter struct {
	name  string // "" is the agent's own
	names namesTopic
	nodes nodesTopic

	// mu of the Index guards:
	services map[string]*serviceTopic // by name in lower case
}

// NewIndex returns an Index that knows nothing before Run.
func NewIndex(client *Client, c IndexConfig, log *slog.Logger) *Index {
	c.setDefaults()
	x := &Index{
		client: client, config: c, trace: newTrace(log), waking: make(chan struct{}, 1),
		remote: map[string]*datacenter{}, sources: map[string]*sourceTopic{},
	}
	x.self.client, x.self.loop.every = client, selfEvery
	x.self.begin(&x.self, "settings of the agent", x.trace)
	x.datacenters.client, x.datacenters.loop.every = client, listEvery
	x.datacenters.begin(&x.datacenters, "datacenters", x.trace)
	x.own = x.newDatacenter("")
	x.own.names.stands, x.own.names.loop.longest = true, 2*time.Second
	x.found.Store(indexWorkloads(nil))
	for _, name := range c.Workloads {
		if x.sources[name] == nil {
			x.newSource(name).pin()
		}
	}
	return x
}

func (x *Index) newDatacenter(name string) *datacenter {
	d := &datacenter{name: name, services: map[string]*serviceTopic{}}
	of := ""
	if name != "" {
		of = fmt.Sprintf(" of datacenter %q", name)
	}
	d.names.client, d.names.datacenter, d.names.bound = x.client, name, x.config.Services
	d.names.changed = func(doubtful bool) { x.listed(d, doubtful) }
	d.names.begin(&d.names, "services"+of, x.trace)
	d.nodes.client, d.nodes.datacenter = x.client, name
	d.nodes.begin(&d.nodes, "nodes"+of, x.trace)
	return d
}

// newService makes a topic; the caller holds mu.
func (x *Index) newService(d *datacenter, key, name string) *serviceTopic {
	t := &serviceTopic{client: x.client, name: name, datacenter: d.name, sidecars: func() {}, emptied: x.wake, listed: true}
	of := ""
	if d.name != "" {
		of = fmt.Sprintf(" of datacenter %q", d.name)
	} else {
		t.sidecars = func() { x.sidecars.Store(true) }
	}
	t.begin(t, fmt.Sprintf("instances of %q", name)+of, x.trace)
	d.services[key] = t
	return t
}

// Ready returns nil once the agent's settings, the list of services and each of
// them were seen (or refused by Consul), else what is missing. It stays nil when
// Consul is gone.
func (x *Index) Ready() error {
	if x.ready.Load() {
		return nil
	}
	for _, t := range []*topic{&x.self.topic, &x.own.names.topic, &x.own.nodes.topic} {
		if err := t.missing(); err != nil {
			return err
		}
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	for _, t := range x.own.services {
		if err := t.missing(); err != nil {
			return err
		}
	}
	x.ready.Store(true)
	return nil
}

// missing tells why there is no answer, if Consul has not refused one.
func (t *topic) missing() error {
	if t.got.Load() {
		return nil
	}
	failure := t.failure.Load()
	if failure == nil {
		return fmt.Errorf("the %s were not seen yet", t.about)
	}
	if refused(*failure) {
		return nil
	}
	return fmt.Errorf("the %s were not seen: %w", t.about, *failure)
}

// Settings are what the agent has said of itself; zero before Ready. Without
// permission to ask it, they are Consul's defaults.
func (x *Index) Settings() Settings {
	s := Settings{NodeMetaTXT: true, UDPAnswerLimit: 3, SOA: SOA{Refresh: 3600, Retry: 600, Expire: 86400}}
	if self := x.self.state.Load(); self != nil {
		d := self.DebugConfig
		return Settings{
			Datacenter: self.Config.Datacenter, Node: self.Config.NodeName,
			OnlyPassing: d.DNSOnlyPassing, NodeMetaTXT: d.DNSNodeMetaTXT,
			UDPAnswerLimit: d.DNSUDPAnswerLimit, RecordLimit: d.DNSARecordLimit, Truncate: d.DNSEnableTruncate,
			SOA: d.DNSSOA,
		}
	}
	if name := x.own.nodes.own.Load(); name != nil {
		s.Datacenter = *name
	}
	return s
}

// Stale returns since when Consul has not answered; zero if it does.
func (x *Index) Stale() time.Time { return x.trace.stale() }

// Instances returns all instances of a service, critical ones too. Names are
// not case-sensitive; datacenter "" is the agent's own. What is not known yet is
// asked for, until ctx ends. The result is never written to. Errors are
// [ErrNoService], [ErrNoDatacenter], or why Consul could not be asked.
func (x *Index) Instances(ctx context.Context, service, datacenter string) ([]Instance, error) {
	d, err := x.datacenter(ctx, datacenter)
	if err != nil {
		return nil, err
	}
	if err := d.names.wait(ctx); err != nil {
		return nil, err
	}
	t := x.service(d, strings.ToLower(service))
	if t == nil {
		return nil, ErrNoService
	}
	if err := t.wait(ctx); err != nil {
		return nil, err
	}
	if s := t.state.Load(); len(s.instances) > 0 {
		return s.instances, nil
	}
	return nil, ErrNoService
}

// service returns the topic of a service that is listed, which the manager
// follows, or nil.
func (x *Index) service(d *datacenter, key string) *serviceTopic {
	x.mu.RLock()
	t := d.services[key]
	followed := t != nil && t.stop != nil
	x.mu.RUnlock()
	if t == nil {
		name, ok := (*d.names.names.Load())[key]
		if !ok || d == x.own {
			return nil
		}
		x.mu.Lock()
		if t = d.services[key]; t == nil {
			t = x.newService(d, key, name)
		}
		x.mu.Unlock()
	}
	t.touch()
	if !followed {
		x.wake()
	}
	return t
}

// Node looks a node up as Instances does a service. Errors are [ErrNoNode],
// [ErrNoDatacenter], or why Consul could not be asked.
func (x *Index) Node(ctx context.Context, name, datacenter string) (*Node, error) {
	d, err := x.datacenter(ctx, datacenter)
	if err != nil {
		return nil, err
	}
	if err := d.nodes.wait(ctx); err != nil {
		return nil, err
	}
	if n := (*d.nodes.nodes.Load())[strings.ToLower(name)]; n != nil {
		return n, nil
	}
	return nil, ErrNoNode
}

// Datacenter tells whether Consul has a datacenter of that name; the error is
// [ErrNoDatacenter], or why Consul could not be asked.
func (x *Index) Datacenter(ctx context.Context, name string) error {
	_, err := x.datacenter(ctx, name)
	return err
}

// datacenter finds one by its name; what is kept of another one is kept from
// then on.
func (x *Index) datacenter(ctx context.Context, name string) (*datacenter, error) {
	if name == "" || strings.EqualFold(name, x.ownName(ctx)) {
		return x.own, nil
	}
	name = strings.ToLower(name)
	x.mu.RLock()
	d := x.remote[name]
	x.mu.RUnlock()
	if d != nil {
		return d, nil
	}
	if err := x.datacenters.wait(ctx); err != nil {
		return nil, err
	}
	for _, known := range *x.datacenters.names.Load() {
		if strings.EqualFold(known, name) {
			x.mu.Lock()
			if d = x.remote[name]; d == nil {
				d = x.newDatacenter(known)
				x.remote[name] = d
			}
			x.mu.Unlock()
			x.wake()
			return d, nil
		}
	}
	return nil, ErrNoDatacenter
}

// ownName is the name of the agent's own datacenter, "" if it cannot be found
// out.
func (x *Index) ownName(ctx context.Context) string {
	if name := x.Settings().Datacenter; name != "" {
		return name
	}
	if x.self.wait(ctx) != nil {
		_ = x.own.nodes.wait(ctx) // they say it too
	}
	return x.Settings().Datacenter
}

// refused tells whether Consul has understood a question and denies the answer.
func refused(err error) bool {
	status, ok := errors.AsType[api.StatusError](err)
	return ok && status.Code >= 400 && status.Code < 500 && status.Code != 429
}
