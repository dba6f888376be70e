package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// patience bounds what must happen at some time, where no requirement says when. Consul's agent misses one now and then of
// many changes at a time, such as that a check passes, and looks again only after up to half a minute.
const patience = time.Minute

// nomadKill is how long Nomad waits after its signal.
const nomadKill = 5 * time.Second

// world is what most tests stand in: a Consul, services with sidecars, and edges. All are real, and each has a token
// that may do no more than it needs.
//
//	client ── gate (serai edge) ══ mTLS ══ instance.sidecar (serai connect) ── instance.app
//	                                              ╚══ upstream of another instance.sidecar ── ...
type world struct {
	env    *harness.Env
	consul *harness.Consul

	interval  string            // of health checks
	protocols map[string]string // of services, as the world has set them
	tokens    map[string]string // of services
}

// instance is an instance of a service: what the test itself serves, and the proxy in front.
type instance struct {
	id, service string
	app         *app
	public      int            // port of the sidecar's public listener
	admin       int            // port of the sidecar's admin
	upstreams   map[string]int // local ports by service
	sidecar     *harness.Process
}

// newWorld starts a Consul with ACLs; protocols are those of the services which are not tcp.
func newWorld(t *testing.T, protocols map[string]string) *world {
	t.Helper()
	return newWorldWith(t, harness.ConsulConfig{}, protocols)
}

// newWorldWith is newWorld for another Consul than usual.
func newWorldWith(t *testing.T, config harness.ConsulConfig, protocols map[string]string) *world {
	t.Helper()
	w := &world{env: harness.ForTest(t), interval: "1s", protocols: protocols, tokens: map[string]string{}}
	var err error
	w.consul, err = w.env.Consul(t.Context(), config)
	must(t, err)
	for service, protocol := range protocols {
		must(t, w.consul.Protocol(t.Context(), service, protocol))
	}
	return w
}

// token is the token of a service and of its sidecars.
func (w *world) token(t *testing.T, service string) string {
	t.Helper()
	if w.tokens[service] == "" {
		token, err := w.consul.ServiceToken(t.Context(), service)
		must(t, err)
		w.tokens[service] = token
	}
	return w.tokens[service]
}

// allow allows a source to call destinations.
func (w *world) allow(t *testing.T, source string, destinations ...string) {
	t.Helper()
	for _, destination := range destinations {
		must(t, w.consul.Intention(t.Context(), source, destination, true))
	}
}

// run starts an instance with a sidecar of ours in front.
func (w *world) run(t *testing.T, id, service string, upstreams ...string) *instance {
	t.Helper()
	i := w.register(t, id, service, upstreams...)
	w.connect(t, i)
	return i
}

// register starts an instance and registers it, and a sidecar that does not run yet.
func (w *world) register(t *testing.T, id, service string, upstreams ...string) *instance {
	t.Helper()
	return w.registerAs(t, id, service, func(*consulapi.AgentServiceRegistration) {}, upstreams...)
}

// registerAs is register for what is not like the others; edit changes the registration.
func (w *world) registerAs(t *testing.T, id, service string, edit func(*consulapi.AgentServiceRegistration), upstreams ...string) *instance {
	t.Helper()
	port := w.ports(t, 3+len(upstreams))
	i := &instance{id: id, service: service, public: port + 1, admin: port + 2, upstreams: map[string]int{}}
	for n, upstream := range upstreams {
		i.upstreams[upstream] = port + 3 + n
	}
	i.app = startApp(t, id, port, w.protocols[service], i.upstreams)
	registration := w.registration(i)
	edit(registration)
	must(t, w.consul.RegisterService(t.Context(), registration, w.token(t, service)))
	return i
}

// connect starts our sidecar of an instance.
func (w *world) connect(t *testing.T, i *instance) {
	t.Helper()
	var err error
	i.sidecar, err = w.env.Serai([]string{"connect", "-sidecar-for", i.id, "-admin-bind", local(i.admin)},
		w.consul.Environ(w.token(t, i.service))...)
	must(t, err)
}

// registration is an instance as a Nomad job would register it.
func (w *world) registration(i *instance) *consulapi.AgentServiceRegistration {
	sidecar := &consulapi.AgentServiceRegistration{
		Port:    i.public,
		Address: "127.0.0.1",
		Proxy:   &consulapi.AgentServiceConnectProxyConfig{},
		Checks: consulapi.AgentServiceChecks{
			{Name: "Connect Sidecar Listening", TCP: local(i.public), Interval: w.interval, Timeout: "1s"},
			{Name: "Connect Sidecar Aliasing " + i.id, AliasService: i.id},
		},
	}
	for service, port := range i.upstreams {
		sidecar.Proxy.Upstreams = append(sidecar.Proxy.Upstreams,
			consulapi.Upstream{DestinationName: service, LocalBindPort: port})
	}
	return &consulapi.AgentServiceRegistration{
		ID: i.id, Name: i.service, Address: "127.0.0.1", Port: i.app.port,
		Check:   &consulapi.AgentServiceCheck{TCP: local(i.app.port), Interval: w.interval, Timeout: "1s"},
		Connect: &consulapi.AgentServiceConnect{SidecarService: sidecar},
	}
}

