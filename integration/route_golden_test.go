package integration_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	mathrand "math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protopath"
	"google.golang.org/protobuf/reflect/protorange"

	"github.com/serai-net/serai/connect/xds/golden"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/integration/harness"
)

// casesPerTable bounds the requests that are made for one route table.
const casesPerTable = 80

// table is one of the route tables of Consul's golden files.
type table struct {
	name   string
	config *routev3.RouteConfiguration
}

// tables are the different ones.
func tables(t *testing.T) []table {
	t.Helper()
	files, err := golden.Files(t.Context())
	if err != nil {
		harness.Skip(t, "Consul's golden files are not there (make tools fetches them): "+err.Error())
	}
	var all []table
	for _, f := range files {
		if !strings.Contains(f.Name, "routes/") {
			continue
		}
		found, err := f.Resources()
		must(t, err)
		for _, r := range found {
			if r.GetTypeUrl() != resource.RouteType {
				continue
			}
			config := &routev3.RouteConfiguration{}
			must(t, r.UnmarshalTo(config))
			if !slices.ContainsFunc(all, func(old table) bool { return proto.Equal(old.config, config) }) {
				all = append(all, table{f.Name + "/" + config.GetName(), config})
			}
		}
	}
	return all
}

// TestGoldenRoutesAsEnvoy has our proxy and Envoy take the same requests through each of Consul's golden route tables:
// they are made out of what the table itself asks for, and must come to the same cluster by the same path, with the
// same headers.
func TestGoldenRoutesAsEnvoy(t *testing.T) {
	t.Parallel()
	all := tables(t)
	if len(all) < 40 {
		t.Fatalf("%d route tables", len(all))
	}
	backends := map[string]string{} // names of clusters to addresses
	for _, table := range all {
		for _, name := range clustersOf(t, table.config) {
			if backends[name] == "" {
				server := httptest.NewServer(backend(name))
				t.Cleanup(server.Close)
				backends[name] = server.Listener.Addr().String()
			}
		}
	}
	var clusters []json.RawMessage
	for name, addr := range backends {
		clusters = append(clusters, oneCluster(name, "", lbEndpoint(addr, "")))
	}
	twins := staticTwins(t, harness.ForTest(t), len(all), func(ports []int) (_, listeners []json.RawMessage) {
		for i, table := range all {
			text, err := protojson.Marshal(table.config)
			must(t, err)
			chain := strings.Replace(httpChain("", "", ""), `"route_config":{"virtual_hosts":[{"name":"all","domains":["*"],"routes":[]}]}`, `"route_config":`+string(text), 1)
			listeners = append(listeners, json.RawMessage(fmt.Sprintf(`{"name":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},
				"filter_chains":[%s]}`, table.name, ports[i], chain)))
		}
		return clusters, listeners
	})
	asked, answered := 0, 0
	for i, table := range all {
		t.Run(table.name, func(t *testing.T) {
			asks := routeAtomsOf(t, table.config)
			for _, c := range asks.cases(len(table.name)) {
				ours, theirs := c.ask(t, twins["serai"].ports[i], asks), c.ask(t, twins["envoy"].ports[i], asks)
				if diff := gocmp.Diff(theirs, ours); diff != "" {
					t.Errorf("%s (-Envoy +ours):\n%s", c, diff)
				}
				asked++
				if theirs.Status == http.StatusOK {
					answered++
				}
			}
		})
	}
	t.Logf("%d requests through %d tables, %d came to a cluster", asked, len(all), answered)
	if asked < 1000 || answered < asked/2 {
		t.Errorf("of %d requests %d came to a cluster", asked, answered)
	}
}

// clustersOf names the clusters of a table.
func clustersOf(t *testing.T, config *routev3.RouteConfiguration) []string {
	t.Helper()
	var all []string
	for _, host := range config.GetVirtualHosts() {
		for _, r := range host.GetRoutes() {
			if name := r.GetRoute().GetCluster(); name != "" {
				all = append(all, name)
			}
			for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
				all = append(all, w.GetName())
			}
		}
	}
	return all
}

// backend tells its name and what it got.
func backend(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, header := range []string{"Bar", "Zip", "X-Own"} {
			w.Header().Set(header, "own")
		}
		_ = json.NewEncoder(w).Encode(seen{Name: name, Method: r.Method, Host: r.Host, Path: r.RequestURI, Header: r.Header})
	})
}

// routeAtoms are what a table asks for.
type routeAtoms struct {
	hosts, paths, methods, changed []string
	headers, queries               map[string][]string
	weighted                       map[string]bool // clusters that chance chooses
}

