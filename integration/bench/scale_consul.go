//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

const (
	// adminPort stands in bootstrap files where the port of the admin interface will.
	adminPort = "19876"
	// upstreamIP is where the sidecar listens for its upstreams, from upstreamPort on.
	upstreamIP   = "127.91.0.1"
	upstreamPort = 10000
	busyID       = "busy-1"
	idleID       = "idle-1"
	// writers register instances, and make changes, at one time.
	writers = 8
)

// crowd is a real Consul with many services, most of which only exist there.
type crowd struct {
	consul     *harness.Consul
	options    *scaleOptions
	names      *names
	leaf       *consulapi.LeafCert
	stop       context.CancelFunc // of the backends
	busy, idle string             // bootstrap files of the sidecars
}

func (s *scale) crowd(ctx context.Context) (*crowd, error) {
	if s.mesh != nil {
		return s.mesh, nil
	}
	consul, err := s.env.Consul(ctx, harness.ConsulConfig{NoACL: true, HCL: `log_level = "warn"`})
	if err != nil {
		return nil, err
	}
	m := &crowd{consul: consul, options: s.options}
	began := time.Now()
	if err := m.populate(ctx, s); err != nil {
		return nil, err
	}
	say("%d services of %d instances registered in %v", s.options.upstreams, s.options.instances, time.Since(began).Round(time.Second))
	if m.busy, err = m.bootstrap(ctx, s, busyID); err != nil {
		return nil, err
	}
	if m.idle, err = m.bootstrap(ctx, s, idleID); err != nil {
		return nil, err
	}
	if err := m.warm(ctx); err != nil {
		return nil, err
	}
	say("Consul has told of all after %v", time.Since(began).Round(time.Second))
	s.mesh = m
	return m, nil
}

// endConsul leaves the processor to the replay.
func (s *scale) endConsul(ctx context.Context) error {
	if s.mesh == nil {
		return nil
	}
	s.mesh.stop()
	mesh := s.mesh
	s.mesh = nil
	return mesh.consul.Stop(ctx)
}