// url is a path at the local listener of one of the instance's upstreams, as the instance itself would ask it.
func (i *instance) url(upstream, path string) string {
	return "http://" + local(i.upstreams[upstream]) + path
}

// stop stops an instance's sidecar as Nomad stops an allocation: it takes both services out of Consul, waits for
// shutdown_delay and signals. It returns how the process ended.
func (w *world) stop(t *testing.T, i *instance, delay time.Duration, sig os.Signal) {
	t.Helper()
	must(t, w.consul.DeregisterService(t.Context(), i.id+"-sidecar-proxy"))
	must(t, w.consul.DeregisterService(t.Context(), i.id))
	pause(t, delay)
	must(t, i.sidecar.Signal(sig))
	exits(t, i.sidecar, nomadKill)
}

// exits waits until a process ends by itself, with status 0.
func exits(t *testing.T, p *harness.Process, limit time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	if err := p.Wait(ctx); err != nil {
		t.Errorf("%s should have ended with status 0 within %v: %v", p.Name, limit, err)
		return
	}
	t.Logf("%s ended %v after the signal", p.Name, time.Since(start).Round(time.Millisecond))
}

// waitOK waits until a URL answers 200, with acme's key.
func (w *world) waitOK(t *testing.T, urls ...string) {
	t.Helper()
	for _, url := range urls {
		waitStatus(t, url, http.StatusOK)
	}
}

// waitStatus waits until a URL answers with a status.
func waitStatus(t *testing.T, url string, status int) {
	t.Helper()
	waitStatusWithin(t, url, status, patience)
}

func waitStatusWithin(t *testing.T, url string, status int, limit time.Duration) {
	t.Helper()
	client := strict(t)
	within(t, limit, fmt.Sprintf("status %d of %s", status, url), func(ctx context.Context) error {
		got, err := fetch(ctx, client, url)
		if err != nil {
			return err
		}
		if got.status != status {
			return fmt.Errorf("status %d: %s", got.status, got.body)
		}
		return nil
	})
}

// eventually waits for f to succeed.
func eventually(t *testing.T, what string, f func(context.Context) error) {
	t.Helper()
	within(t, patience, what, f)
}

// within waits for f to succeed within a time.
func within(t *testing.T, limit time.Duration, what string, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), limit, fmt.Errorf("not within %v", limit))
	defer cancel()
	var last error // before time was up, which cuts off what f is at
	must(t, harness.Until(ctx, what, func(ctx context.Context) error {
		err := f(ctx)
		if err != nil && ctx.Err() != nil && last != nil {
			return last
		}
		last = err
		return err
	}))
}

// sidecarReady waits until the admin interface of an instance's sidecar says that it is ready.
func sidecarReady(t *testing.T, i *instance) { t.Helper(); sidecarReadyWithin(t, i, patience) }

func sidecarReadyWithin(t *testing.T, i *instance, limit time.Duration) {
	t.Helper()
	waitStatusWithin(t, i.ready(), http.StatusOK, limit)
}

// ready is where the admin interface of an instance's sidecar says whether it is ready.
func (i *instance) ready() string { return "http://" + local(i.admin) + "/ready" }

func (w *world) ports(t *testing.T, n int) int {
	t.Helper()
	first, err := w.env.Ports(n)
	must(t, err)
	return first
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// listenAt listens at a port that the harness has given, by TCP. It tries again for a while: a process that is being
// started at this very moment holds what we had opened until it runs its own program.
func listenAt(t *testing.T, port int) net.Listener {
	t.Helper()
	var listener net.Listener
	eventually(t, "port "+strconv.Itoa(port), func(ctx context.Context) (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", local(port))
		return err
	})
	return listener
}

// packetsAt is listenAt by UDP.
func packetsAt(t *testing.T, port int) net.PacketConn {
	t.Helper()
	var packets net.PacketConn
	eventually(t, "UDP port "+strconv.Itoa(port), func(ctx context.Context) (err error) {
		packets, err = (&net.ListenConfig{}).ListenPacket(ctx, "udp", local(port))
		return err
	})
	return packets
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pause lets time pass, where that is the matter of the test.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(context.Cause(t.Context()))
	}
}

// logHas tells whether a process has written one of the texts.
func logHas(p *harness.Process, texts ...string) bool {
	log := p.Log()
	return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(log, text) })
}

// drop closes what a test no longer needs.
func drop(c io.Closer) { _ = c.Close() }