func routeAtomsOf(t *testing.T, config *routev3.RouteConfiguration) *routeAtoms {
	t.Helper()
	a := &routeAtoms{headers: map[string][]string{}, queries: map[string][]string{}, weighted: map[string]bool{}}
	a.hosts, a.methods = []string{"nobody.example", "nobody.example:80"}, []string{http.MethodGet, http.MethodPut}
	a.paths = []string{"/", "/other?x", "//", "/a/../b"}
	sometimes := &atoms{}
	note := func(to *[]string, values ...string) { *to = sometimes.add(*to, values...) }
	for _, host := range config.GetVirtualHosts() {
		for _, domain := range host.GetDomains() {
			domain = strings.ReplaceAll(domain, "*", "any")
			bare, port, _ := strings.Cut(domain, ":") // a dot behind the port is no authority, and gets 400 of ours
			note(&a.hosts, domain, strings.ToUpper(domain), "x"+domain, bare+".", bare+":1", bare+":"+cmp.Or(port, "80"))
		}
		for _, r := range host.GetRoutes() {
			for _, w := range r.GetRoute().GetWeightedClusters().GetClusters() {
				a.weighted[w.GetName()] = true
			}
		}
	}
	must(t, protorange.Range(config.ProtoReflect(), func(v protopath.Values) error {
		msg, ok := v.Index(-1).Value.Interface().(interface{ Interface() proto.Message })
		if !ok {
			return nil
		}
		switch m := msg.Interface().(type) {
		case *routev3.RouteMatch:
			for _, path := range []string{m.GetPath(), m.GetPrefix(), m.GetPathSeparatedPrefix()} {
				if path != "" {
					note(&a.paths, path, path+"/", path+"/x//y", path+"x", path+"?q=1", path+"/%2e%2e/z", path+"%20", strings.ToUpper(path), "/x"+path)
				}
			}
			if m.GetSafeRegex() != nil {
				note(&a.paths, samples(t, regexMatcher(m.GetSafeRegex()))...)
			}
		case *routev3.HeaderMatcher:
			values := append(samples(t, m.GetStringMatch()), "", "other", "-")
			if m.GetName() == ":method" {
				note(&a.methods, slices.DeleteFunc(values, unusual)...)
				return nil
			}
			a.headers[m.GetName()] = sometimes.add(a.headers[m.GetName()], values...)
		case *routev3.QueryParameterMatcher:
			a.queries[m.GetName()] = sometimes.add(a.queries[m.GetName()], append(samples(t, m.GetStringMatch()), "", "other", "-")...)
		case *corev3.HeaderValueOption:
			note(&a.changed, http.CanonicalHeaderKey(m.GetHeader().GetKey()))
		case *routev3.Route:
			for _, name := range append(m.GetRequestHeadersToRemove(), m.GetResponseHeadersToRemove()...) {
				note(&a.changed, http.CanonicalHeaderKey(name))
			}
		}
		return nil
	}))
	return a
}

// routeCase is a request.
type routeCase struct {
	host, method, path string
	header             [][2]string
}

// String implements fmt.Stringer.
func (c *routeCase) String() string {
	return fmt.Sprintf("%s %s%s %q", c.method, c.host, c.path, c.header)
}

// cases are requests, the same in each run.
func (a *routeAtoms) cases(seed int) []*routeCase {
	random := mathrand.New(mathrand.NewPCG(6, uint64(seed)))
	pick := func(from []string) string { return from[random.IntN(len(from))] }
	var all []*routeCase
	for n := range casesPerTable {
		c := &routeCase{host: pick(a.hosts), method: pick(a.methods), path: pick(a.paths)}
		if len(a.hosts) > 2 && n%3 > 0 {
			c.host = a.hosts[2]
		}
		if !strings.HasPrefix(c.path, "/") {
			c.path = "/" + c.path
		}
		for _, name := range sortedNames(a.headers) {
			if value := pick(a.headers[name]); value != "-" && n%2 == 0 {
				c.header = append(c.header, [2]string{name, value})
			}
		}
		for _, name := range sortedNames(a.queries) {
			if value := pick(a.queries[name]); value != "-" && n%2 == 0 {
				separator := "?"
				if strings.Contains(c.path, "?") {
					separator = "&"
				}
				c.path += separator + name + "=" + url.QueryEscape(value)
			}
		}
		for _, name := range a.changed {
			if n%4 > 1 {
				c.header = append(c.header, [2]string{name, "asked"})
			}
		}
		all = append(all, c)
	}
	return all
}

func sortedNames(of map[string][]string) []string {
	var names []string
	for name := range of {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// routed is what became of a request.
type routed struct {
	Status             int
	Cluster            string
	Host, Path, Method string
	Sees, Gets         map[string][]string
}

// ask makes the request.
func (c *routeCase) ask(t *testing.T, port int, a *routeAtoms) routed {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), c.method, "http://"+local(port), http.NoBody)
	must(t, err)
	req.Host = c.host
	var asked bool
	req.URL.RawPath, req.URL.RawQuery, asked = strings.Cut(c.path, "?")
	req.URL.ForceQuery = asked
	req.URL.Path, err = url.PathUnescape(req.URL.RawPath)
	must(t, err)
	for _, h := range c.header {
		req.Header.Add(h[0], h[1])
	}
	got, err := send(strict(t), req)
	must(t, err)
	out := routed{Status: got.status}
	var shown seen
	if got.status != http.StatusOK || json.Unmarshal([]byte(got.body), &shown) != nil {
		return out
	}
	out.Cluster, out.Host, out.Path, out.Method = shown.Name, shown.Host, shown.Path, shown.Method
	if a.weighted[shown.Name] {
		out.Cluster = "by chance"
		return out // each has headers of its own
	}
	out.Sees, out.Gets = map[string][]string{}, map[string][]string{}
	for _, name := range append(a.changed, "Bar", "Zip", "X-Own") {
		out.Sees[name], out.Gets[name] = shown.Header.Values(name), got.header.Values(name)
	}
	return out
}
