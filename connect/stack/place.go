package stack

import (
	"cmp"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
	"weak"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/filter/extauthz"
	"github.com/serai-net/serai/connect/filter/healthcheck"
	"github.com/serai-net/serai/connect/filter/lambda"
	"github.com/serai-net/serai/connect/filter/lua"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// Place is where an HTTP chain stands, for filters that ask. The zero Place is
// nowhere in particular.
type Place struct {
	// Listener is the name of the chain's listener.
	Listener string
	// TLS is the chain's; nil for none. Its certificate says who we are.
	TLS *mesh.DownstreamTLS
	// Cluster is our own name; Failed tells whether an operator has declared us
	// unhealthy, and may be nil.
	Cluster string
	Failed  func() bool
	// Node is the metadata of the bootstrap file's node.
	Node map[string]any
	// Kept is what filters find again when they are compiled anew; may be nil.
	Kept *Kept
	// Started is told of each request before filters see it, with its route; nil for
	// nobody.
	Started func(x *wire.Exchange)
	// Log is for what filters have to say; nil says nothing.
	Log *slog.Logger
	// Ask is how long [Explain] may ask services of ext_authz, all together; 0 asks none.
	Ask time.Duration

	// set by HTTPAt
	router   *router
	clusters *upstream.Set
	scope    *stats.Scope
	// still says that nobody is asked, and nothing fetched or counted; but if ext_authz
	// asks a service, asked is told before. It may be nil.
	still bool
	asked func()
}

// Find finds clusters for filters that call somebody.
func Find(clusters *upstream.Set) call.Find {
	return func(name string) wire.Service {
		if c := clusters.Cluster(name); c != nil {
			return c
		}
		return nil // and no interface around a nil pointer
	}
}

func (p *Place) log() *slog.Logger {
	if p.Log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return p.Log
}

// extension makes a filter that is not of the chain's own kind.
func (p *Place) extension(f *mesh.HTTPFilter) (filter, error) {
	switch {
	case f.ExtAuthz != nil:
		layer, err := extauthz.New(f.ExtAuthz, p.authz(f.ExtAuthz, p.scope))
		return filter{layer: layer}, err
	case f.Lua != nil:
		return p.lua(f.Lua)
	case f.Lambda != nil:
		return filter{layer: lambda.New(f.Lambda, lambda.Place{
			Stats: p.scope.Scope("aws_lambda."),
			Credentials: find(p.Kept, "aws", func() *lambda.Credentials {
				return &lambda.Credentials{Getenv: os.Getenv}
			}),
			Gateway: func(x *wire.Exchange, req *wire.Request) bool {
				c := p.router.goesTo(x, req)
				return c != nil && c.Lambda()
			},
		})}, nil
	case f.HealthCheck != nil:
		return p.healthCheck(f.HealthCheck)
	case f.Skipped != "":
		return filter{layer: p.skipped(f.Skipped)}, nil
	default:
		return filter{}, errors.New("it is empty")
	}
}

// authz is the place of an ext_authz filter that counts in scope.
func (p *Place) authz(c *mesh.ExtAuthz, scope *stats.Scope) extauthz.Place {
	prefix := "ext_authz."
	if c.StatPrefix != "" {
		prefix += c.StatPrefix + "."
	}
	place := extauthz.Place{
		Find: p.findAsked(), Stats: scope.Scope(prefix), Principal: principal(p.TLS), Labels: labels(p.Node, c.LabelsKey),
	}
	if p.router != nil {
		place.Pin = p.router.pin
	}
	if p.router != nil && !p.still { // who explains counts nothing
		place.Upstream = func(x *wire.Exchange, req *wire.Request) *stats.Scope {
			if cluster := p.router.goesTo(x, req); cluster != nil {
				return p.clusters.Registry().Scope("cluster." + stats.Name(cmp.Or(cluster.Observed(), cluster.Name())) + "." + prefix)
			}
			return nil
		}
	}
	return place
}

// findAsked is Find for ext_authz; who explains is told of what is found, which is asked.
func (p *Place) findAsked() call.Find {
	find := Find(p.clusters)
	if p.asked == nil {
		return find
	}
	return func(name string) wire.Service {
		service := find(name)
		if service != nil {
			p.asked()
		}
		return service
	}
}

// skipped counts the requests that pass without a filter.
func (p *Place) skipped(name string) wire.Layer {
	p.log().Warn("a filter that we cannot run is skipped, as it allows", "listener", p.Listener, "filter", name)
	count := p.scope.Counter("skipped." + name)
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			count.Add(1)
			return next.Serve(x, req)
		})
	}
}

