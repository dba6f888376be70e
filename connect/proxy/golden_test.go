package proxy_test

import (
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds/golden"
	"github.com/serai-net/serai/connect/xds/resource"
)

// refused lists what of Consul's golden files this proxy refuses: a part of the
// reason, and why it is so. A refusal that is not here fails the test, and so
// does a line that refuses nothing any more.
func refused() map[string]string {
	return map[string]string{
		"tls: no root certificate to verify the peer with":  "a file of the case in which the PEM is none, as Envoy refuses it too",
		"no version between TLS 1.2 and TLS 1.0":            "TLS 1.0 and 1.1 are not spoken (RFC 8996)",
		"our certificate: tls: failed to find any PEM data": "the file has placeholder.crt in place of a certificate",
		"match the same connections":                        "Envoy 1.36 says of these two: multiple filter chains with overlapping matching rules",
	}
}

// world is one golden file and those of the same name of the other types.
type world struct {
	reader   resource.Reader
	snapshot *mesh.Snapshot
	notes    []string
}

// add decodes one resource as the stream delivers it.
func (w *world) add(r *anypb.Any) error {
	var notes []string
	var err error
	switch r.GetTypeUrl() {
	case resource.ListenerType:
		var l *mesh.Listener
		if l, notes, err = w.reader.Listener(r.GetValue()); err == nil {
			w.snapshot.Listeners[l.Name] = l
		}
	case resource.RouteType:
		var route *mesh.Route
		if route, notes, err = resource.Route(r.GetValue()); err == nil {
			w.snapshot.Routes[route.Name] = route
		}
	case resource.ClusterType:
		var c *mesh.Cluster
		if c, notes, err = w.reader.Cluster(r.GetValue()); err == nil {
			w.snapshot.Clusters[c.Name] = c
		}
	case resource.EndpointsType:
		_, notes, err = resource.Endpoints(r.GetValue())
	default:
		err = fmt.Errorf("resource of type %s", r.GetTypeUrl())
	}
	w.notes = append(w.notes, notes...)
	return err
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// names of route tables that a listener asks for by name.
func (w *world) tables() []string {
	found := map[string]bool{}
	for _, l := range w.snapshot.Listeners {
		for _, c := range append(slices.Clone(l.Chains), l.Default) {
			if c != nil && c.HTTP != nil && c.HTTP.RouteName != "" {
				found[c.HTTP.RouteName] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// compile decodes and compiles a file as the proxy would. Listeners get the route
// tables of the same case; a table gets a chain that asks for it.
func compile(f golden.File, all map[string]golden.File, outside resource.Secrets) (*world, []string, error) {
	w := &world{reader: resource.Reader{Secrets: outside}, snapshot: &mesh.Snapshot{
		Listeners: map[string]*mesh.Listener{}, Routes: map[string]*mesh.Route{}, Clusters: map[string]*mesh.Cluster{},
	}}
	own, err := f.Resources()
	if err != nil {
		return nil, nil, err
	}
	for _, r := range own {
		if err := w.add(r); err != nil {
			return nil, nil, fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	for name := range w.snapshot.Routes {
		w.snapshot.Listeners[name] = &mesh.Listener{Name: name, Chains: []*mesh.FilterChain{{HTTP: &mesh.HTTP{RouteName: name}}}}
	}
	if tables := w.tables(); len(tables) > 0 && len(w.snapshot.Routes) == 0 {
		companion, ok := all[strings.Replace(f.Name, "listeners/", "routes/", 1)]
		if !ok {
			return nil, nil, fmt.Errorf("%s asks for routes %q, which have no file", f.Name, tables)
		}
		routes, err := companion.Resources()
		if err != nil {
			return nil, nil, err
		}
		for _, r := range routes {
			if err := w.add(r); err != nil {
				return nil, nil, fmt.Errorf("%s: %w", companion.Name, err)
			}
		}
	}
	var reasons []string
	for _, r := range proxy.Check(w.snapshot, discard()) {
		reasons = append(reasons, r.Kind+": "+r.Reason)
	}
	return w, reasons, nil
}

// TestGoldenCompile holds the proxy to everything that Consul's own tests say
// that it sends: each file decodes, and compiles without a refusal.
func TestGoldenCompile(t *testing.T) {
	t.Parallel()
	files, err := golden.Files(t.Context())
	if err != nil {
		t.Skipf("SKIPPED %s: Consul's golden files are not there (make tools fetches them): %v", t.Name(), err)
	}
	if len(files) != 1378 {
		t.Errorf("got %d JSON files, want 1378", len(files))
	}
	all := make(map[string]golden.File, len(files))
	for _, f := range files {
		all[f.Name] = f
	}
	list, tally, outside := refused(), newTally(), newSecrets(t)
	t.Run("file", func(t *testing.T) {
		for _, f := range files {
			t.Run(f.Name, func(t *testing.T) {
				t.Parallel()
				w, reasons, err := compile(f, all, outside)
				if err != nil {
					t.Fatal(err)
				}
				tally.add(w.notes, reasons)
				for _, reason := range reasons {
					if !tally.match(list, reason) {
						t.Errorf("refused: %s", reason)
					}
				}
			})
		}
	})
	for part, why := range list {
		if tally.matched[part] == 0 {
			t.Errorf("%q refuses no golden file any more: take it off the list (%s)", part, why)
		}
	}
	t.Log(tally)
}

// tally counts what was refused and ignored. mu guards all of it.
type tally struct {
	mu                      sync.Mutex
	refused, noted, matched map[string]int
}

func newTally() *tally {
	return &tally{refused: map[string]int{}, noted: map[string]int{}, matched: map[string]int{}}
}

func (c *tally) add(notes, reasons []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, note := range notes {
		c.noted[note]++
	}
	for _, reason := range reasons {
		c.refused[reason]++
	}
}

// match tells whether a reason is on the list.
func (c *tally) match(list map[string]string, reason string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for part := range list {
		if strings.Contains(reason, part) {
			c.matched[part]++
			return true
		}
	}
	return false
}

// String implements fmt.Stringer.
func (c *tally) String() string {
	var out strings.Builder
	for _, reason := range slices.Sorted(maps.Keys(c.refused)) {
		fmt.Fprintf(&out, "\nrefused %4d files: %s", c.refused[reason], reason)
	}
	for _, note := range slices.Sorted(maps.Keys(c.noted)) {
		fmt.Fprintf(&out, "\nnoted   %4d ×: %s", c.noted[note], note)
	}
	return out.String()
}
