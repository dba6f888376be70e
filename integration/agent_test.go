package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// clientAgent is a Consul agent that is no server, as runs on the nodes where workloads are: what it forgets when it
// restarts, the servers remember.
type clientAgent struct {
	env     *harness.Env
	consul  *harness.Consul
	command harness.Command
	process *harness.Process
}

// joinClient starts a client agent of the world's Consul and makes it the world's agent: services are registered there,
// and proxies talk to it.
func (w *world) joinClient(t *testing.T) *clientAgent {
	t.Helper()
	path, err := w.env.Tool("consul")
	must(t, err)
	server, err := w.consul.API.Agent().Members(false)
	must(t, err)
	port := w.ports(t, 5)
	dir := filepath.Join(w.env.Dir(), "client")
	must(t, os.Mkdir(dir, 0o755))
	file := filepath.Join(dir, "client.hcl")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `
node_name = "client"
data_dir = %q
bind_addr = "127.0.0.1"
client_addr = "127.0.0.1"
retry_join = [%q]
retry_interval = "1s"
disable_host_node_id = true
disable_update_check = true
leave_on_terminate = false
skip_leave_on_interrupt = true
limits { http_max_conns_per_client = 4096 }
ports {
  http = %d
  grpc = %d
  dns = -1
  server = %d
  serf_lan = %d
}
acl {
  enabled = true
  default_policy = "deny"
  enable_token_persistence = true
  tokens { agent = %q }
}
`, filepath.Join(dir, "data"), net.JoinHostPort(server[0].Addr, strconv.Itoa(int(server[0].Port))),
		port, port+1, port+2, port+3, w.consul.Token), 0o600))

	agent := &clientAgent{
		env:     w.env,
		consul:  &harness.Consul{HTTPAddr: local(port), GRPCAddr: local(port + 1), Node: "client", Token: w.consul.Token},
		command: harness.Command{Name: "consul-client", Path: path, Args: []string{"agent", "-config-file", file}},
	}
	agent.consul.API, err = agent.consul.Client(agent.consul.Token)
	must(t, err)
	must(t, agent.Start(t.Context()))
	w.consul = agent.consul
	return agent
}

// Start starts the agent, again too, and waits until it serves.
func (a *clientAgent) Start(ctx context.Context) error {
	var err error
	if a.process, err = a.env.Start(a.command); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return harness.Until(ctx, "the client agent to serve", func(ctx context.Context) error {
		query := (&consulapi.QueryOptions{}).WithContext(ctx)
		if _, _, err := a.consul.API.Agent().ConnectCARoots(query); err != nil {
			return err
		}
		node, _, err := a.consul.API.Catalog().Node(a.consul.Node, query)
		if err == nil && node == nil {
			err = errors.New("its node is not in the catalog")
		}
		return err
	})
}

// Kill kills the agent.
func (a *clientAgent) Kill() error { return a.process.Kill() }
