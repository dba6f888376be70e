package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/serai-net/serai/integration/harness"
)

// staticTwin is one data plane that serves the listeners of its bootstrap file.
type staticTwin struct {
	admin   int
	ports   []int // of the listeners
	process *harness.Process
}

// staticTwins start our proxy and Envoy with the same static resources, of n listeners at ports of their own. Our
// Consul is one that nobody can reach.
func staticTwins(t *testing.T, env *harness.Env, n int, resources func(ports []int) (clusters, listeners []json.RawMessage)) map[string]*staticTwin {
	t.Helper()
	return staticTwinsWith(t, env, n, func(ports []int) map[string]any {
		clusters, listeners := resources(ports)
		return map[string]any{"clusters": clusters, "listeners": listeners}
	})
}

// staticTwinsWith is staticTwins with resources of any kind.
func staticTwinsWith(t *testing.T, env *harness.Env, n int, resources func(ports []int) map[string]any) map[string]*staticTwin {
	t.Helper()
	twins := map[string]*staticTwin{}
	for _, kind := range kinds() {
		twin := &staticTwin{}
		var err error
		for range n {
			port, err := env.Port()
			must(t, err)
			twin.ports = append(twin.ports, port)
		}
		twin.admin, err = env.Port()
		must(t, err)
		all := resources(twin.ports)
		clusters, ok := all["clusters"].([]json.RawMessage)
		if !ok {
			t.Fatal("no clusters")
		}
		file := filepath.Join(env.Dir(), kind+".json")
		all["clusters"] = append(clusters, json.RawMessage(`{"name":"local_agent","connect_timeout":"1s","load_assignment":{"cluster_name":"local_agent",
			"endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":9}}}}]}]}}`))
		text, err := json.Marshal(map[string]any{
			"node":  map[string]any{"id": "twin", "cluster": "twin"},
			"admin": json.RawMessage(fmt.Sprintf(`{"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}`, twin.admin)),
			// as Consul's bootstrap has it, whose expressions are longer than Envoy likes
			"layered_runtime":  json.RawMessage(`{"layers":[{"name":"base","static_layer":{"re2.max_program_size.error_level":1048576}}]}`),
			"static_resources": all,
		})
		must(t, err)
		must(t, os.WriteFile(file, text, 0o600))
		if kind == "envoy" {
			twin.process = startEnvoy(t, env, kind, file)
		} else {
			twin.process, err = env.Serai([]string{"connect", "-c", file})
		}
		must(t, err)
		twins[kind] = twin
	}
	for _, twin := range twins {
		for _, port := range twin.ports {
			eventually(t, "a listener of "+twin.process.Name, func(ctx context.Context) error {
				select {
				case <-twin.process.Done():
					t.Fatalf("%s is gone:\n%s", twin.process.Name, twin.process.Log())
				default:
				}
				m, err := tryMirror(ctx, local(port))
				if err == nil {
					drop(m.conn)
				}
				return err
			})
		}
	}
	return twins
}
