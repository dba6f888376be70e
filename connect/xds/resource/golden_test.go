package resource_test

import (
	"encoding/json"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

// goldens is the directory of Consul's golden files in the module cache. They
// come with `go -C integration/tools/consul mod download` and are not copied.
func goldens(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skipf("SKIPPED %s: go env GOMODCACHE: %v", t.Name(), err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "github.com/hashicorp/consul@v1.22.5/agent/xds/testdata")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED %s: Consul's golden files are not there (make tools fetches them): %v", t.Name(), err)
	}
	return dir
}

// lenient lets golden files name types that are not linked in.
type lenient struct{ *protoregistry.Types }

func (l lenient) FindMessageByURL(url string) (protoreflect.MessageType, error) {
	if typ, err := l.Types.FindMessageByURL(url); err == nil {
		return typ, nil
	}
	return (&listenerv3.Listener_ConnectionBalanceConfig_ExactBalance{}).ProtoReflect().Type(), nil
}

func unmarshal(tb testing.TB, file string, data []byte, into proto.Message) {
	tb.Helper()
	options := protojson.UnmarshalOptions{DiscardUnknown: true, Resolver: lenient{protoregistry.GlobalTypes}}
	if err := options.Unmarshal(data, into); err != nil {
		tb.Fatalf("%s: %v", file, err)
	}
}

// refusals collects why what was refused.
type refusals map[string]int

func (r refusals) add(kind, reason string) {
	if reason != "" {
		r[kind+": "+reason]++
	}
}

func (r refusals) listener(l *mesh.Listener) {
	r.add("listener", l.Refusal)
	chains := l.Chains
	if l.Default != nil {
		chains = append(slices.Clone(chains), l.Default)
	}
	for _, c := range chains {
		r.add("chain", c.Refusal)
		for _, in := range c.Intentions {
			r.add("network rbac", in.Refusal)
		}
		if c.HTTP == nil {
			continue
		}
		if c.HTTP.Route != nil {
			r.route(c.HTTP.Route)
		}
		for _, f := range c.HTTP.Filters {
			r.add("http filter", f.Refusal)
			if f.Intention != nil {
				r.add("http rbac", f.Intention.Refusal)
			}
		}
	}
}

func (r refusals) route(route *mesh.Route) {
	for _, vh := range route.VirtualHosts {
		for _, rule := range vh.Rules {
			r.add("rule", rule.Refusal)
		}
	}
}

// expected are the reasons that Consul's golden files may be refused for: what
// gateways, transparent proxies and Envoy extensions need.
func expected() []string {
	return []string{
		"listener filter envoy.filters.listener.original_dst is not supported",
		"network filter envoy.filters.network.sni_cluster",
		"network filter envoy.filters.network.ext_authz",
		"wasm", "lua", "ext_authz", "jwt_authn", "aws_lambda",
		"tls_certificate_sds_secret_configs is not supported",
		"certificate_chain: from a file is not supported",
		"trusted_ca: from a file is not supported",
		"no trusted_ca",
		"subject alternative name of type",
		"names of several kinds are not supported",
		"strip_any_host_port is not supported",
		"ca_certificate_provider_instance is not supported",
	}
}

func TestGoldenFilesDecode(t *testing.T) {
	t.Parallel()
	dir := goldens(t)
	refused, notes, files, resources := refusals{}, map[string]int{}, 0, 0
	err := filepath.WalkDir(dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".golden" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !json.Valid(data) {
			return nil // a PEM file
		}
		files++
		if !strings.Contains(string(data), `"typeUrl"`) {
			return nil // a filter, see TestGoldenRBAC
		}
		response := &discoveryv3.DiscoveryResponse{}
		unmarshal(t, path, data, response)
		for _, r := range response.GetResources() {
			resources++
			for _, note := range decodeOne(t, path, r, refused) {
				notes[note]++
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d JSON files, %d resources", files, resources)
	if files != 1378 {
		t.Errorf("got %d JSON files, want 1378", files)
	}
	for _, reason := range slices.Sorted(maps.Keys(refused)) {
		t.Logf("refused %4d × %s", refused[reason], reason)
		if !slices.ContainsFunc(expected(), func(s string) bool { return strings.Contains(reason, s) }) {
			t.Errorf("not expected to be refused: %s", reason)
		}
	}
	for _, note := range slices.Sorted(maps.Keys(notes)) {
		t.Logf("noted   %4d × %s", notes[note], note)
	}
}

func decodeOne(t *testing.T, path string, r *anypb.Any, refused refusals) (notes []string) {
	t.Helper()
	var err error
	switch r.GetTypeUrl() {
	case resource.ListenerType:
		var l *mesh.Listener
		if l, notes, err = resource.Listener(r.GetValue()); err == nil {
			refused.listener(l)
		}
	case resource.RouteType:
		var route *mesh.Route
		if route, notes, err = resource.Route(r.GetValue()); err == nil {
			refused.route(route)
		}
	case resource.ClusterType:
		var c *mesh.Cluster
		if c, notes, err = resource.Cluster(r.GetValue()); err == nil {
			refused.add("cluster", c.Refusal)
		}
	case resource.EndpointsType:
		_, notes, err = resource.Endpoints(r.GetValue())
	default:
		t.Errorf("%s: resource of type %s", path, r.GetTypeUrl())
	}
	if err != nil {
		t.Errorf("%s: %v", path, err)
	}
	return notes
}
