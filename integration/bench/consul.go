//go:build linux

package main

import (
	"context"
	"fmt"

	consulapi "github.com/hashicorp/consul/api"
)

func consulPeer() *peer {
	return &peer{
		name: "consul-proxy", find: pinned("consul"), version: []string{"version"},
		does: func(s *scenario) string {
			if s.pair != "tcp" {
				return "TCP only"
			}
			return ""
		},
		start: func(ctx context.Context, w *world, j *job) (*subject, error) {
			return w.meshPair(ctx, "consul-proxy", j, func(id string) []string {
				return []string{"connect", "proxy", "-sidecar-for", id, "-log-level", "warn"}
			})
		},
	}
}

// meshPair starts two sidecars that a Consul configures: of a service web, whom nobody calls, with the upstream api,
// which is the backend.
func (w *world) meshPair(ctx context.Context, name string, j *job, args func(id string) []string) (*subject, error) {
	consul, err := w.mesh(ctx)
	if err != nil {
		return nil, err
	}
	ports, err := w.env.Ports(4)
	if err != nil {
		return nil, err
	}
	api, web := "api-"+name+"-"+j.scenario.name, "web-"+name+"-"+j.scenario.name
	for _, service := range []string{api, web} {
		if err := consul.Protocol(ctx, service, j.scenario.pair); err != nil {
			return nil, err
		}
	}
	out := &subject{addr: local(ports)}
	for _, service := range []*consulapi.AgentServiceRegistration{
		sidecar(api, j.backend, ports+1),
		sidecar(web, ports+3, ports+2, consulapi.Upstream{DestinationName: api, LocalBindPort: ports}),
	} {
		if err := consul.RegisterService(ctx, service, ""); err != nil {
			return nil, err
		}
		process, err := w.start(fmt.Sprintf("%s-%s", name, service.Name[:3]), j.path, args(service.ID), consul.Environ(""))
		if err != nil {
			return nil, err
		}
		out.processes = append(out.processes, process)
	}
	return out, waitAccept(ctx, out.processes[1], out.addr)
}

// sidecar is a service with one, both on this machine.
func sidecar(name string, port, public int, upstreams ...consulapi.Upstream) *consulapi.AgentServiceRegistration {
	return &consulapi.AgentServiceRegistration{
		ID: name, Name: name, Address: "127.0.0.1", Port: port,
		Connect: &consulapi.AgentServiceConnect{SidecarService: &consulapi.AgentServiceRegistration{
			Address: "127.0.0.1", Port: public,
			Proxy:  &consulapi.AgentServiceConnectProxyConfig{Upstreams: upstreams},
			Checks: consulapi.AgentServiceChecks{{Name: "alias", AliasService: name}},
		}},
	}
}
