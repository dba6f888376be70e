package main

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

//go:embed serai.hcl
var configuration []byte

// startTime bounds the start of everything, a cold Consul included.
const startTime = 90 * time.Second

// world is all that runs.
type world struct {
	env *harness.Env
	// addresses
	edge, dns, admin string
	consul           *harness.Consul
	agent            *harness.Process
	// instances in the order of their start
	instances []*instance
}

// instance is a demo service, with a sidecar if it is in the mesh.
type instance struct {
	id, service, version string
	mesh                 bool
	port, sidecarPort    int
	upstreamPort         int // of the local listener for api; 0 for none
}

func (w *world) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startTime, fmt.Errorf("not ready after %v", startTime))
	defer cancel()
	progress("Consul")
	var err error
	// Without ACLs, so that you can look around; but nobody may call anybody
	// unless an intention allows it.
	if w.consul, err = w.env.Consul(ctx, harness.ConsulConfig{
		NoACL: true, HCL: `default_intention_policy = "deny"`,
	}); err != nil {
		return err
	}
	progress("configuration: protocols, versions, intentions")
	if err := w.configure(ctx); err != nil {
		return err
	}
	w.instances = []*instance{
		{id: "web-1", service: "web", version: "v1", mesh: true, upstreamPort: 1},
		{id: "api-v1", service: "api", version: "v1", mesh: true},
		{id: "api-v2", service: "api", version: "v2", mesh: true},
		{id: "legacy-1", service: "legacy", version: "v1"},
	}
	progress("services and their sidecars")
	for _, i := range w.instances {
		if err := w.startInstance(ctx, i); err != nil {
			return err
		}
	}
	progress("edge with its plugins, and dns")
	if err := w.startAgent(); err != nil {
		return err
	}
	progress("waiting until all are healthy")
	return w.waitReady(ctx)
}

func progress(what string) { fmt.Printf("  %s ...\n", what) }

// configure writes what an operator would: api has two versions that share the
// requests, and a header chooses v2; edge may call web, web may call api.
func (w *world) configure(ctx context.Context) error {
	entries := []consulapi.ConfigEntry{
		&consulapi.ServiceConfigEntry{Kind: consulapi.ServiceDefaults, Name: "web", Protocol: "http"},
		&consulapi.ServiceConfigEntry{Kind: consulapi.ServiceDefaults, Name: "api", Protocol: "http"},
		&consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "api",
			Subsets: map[string]consulapi.ServiceResolverSubset{
				"v1": {Filter: "Service.Meta.version == v1"}, "v2": {Filter: "Service.Meta.version == v2"},
			},
		},
		&consulapi.ServiceSplitterConfigEntry{
			Kind: consulapi.ServiceSplitter, Name: "api",
			Splits: []consulapi.ServiceSplit{{Weight: 50, ServiceSubset: "v1"}, {Weight: 50, ServiceSubset: "v2"}},
		},
		&consulapi.ServiceRouterConfigEntry{
			Kind: consulapi.ServiceRouter, Name: "api",
			Routes: []consulapi.ServiceRoute{{
				Match: &consulapi.ServiceRouteMatch{HTTP: &consulapi.ServiceRouteHTTPMatch{
					PathPrefix: "/", Header: []consulapi.ServiceRouteHTTPMatchHeader{{Name: "x-canary", Exact: "true"}},
				}},
				Destination: &consulapi.ServiceRouteDestination{ServiceSubset: "v2"},
			}},
		},
	}
	for _, entry := range entries {
		if err := w.consul.WriteConfigEntry(ctx, entry); err != nil {
			return err
		}
	}
	if err := w.consul.Intention(ctx, "edge", "web", true); err != nil {
		return err
	}
	return w.consul.Intention(ctx, "web", "api", true)
}

