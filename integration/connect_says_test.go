package integration_test

import (
	"context"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestConnectSays holds what our commands tell who gives them a wrong ID, token or address, with a Consul that has ACLs: what
// was tried, and what to do. Some of them go on waiting, as for an agent that is not there yet.
func TestConnectSays(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	env := harness.ForTest(t)
	consul, err := env.Consul(ctx, harness.ConsulConfig{})
	must(t, err)
	tokens := map[string]string{"all": consul.Token, "none": "", "unknown": "22222222-2222-2222-2222-222222222222"}
	for _, service := range []string{"web", "other"} {
		tokens[service], err = consul.ServiceToken(ctx, service)
		must(t, err)
	}
	must(t, consul.RegisterService(ctx, &consulapi.AgentServiceRegistration{
		ID: "web-1", Name: "web", Port: 9000, Connect: &consulapi.AgentServiceConnect{SidecarService: &consulapi.AgentServiceRegistration{}},
	}, tokens["web"]))
	for _, row := range []struct{ args, token, says string }{
		{"connect -sidecar-for web-1", "none", `no sidecar is registered with this agent for service instance "web-1"`},
		{"connect -sidecar-for web-1", "none", "this agent has no service that the token may read"},
		{"connect -sidecar-for web-1", "unknown", "consul does not know the token; give another by -token, CONSUL_HTTP_TOKEN"},
		{"connect -sidecar-for web-1", "other", `it needs service:write on \"web\"`},
		{"connect -sidecar-for web", "all", "this agent has web-1"},
		{"connect -proxy-id web-1", "all", `"web-1" is no proxy but an instance of service "web": give -sidecar-for web-1`},
		{"connect -proxy-id nobody", "all", "Consul sends nothing: this proxy seems not to be registered at this agent"},
		{"connect -gateway api -service gate", "all", "register one with -register, or check -proxy-id and -service"},
		{"connect -gateway api -register -service gate -address 127.0.0.1", "web", `lacks permission 'service:write' on \"gate\"`},
		{"connect -sidecar-for web-1 -http-addr " + consul.GRPCAddr, "web", "is -http-addr, CONSUL_HTTP_ADDR or consul { address } right?"},
		{"connect -sidecar-for web-1 -grpc-addr " + consul.HTTPAddr, "web", "does its grpc port speak plain text?"},
		{"connect explain -admin-addr " + consul.HTTPAddr, "all", "is it that of another program, or of an older serai?"},
		{"connect tap -admin-addr " + consul.HTTPAddr, "all", "is it that of another program, or of an older serai?"},
		{"redirect-traffic -dry-run -proxy-uid 1 -proxy-id web-1", "all", `service "web-1" is no Connect proxy`},
		{"redirect-traffic -dry-run -proxy-uid 1 -proxy-id nobody", "all", `proxy "nobody" is not registered at this agent: register it, or correct the ID`},
		{"redirect-traffic -dry-run -proxy-uid 1 -proxy-id web-1-sidecar-proxy", "web", "(or say -dual-stack=false)"},
	} {
		p, err := env.Serai(strings.Fields(row.args), consul.Environ(tokens[row.token])...)
		must(t, err)
		if err := p.WaitLog(ctx, row.says); err != nil {
			t.Errorf("serai %s, token %s: %v", row.args, row.token, err)
		}
		must(t, p.Kill())
	}
}