// healthCheck makes the filter that tells our health.
func (p *Place) healthCheck(c *mesh.HealthCheck) (filter, error) {
	f, err := healthcheck.New(c, healthcheck.Place{
		Name: p.Cluster, Failed: p.Failed,
		Cache: find(p.Kept, fmt.Sprintf("health/%s/%+v", p.Listener, *c), func() *healthcheck.Cache { return &healthcheck.Cache{} }),
		Count: func(name string) (all, healthy int, ok bool) {
			cluster := p.clusters.Cluster(name)
			if cluster == nil {
				return 0, 0, false
			}
			now := cluster.Stats()
			return int(now.Hosts), int(now.Healthy), true
		},
	})
	if err != nil {
		return filter{}, err
	}
	return filterOf(f), nil
}

// lua makes the filter of a script. The same script of the same listener goes on in
// the VMs that it has; one of a file is read anew.
func (p *Place) lua(c *mesh.Lua) (filter, error) {
	prefix := "lua."
	if c.StatPrefix != "" {
		prefix += c.StatPrefix + "."
	}
	make := func() (*lua.Filter, error) {
		return lua.New(c, lua.Place{Find: Find(p.clusters), Stats: p.scope.Scope(prefix), Log: p.log().With("listener", p.Listener)})
	}
	f, err := (*lua.Filter)(nil), error(nil)
	if c.File != "" {
		f, err = make()
	} else {
		f, err = tryFind(p.Kept, fmt.Sprintf("lua/%s/%s/%s", p.Listener, c.StatPrefix, c.Code), make)
	}
	if err != nil {
		return filter{}, err
	}
	made := filter{layer: f.Layer(nil)}
	if c.KeepRoute {
		made.layer = f.Layer(p.router.pin)
	}
	if f.Encodes() {
		made.encoder = f
	}
	return made, nil
}

// Gates makes what network filters admit connections by.
func (p Place) Gates(all []*mesh.ExtAuthz, clusters *upstream.Set) ([]Admission, error) {
	p.clusters = clusters
	var gates []Admission
	for _, c := range all {
		gate, err := extauthz.NewGate(c, p.authz(c, clusters.Registry().Scope("")))
		if err != nil {
			return nil, fmt.Errorf("ext_authz: %w", err)
		}
		gates = append(gates, gate)
	}
	return gates, nil
}

// principal is who we are to those that connect.
func principal(t *mesh.DownstreamTLS) string {
	if t == nil || len(t.Leaves) == 0 {
		return ""
	}
	block, _ := pem.Decode([]byte(t.Leaves[0].CertificatePEM))
	if block == nil {
		return ""
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return "" // whoever serves with it will say so
	}
	return extauthz.Principal(certificate)
}

// labels are the strings of a node's metadata under key.
func labels(node map[string]any, key string) map[string]string {
	all, ok := node[key].(map[string]any)
	if !ok || key == "" {
		return nil
	}
	out := map[string]string{}
	for name, value := range all {
		if text, ok := value.(string); ok {
			out[name] = text
		}
	}
	return out
}

// Kept is state of filters that outlives their configuration, as long as a chain
// in force or about to be uses it. The zero Kept is ready for use. It is safe for
// concurrent use.
type Kept struct {
	mu sync.Mutex // guards:
	// all are weak pointers by name; sweep is at how many the dead are removed.
	all   map[string]holder
	sweep int
}

type holder interface{ alive() bool }

type held[T any] struct{ p weak.Pointer[T] }

func (h held[T]) alive() bool { return h.p.Value() != nil }

// find returns what stands under a name, or makes it. A nil Kept makes it anew.
func find[T any](k *Kept, name string, make func() *T) *T {
	value, _ := tryFind(k, name, func() (*T, error) { return make(), nil })
	return value
}

// peek returns what stands under a name; nil if there is nothing.
func peek[T any](k *Kept, name string) *T {
	if k == nil {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	h, _ := k.all[name].(held[T])
	return h.p.Value()
}

// tryFind is find for what can fail.
func tryFind[T any](k *Kept, name string, make func() (*T, error)) (*T, error) {
	if k == nil {
		return make()
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if h, ok := k.all[name].(held[T]); ok {
		if value := h.p.Value(); value != nil {
			return value, nil
		}
	}
	value, err := make()
	if err != nil {
		return nil, err
	}
	k.keepLocked(name, held[T]{weak.Make(value)})
	return value, nil
}

const firstSweep = 64

func (k *Kept) keepLocked(name string, h holder) {
	if k.all == nil {
		k.all = map[string]holder{}
	}
	if len(k.all) >= max(k.sweep, firstSweep) {
		for name, h := range k.all {
			if !h.alive() {
				delete(k.all, name)
			}
		}
		k.sweep = 2 * len(k.all)
	}
	k.all[name] = h
}