func (w *world) startInstance(ctx context.Context, i *instance) error {
	ports, err := w.env.Ports(3)
	if err != nil {
		return err
	}
	i.port, i.sidecarPort = ports, ports+1
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"service", "-name", i.service + " " + i.version, "-listen", local(i.port)}
	if i.upstreamPort != 0 {
		i.upstreamPort = ports + 2
		args = append(args, "-upstream", local(i.upstreamPort))
	}
	if _, err := w.env.Start(harness.Command{Name: i.id, Path: self, Args: args}); err != nil {
		return err
	}
	if err := w.consul.RegisterService(ctx, i.registration(), ""); err != nil {
		return err
	}
	if !i.mesh {
		return nil
	}
	_, err = w.env.Serai([]string{"connect", "-sidecar-for", i.id}, w.consul.Environ("")...)
	return err
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (i *instance) registration() *consulapi.AgentServiceRegistration {
	r := &consulapi.AgentServiceRegistration{
		ID: i.id, Name: i.service, Address: "127.0.0.1", Port: i.port, Meta: map[string]string{"version": i.version},
		Check: &consulapi.AgentServiceCheck{TCP: local(i.port), Interval: "1s", Timeout: "1s"},
	}
	if !i.mesh {
		return r
	}
	sidecar := &consulapi.AgentServiceRegistration{
		Port: i.sidecarPort,
		Checks: consulapi.AgentServiceChecks{
			{Name: "Connect Sidecar Listening", TCP: local(i.sidecarPort), Interval: "1s", Timeout: "1s"},
			{Name: "Connect Sidecar Aliasing " + i.id, AliasService: i.id},
		},
	}
	if i.upstreamPort != 0 {
		sidecar.Proxy = &consulapi.AgentServiceConnectProxyConfig{
			Upstreams: []consulapi.Upstream{{DestinationName: "api", LocalBindPort: i.upstreamPort}},
		}
	}
	r.Connect = &consulapi.AgentServiceConnect{SidecarService: sidecar}
	return r
}

func (w *world) accessLog() string { return filepath.Join(w.env.Dir(), "access.log") }

// startAgent starts the edge and the DNS interface in one process.
func (w *world) startAgent() error {
	file := filepath.Join(w.env.Dir(), "serai.hcl")
	if err := os.WriteFile(file, configuration, 0o600); err != nil {
		return err
	}
	env := append(w.consul.Environ(""),
		"DEMO_CONSUL="+w.consul.HTTPAddr, "DEMO_EDGE="+w.edge, "DEMO_DNS="+w.dns, "DEMO_ADMIN="+w.admin, "DEMO_ACCESS_LOG="+w.accessLog())
	root, err := harness.Root()
	if err != nil {
		return err
	}
	for _, name := range []string{"hmac-auth", "header-map"} {
		path := filepath.Join(root, "bin", "plugins", name)
		program, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("find the plugin: %w: run make build", err)
		}
		variable := "DEMO_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		env = append(env, variable+"="+path, fmt.Sprintf("%s_SHA256=%x", variable, sha256.Sum256(program)))
	}
	w.agent, err = w.env.Serai([]string{"agent", "-config", file}, env...)
	return err
}

func (w *world) waitReady(ctx context.Context) error {
	waits := map[string]int{"web-sidecar-proxy": 1, "api-sidecar-proxy": 2, "legacy": 1}
	var all sync.WaitGroup
	errs := make(chan error, len(waits)+2)
	for service, n := range waits {
		all.Go(func() { errs <- w.consul.WaitHealthy(ctx, service, n) })
	}
	for _, listener := range []string{"listener=public", "listener=web"} {
		all.Go(func() { errs <- w.agent.WaitLog(ctx, listener) })
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// describe prints what runs where.
func (w *world) describe() {
	fmt.Printf("  %-26s http://%s   (CONSUL_HTTP_ADDR=%s)\n", "Consul", w.consul.HTTPAddr, w.consul.HTTPAddr)
	fmt.Printf("  %-26s http://%s   metrics at http://%s/metrics\n", "edge", w.edge, w.admin)
	fmt.Printf("  %-26s %s   for web\n", "dns", w.dns)
	for _, i := range w.instances {
		text := "no sidecar, from the catalog"
		if i.mesh {
			text = "sidecar " + local(i.sidecarPort) + " (mTLS)"
		}
		if i.upstreamPort != 0 {
			text += ", api at " + local(i.upstreamPort)
		}
		fmt.Printf("  %-26s http://%s   %s\n", i.service+" "+i.version, local(i.port), text)
	}
	fmt.Printf("  %-26s %s\n\n", "logs", filepath.Join(w.env.Dir(), "logs"))
}

// tellLogs shows how the logs end when something did not start.
func (w *world) tellLogs() {
	files, err := filepath.Glob(filepath.Join(w.env.Dir(), "logs", "*.log"))
	if err != nil {
		return
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err == nil {
			fmt.Fprintf(os.Stderr, "--- %s ends:\n%s\n", filepath.Base(file), text[max(0, len(text)-1500):])
		}
	}
}
