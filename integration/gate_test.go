package integration_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/serai-net/serai/integration/harness"
)

const acmeKey = "the-key-of-acme"

// gate is an edge. Its one consumer is acme. Its routes go by the first segment of the path, which is cut off unless it is a service of
// gRPC.
type gate struct {
	process *harness.Process
	id      string
	addr    string
	file    string
	consul  string // the block of its configuration, "" for none
}

// mesh are routes to services of the mesh, each under its name.
func mesh(services ...string) map[string]string {
	routes := map[string]string{}
	for _, service := range services {
		routes[service] = fmt.Sprintf("service = %q", service)
	}
	return routes
}

// edge starts an edge with the token of the service "edge".
func (w *world) edge(t *testing.T, routes map[string]string) *gate {
	t.Helper()
	return w.edgeAs(t, w.token(t, "edge"), routes)
}

// edgeAs starts an edge with some token.
func (w *world) edgeAs(t *testing.T, token string, routes map[string]string) *gate {
	t.Helper()
	return startGate(t, w.env, fmt.Sprintf("consul {\n  address = %q\n  grpc_address = %q\n  token = %q\n}\n",
		w.consul.HTTPAddr, w.consul.GRPCAddr, token), routes)
}

// startGate starts an edge; environ is added to its environment.
func startGate(t *testing.T, env *harness.Env, consul string, routes map[string]string, environ ...string) *gate {
	t.Helper()
	port, err := env.Port()
	must(t, err)
	g := &gate{id: "edge-" + strconv.Itoa(port), addr: local(port), consul: consul}
	g.file = filepath.Join(env.Dir(), g.id+".hcl")
	g.write(t, g.config(routes))
	g.process, err = env.Serai([]string{"edge", "-config", g.file}, environ...)
	must(t, err)
	return g
}

// config is the text of the edge's file.
func (g *gate) config(routes map[string]string) string {
	var b strings.Builder
	b.WriteString(g.consul)
	fmt.Fprintf(&b, "edge {\n  id = %q\n  listener \"public\" {\n    address = %q\n  }\n", g.id, g.addr)
	fmt.Fprintf(&b, "  consumer \"acme\" {\n    key \"test\" {\n      key = %q\n    }\n  }\n", acmeKey)
	b.WriteString("  api \"shop\" {\n    authenticate \"api_key\" {}\n")
	for _, name := range slices.Sorted(maps.Keys(routes)) {
		strip := !strings.Contains(name, ".") // what is called by gRPC has its name in the path
		fmt.Fprintf(&b, "    route %[1]q {\n      path_prefix = \"/%[1]s\"\n      strip_prefix = %[3]t\n      upstream {\n        %[2]s\n      }\n    }\n",
			name, routes[name], strip)
	}
	b.WriteString("  }\n}\n")
	return b.String()
}

func (g *gate) write(t *testing.T, text string) {
	t.Helper()
	must(t, os.WriteFile(g.file, []byte(text), 0o600))
}

// reload writes a new configuration and tells the edge.
func (g *gate) reload(t *testing.T, text string) {
	t.Helper()
	g.write(t, text)
	must(t, g.process.Signal(syscall.SIGHUP))
}

// url is a path at the edge.
func (g *gate) url(path string) string { return "http://" + g.addr + path }
