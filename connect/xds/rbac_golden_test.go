package xds_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/rbac/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/xds/resource"
)

// golden compiles one of Consul's RBAC golden files from the module cache. A
// filter of HTTP has the same fields as one of the network.
func golden(t *testing.T, file string) *rbac.Policy {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := &listenerv3.Filter{}
	if err := protojson.Unmarshal(data, f); err != nil {
		t.Fatal(err)
	}
	p, err := rbac.Compile([]*mesh.Intention{resource.Intention(f.GetTypedConfig())})
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return p
}

func goldens(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOMODCACHE").Output()
	if err != nil {
		t.Skipf("SKIPPED %s: go env GOMODCACHE: %v", t.Name(), err)
	}
	dir := filepath.Join(strings.TrimSpace(string(out)), "github.com/hashicorp/consul@v1.22.5/agent/xds/testdata/rbac")
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("SKIPPED %s: Consul's golden files are not there (make tools fetches them): %v", t.Name(), err)
	}
	return dir
}

func TestGoldenIntentionsCompile(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(goldens(t), "*.golden"))
	if err != nil || len(files) != 50 {
		t.Fatalf("%d golden files, want 50: %v", len(files), err)
	}
	for _, file := range files {
		golden(t, file)
	}
}

func TestGoldenIntentionsDecide(t *testing.T) {
	t.Parallel()
	dir := goldens(t)
	const web, db = "spiffe://test.consul/ns/default/dc/dc1/svc/web", "spiffe://test.consul/ns/default/dc/dc1/svc/db"
	const gateway = "spiffe://test.consul/gateway/mesh/dc/dc2"
	const xfcc = "By=spiffe://test.consul/gateway/mesh/dc/dc2;Hash=a;URI=spiffe://peer1.domain/ap/part1/ns/default/dc/x/svc/"
	kitchen := "default-deny-single-intention-with-kitchen-sink-perms--httpfilter"
	tests := []struct {
		file, peer, method, path string
		header                   []string
		want                     bool
	}{
		{file: "default-deny-one-allow", peer: web, want: true},
		{file: "default-deny-one-allow", peer: db},
		{file: "default-deny-one-allow", peer: web + "x"},
		{file: "default-deny-one-allow"},
		{file: "default-allow-one-deny", peer: web},
		{file: "default-allow-one-deny", peer: db, want: true},
		{file: "default-deny-allow-deny", peer: web},
		{file: "default-deny-allow-deny", peer: db, want: true},
		{file: "default-deny-path-allow", peer: web}, // L7 on tcp denies
		{file: "default-allow-path-deny", peer: web},
		{file: "default-allow-path-deny", peer: db, want: true},
		{file: "default-deny-path-allow--httpfilter", peer: web, path: "/x", want: true},
		{file: "default-deny-path-allow--httpfilter", peer: db, path: "/x"},
		{file: "default-allow-two-path-deny-and-path-allow--httpfilter", peer: web, path: "/v1/secret?x"},
		{file: "default-allow-two-path-deny-and-path-allow--httpfilter", peer: web, path: "/v1/admin"},
		{file: "default-allow-two-path-deny-and-path-allow--httpfilter", peer: web, path: "/v1/admin/x", want: true},
		{file: kitchen, peer: web, path: "/v1/x", method: "POST", want: true},
		{file: kitchen, peer: web, path: "/v1/secret", method: "GET"},
		{file: kitchen, peer: web, path: "/v2", method: "GET", want: true},
		{file: kitchen, peer: web, path: "/v2/x", method: "GET"},
		{file: kitchen, peer: web, path: "/v2", method: "GETS"},
		{
			file: kitchen, peer: web, path: "/other", method: "POST", want: true,
			header: []string{
				"x-foo", "", "x-bar", "xyz", "x-dib", "gazx", "x-gir", "xzim", "x-baz", "xquxx", "x-zim", "giR", "y-bar", "XYZ", "y-dib", "GAZx",
				"y-gir", "xZIM", "y-baz", "xQUXx", "z-bar", "a", "z-dib", "a", "z-gir", "a", "z-baz", "a", "z-zim", "a",
			},
		},
		{file: "default-deny-peered-kitchen-sink--httpfilter", peer: web, want: true, path: "/"},
		{file: "default-deny-peered-kitchen-sink--httpfilter", peer: gateway, path: "/", header: []string{"x-forwarded-client-cert", xfcc + "db"}, want: true},
		{file: "default-deny-peered-kitchen-sink--httpfilter", peer: gateway, path: "/", header: []string{"x-forwarded-client-cert", xfcc + "web"}},
		{file: "default-deny-peered-kitchen-sink--httpfilter", peer: db, path: "/", header: []string{"x-forwarded-client-cert", xfcc + "db"}},
	}
	for _, tt := range tests {
		in := rbac.Input{Peer: &wire.Peer{}}
		if tt.peer != "" {
			id, err := spiffe.Parse(tt.peer)
			if err != nil {
				t.Fatal(err)
			}
			in.Peer.ID = id
		}
		if tt.path != "" {
			in.Request = &wire.Request{Method: tt.method, Path: tt.path}
			for i := 0; i < len(tt.header); i += 2 {
				in.Request.Header.Add(tt.header[i], tt.header[i+1])
			}
		}
		got, policy := golden(t, filepath.Join(dir, tt.file+".golden")).Decide(in)
		if got != tt.want {
			t.Errorf("%s: %s %s by %q: got %v by policy %q, want %v", tt.file, tt.method, tt.path, tt.peer, got, policy, tt.want)
		}
	}
}
