package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

// TestDNSChurn registers and deregisters services while others are asked for: no answer is wrong, what is gone is
// forgotten, and neither memory nor threads nor open files grow.
func TestDNSChurn(t *testing.T) {
	t.Parallel()
	const rounds, window = 200, 10
	p := newDNSPair(t, harness.ConsulConfig{NoACL: true}, "")
	p.register(t, node("alpha", "10.1.0.1", nil), inst("alpha", "web1", "web", "10.2.0.1", 80, ""))
	process := p.start(t)
	soon(t, "web to be known", func(ctx context.Context) error { return has(ctx, p, "web", 1) })

	asking := askAlways(t, p.ours, "web.service.consul. A", "NOERROR; web.service.consul. 0 IN A 10.2.0.1")
	name := func(i int) string { return "churn-" + strconv.Itoa(i) }
	churn := func(rounds int) {
		for i := range rounds {
			p.register(t, inst("alpha", name(i), name(i), fmt.Sprintf("10.4.0.%d", i%250+1), 80, ""))
			if i%20 == 0 {
				begin := time.Now()
				soon(t, name(i)+" to be known", func(ctx context.Context) error { return has(ctx, p, name(i), 1) })
				t.Logf("%s was known after %v", name(i), time.Since(begin).Round(time.Millisecond))
			}
			if i >= window {
				p.deregister(t, name(i-window))
			}
		}
		for i := rounds - window; i < rounds; i++ {
			p.deregister(t, name(i))
		}
		for i := range rounds {
			soon(t, name(i)+" to be forgotten", func(ctx context.Context) error { return has(ctx, p, name(i), 0) })
		}
	}
	churn(2 * window)
	before := usage(t, process)
	churn(rounds)
	after := usage(t, process)
	asking.end(t)
	t.Logf("before %+v, after %+v", before, after)
	if before != nil && (after["kB"] > before["kB"]+20_000 || after["threads"] > before["threads"]+10 || after["files"] > before["files"]+window) {
		t.Errorf("%d rounds cost: before %+v, after %+v", rounds, before, after)
	}
}

// deregister takes an instance of node alpha out of the catalog.
func (p *dnsPair) deregister(t *testing.T, id string) {
	t.Helper()
	_, err := p.consul.API.Catalog().Deregister(&consulapi.CatalogDeregistration{Node: "alpha", ServiceID: id}, nil)
	must(t, err)
}

// has is nil if we answer with n addresses for a service, NXDOMAIN for 0.
func has(ctx context.Context, p *dnsPair, service string, n int) error {
	m, err := digger{name: service + ".service.consul.", qtype: dns.TypeA}.dig(ctx, p.ours)
	if err != nil {
		return err
	}
	if len(m.Answer) != n || (m.Rcode == dns.RcodeNameError) != (n == 0) {
		return errors.New(m.String())
	}
	return nil
}

// usage is what a process has of the system; nil where that cannot be seen.
func usage(t *testing.T, p *harness.Process) map[string]int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return nil
	}
	dir := filepath.Join("/proc", strconv.Itoa(p.PID()))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	must(t, err)
	files, err := os.ReadDir(filepath.Join(dir, "fd"))
	must(t, err)
	all := map[string]int{"files": len(files)}
	for line := range strings.Lines(string(status)) {
		words := strings.Fields(line)
		for key, as := range map[string]string{"VmRSS:": "kB", "Threads:": "threads"} {
			if words[0] == key {
				all[as], err = strconv.Atoi(words[1])
				must(t, err)
			}
		}
	}
	return all
}

// TestDNSAgentRestarts kills an agent whose services have checks. It comes back with every check critical, and says so
// until they have run: an instance that accepts is answered all the while.
func TestDNSAgentRestarts(t *testing.T) {
	t.Parallel()
	p := newDNSPair(t, harness.ConsulConfig{}, "")
	port, err := p.env.Port()
	must(t, err)
	startApp(t, "web-1", port, "tcp", nil)
	web := &consulapi.AgentServiceRegistration{
		ID: "web-1", Name: "web", Address: "127.0.0.1", Port: port,
		Check: &consulapi.AgentServiceCheck{TCP: local(port), Interval: "5s", Timeout: "1s"},
	}
	must(t, p.consul.RegisterService(t.Context(), web, ""))
	must(t, p.consul.WaitHealthy(t.Context(), "web", 1))
	process := p.start(t)
	soon(t, "web to be known", func(ctx context.Context) error { return has(ctx, p, "web", 1) })
	asking := askAlways(t, p.ours, "web.service.consul. A", "NOERROR; web.service.consul. 0 IN A 127.0.0.1")
	must(t, p.consul.Kill())
	pause(t, time.Second)
	must(t, p.consul.Start(t.Context()))
	must(t, p.consul.WaitHealthy(t.Context(), "web", 1))
	p.register(t, inst("alpha", "new", "new", "10.4.0.1", 80, ""))
	must(t, harness.Until(t.Context(), "a change after the outage", func(ctx context.Context) error { return has(ctx, p, "new", 1) }))
	asking.end(t)
	t.Logf("held: %v", logHas(process, "keeping them"))
}

// TestDNSTwoDatacenters asks each of two joined datacenters for the services of the other.
func TestDNSTwoDatacenters(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	wan, err := env.Ports(2)
	must(t, err)
	here := newDNSPairIn(t, env, harness.ConsulConfig{Name: "dc1-server", NoACL: true}, fmt.Sprintf("ports { serf_wan = %d }", wan))
	there := newDNSPairIn(t, env, harness.ConsulConfig{Name: "dc2-server", NoACL: true}, fmt.Sprintf(
		"datacenter = \"dc2\"\nports { serf_wan = %d }\nretry_join_wan = [%q]\nretry_interval_wan = \"1s\"", wan+1, local(wan)))
	far := inst("alpha", "far1", "far", "10.7.0.1", 80, "passing", "v1")
	there.register(t, node("alpha", "10.1.9.9", map[string]string{"in": "dc2"}), far, inst("alpha", "far2", "far", "", 81, "critical"))
	here.register(t, node("alpha", "10.1.0.1", nil), inst("alpha", "near", "near", "10.6.0.1", 80, "passing"))
	must(t, harness.Until(t.Context(), "the datacenters to see each other", func(ctx context.Context) error {
		found, _, err := here.consul.API.Health().Service("far", "", true, (&consulapi.QueryOptions{Datacenter: "dc2"}).WithContext(ctx))
		if err == nil && len(found) == 0 {
			err = errors.New("no instance of far is seen")
		}
		return err
	}))
	here.start(t)
	used := map[string]bool{}
	for _, name := range []string{
		"far.service.dc2.consul.", "FAR.service.DC2.consul.", "v1.far.service.dc2.consul.", "_far._tcp.service.dc2.dc.consul.", "near.service.dc2.consul.",
		"near.service.dc1.consul.", "far.service.consul.", "alpha.node.dc2.consul.", "alpha.node.dc1.consul.", "far.service.dc3.consul.",
	} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			q := digger{name: name, qtype: qtype, edns: 1232}
			soon(t, "the same answer to "+q.String(), func(ctx context.Context) error { return compareDNS(ctx, here, q, used) })
		}
	}
	// The other datacenter is gone: what was seen of it stays.
	must(t, there.consul.Kill())
	q := digger{name: "far.service.dc2.consul.", qtype: dns.TypeA}
	for range 20 {
		m, err := q.dig(t.Context(), here.ours)
		must(t, err)
		if len(m.Answer) != 1 {
			t.Fatalf("%s", m)
		}
		pause(t, 50*time.Millisecond)
	}
}