// populate registers everything.
func (m *crowd) populate(ctx context.Context, s *scale) error {
	port, err := s.env.Ports(6)
	if err != nil {
		return err
	}
	if m.leaf, _, err = m.consul.API.Agent().ConnectCALeaf(serviceName(0), (&consulapi.QueryOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("leaf of the backends: %w", err)
	}
	pair, err := tls.X509KeyPair([]byte(m.leaf.CertPEM), []byte(m.leaf.PrivateKeyPEM))
	if err != nil {
		return fmt.Errorf("leaf of the backends: %w", err)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	if m.names, err = serveNames(serving, port, &pair); err != nil {
		return err
	}
	if err := m.each(m.options.upstreams*m.options.instances, func(n int) error {
		return m.register(ctx, n/m.options.instances, n%m.options.instances)
	}); err != nil {
		return err
	}
	var upstreams []consulapi.Upstream
	for n := range m.options.upstreams {
		upstreams = append(upstreams, consulapi.Upstream{
			DestinationName: serviceName(n), LocalBindAddress: upstreamIP, LocalBindPort: upstreamPort + n,
		})
	}
	return errors.Join(
		m.consul.RegisterService(ctx, named(busyID, sidecar("busy", port+2, port+3, upstreams...)), ""),
		m.consul.RegisterService(ctx, named(idleID, sidecar("idle", port+4, port+5)), ""),
	)
}

func named(id string, service *consulapi.AgentServiceRegistration) *consulapi.AgentServiceRegistration {
	service.ID = id
	service.Connect.SidecarService.Checks = nil
	return service
}

// each calls f for all numbers below n, some at a time.
func (m *crowd) each(n int, f func(n int) error) error {
	var next atomic.Int64
	var working sync.WaitGroup
	errs := make([]error, writers)
	for i := range writers {
		working.Go(func() {
			for errs[i] == nil {
				at := int(next.Add(1)) - 1
				if at >= n {
					return
				}
				errs[i] = f(at)
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

func serviceName(n int) string { return "svc-" + strconv.Itoa(n) }

func nodeName(instance int) string { return "far-" + strconv.Itoa(instance) }

func instanceID(service, instance int) string {
	return serviceName(service) + "-" + strconv.Itoa(instance)
}

// register puts an instance into the catalog, on a node that has no agent. Of the first service, only those that
// live are healthy.
func (m *crowd) register(ctx context.Context, service, instance int) error {
	address, port := fmt.Sprintf("127.%d.%d.%d", 100+instance, service/250, 1+service%250), 8000
	if service == 0 && instance < len(m.names.ports) {
		address, port = "127.0.0.1", m.names.ports[instance]
	}
	_, err := m.consul.API.Catalog().Register(&consulapi.CatalogRegistration{
		Node: nodeName(instance), Address: fmt.Sprintf("127.%d.255.1", 100+instance),
		Service: &consulapi.AgentService{
			ID: instanceID(service, instance), Service: serviceName(service), Address: address, Port: port,
			Connect: &consulapi.AgentServiceConnect{Native: true},
		},
		Check: m.check(service, instance, service != 0 || instance == 0),
	}, (&consulapi.WriteOptions{}).WithContext(ctx))
	return err
}

func (m *crowd) check(service, instance int, healthy bool) *consulapi.AgentCheck {
	status := consulapi.HealthCritical
	if healthy {
		status = consulapi.HealthPassing
	}
	return &consulapi.AgentCheck{
		Node: nodeName(instance), CheckID: "service:" + instanceID(service, instance), Name: "alive",
		Status: status, ServiceID: instanceID(service, instance), ServiceName: serviceName(service),
	}
}

// tell changes health checks, all in one transaction.
func (m *crowd) tell(ctx context.Context, checks ...*consulapi.AgentCheck) error {
	var ops consulapi.TxnOps
	for _, c := range checks {
		ops = append(ops, &consulapi.TxnOp{Check: &consulapi.CheckTxnOp{Verb: consulapi.CheckSet, Check: consulapi.HealthCheck{
			Node: c.Node, CheckID: c.CheckID, Name: c.Name, Status: c.Status, ServiceID: c.ServiceID, ServiceName: c.ServiceName,
		}}})
	}
	ok, answer, _, err := m.consul.API.Txn().Txn(ops, (&consulapi.QueryOptions{}).WithContext(ctx))
	if err == nil && !ok {
		err = fmt.Errorf("change health: %v", answer.Errors[0].What)
	}
	return err
}

// turn makes one of the two backends the healthy one. The time is that before Consul was told.
func (m *crowd) turn(ctx context.Context, to byte) (time.Time, error) {
	said := time.Now()
	return said, m.tell(ctx, m.check(0, 0, to == 'A'), m.check(0, 1, to == 'B'))
}

func (m *crowd) visitor() *visitor {
	return newVisitor(m.options.upstreams)
}

// storm changes the health of instances at random, one at a time, as fast as Consul takes it. What it returns ends it
// and tells how many changes there were.
func (m *crowd) storm(ctx context.Context) func() int64 {
	ctx, cancel := context.WithCancel(ctx)
	var count atomic.Int64
	var working sync.WaitGroup
	for range writers {
		working.Go(func() {
			for ctx.Err() == nil {
				service, instance := 1+rand.N(m.options.upstreams-1), rand.N(m.options.instances)
				if err := m.tell(ctx, m.check(service, instance, rand.N(3) > 0)); err == nil {
					count.Add(1)
				} else if ctx.Err() == nil {
					say("a change failed: %v", err)
				}
			}
		})
	}
	return func() int64 {
		cancel()
		working.Wait()
		return count.Load()
	}
}

// bootstrap is what Consul would start Envoy with.
func (m *crowd) bootstrap(ctx context.Context, s *scale, id string) (string, error) {
	consul, err := s.env.Tool("consul")
	if err != nil {
		return "", err
	}
	cmd := exec.CommandContext(ctx, consul, "connect", "envoy", "-bootstrap", "-ignore-envoy-compatibility", "-sidecar-for", id,
		"-http-addr", m.consul.HTTPAddr, "-grpc-addr", m.consul.GRPCAddr, "-admin-bind", "127.0.0.1:"+adminPort)
	text, err := cmd.Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return "", fmt.Errorf("consul connect envoy: %w: %s", err, strings.TrimSpace(string(exit.Stderr)))
	}
	if err != nil {
		return "", fmt.Errorf("consul connect envoy: %w", err)
	}
	file := filepath.Join(s.env.Dir(), id+".json")
	return file, os.WriteFile(file, text, 0o600)
}
