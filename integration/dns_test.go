package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	consulapi "github.com/hashicorp/consul/api"
)

// TestDNSMesh asks for names of the mesh as several workloads, while intentions
// change.
func TestDNSMesh(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http"})
	w.run(t, "api-1", "api")
	web := w.run(t, "web-1", "web", "api", "secret")
	lone := w.registration(w.register(t, "lone-1", "lone", "api"))
	lone.Connect.SidecarService.Address = "127.0.0.2"
	must(t, w.consul.RegisterService(t.Context(), lone, w.token(t, "lone")))
	d := w.resolve(t)
	at := fmt.Sprintf(" SRV 1 1 %d api.mesh.", web.upstreams["api"])

	d.says(t, d.web, "api.mesh. A", "NXDOMAIN", "[15 18 (Prohibited): (web may not call api: no intention")
	w.allow(t, "web", "api")
	d.says(t, d.web, "api.mesh. A", "NOERROR; api.mesh. 0 IN A 127.0.0.1")
	d.says(t, d.web, "_api._tcp.mesh. SRV", "NOERROR", at, "; api.mesh. 0 IN A 127.0.0.1")
	d.says(t, d.web, "api.dc1.mesh. A", "NOERROR; api.dc1.mesh. 0 IN A 127.0.0.1")
	// Where it says, api is.
	waitStatus(t, web.url("api", "/"), 200)

	// L7 permissions allow some requests; the sidecar decides on each.
	must(t, w.consul.Intention(t.Context(), "web", "api", false, &consulapi.IntentionPermission{
		Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/allowed"},
	}))
	d.says(t, d.web, "api.mesh. SRV", "NOERROR", at)
	must(t, w.consul.Intention(t.Context(), "web", "api", false))
	d.says(t, d.web, "api.mesh. SRV", "NXDOMAIN", "[15 18 (Prohibited): (web may not call api: the intention web -> api denies")
	// A wildcard is weaker than that, and counts where nothing else does.
	must(t, w.consul.Intention(t.Context(), "web", "*", true))
	d.says(t, d.web, "nothing.mesh. A", "NXDOMAIN", "the sidecar of web has no upstream nothing: add to its definition upstreams")
	d.says(t, d.web, "api.mesh. A", "NXDOMAIN", "the intention web -> api denies")
	must(t, w.consul.RemoveIntention(t.Context(), "web", "api"))
	d.says(t, d.web, "api.mesh. A", "NOERROR; api.mesh. 0 IN A 127.0.0.1")

	// Who asks is found by the address: lone has one of its own, the others share.
	d.saysFrom(t, "127.0.0.2", d.all, "api.mesh. A", "NXDOMAIN", "lone may not call api")
	d.saysFrom(t, "127.0.0.3", d.all, "api.mesh. A", "NXDOMAIN", "it is not certain who asks from 127.0.0.3, it can be api or web")
	w.allow(t, "lone", "api")
	d.saysFrom(t, "127.0.0.2", d.all, "api.mesh. A", "NOERROR; api.mesh. 0 IN A 127.0.0.1")
	d.says(t, d.all, "api.mesh. A", "NXDOMAIN", "it is not certain who asks from 127.0.0.1, it can be api or web")

	// A sidecar's definition that changes is seen.
	lone.Connect.SidecarService.Proxy.Upstreams = []consulapi.Upstream{{DestinationName: "api", LocalBindSocketPath: "/run/api.sock"}}
	must(t, w.consul.RegisterService(t.Context(), lone, w.token(t, "lone")))
	d.saysFrom(t, "127.0.0.2", d.all, "api.mesh. A", "NOERROR; [15 0 (Other): (the sidecar of lone listens for api at the socket /run/api.sock")
	must(t, w.consul.DeregisterService(t.Context(), "lone-1-sidecar-proxy"))
	d.saysFrom(t, "127.0.0.2", d.all, "api.mesh. A", "NXDOMAIN")

	d.says(t, d.web, "www.example.com. A", "NOERROR; www.example.com. 5 IN A 192.0.2.9")
	must(t, d.process.Signal(syscall.SIGTERM))
	exits(t, d.process, dnsDrain)
	d.resolver.mu.Lock()
	defer d.resolver.mu.Unlock()
	if i := slices.IndexFunc(d.resolver.asked, func(name string) bool { return strings.HasSuffix(name, "mesh.") }); i >= 0 {
		t.Errorf("%s was forwarded", d.resolver.asked[i])
	}
}

// TestDNSReload reads the configuration again, right and wrong, while queries
// go on.
func TestDNSReload(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.register(t, "web-1", "web", "api")
	w.allow(t, "web", "api")
	d := w.resolve(t)
	d.says(t, d.web, "api.mesh. A", "NOERROR; api.mesh.")
	asking := askAlways(t, d.web, "api.mesh. A", "NOERROR; api.mesh.")

	corp := startLastResort(t)
	third := local(w.ports(t, 1))
	d.configure(t, fmt.Sprintf(`
  listener "third" { address = %q }
  forward "corp.example" { resolvers = [%q] }`, third, corp.address))
	must(t, d.process.Signal(syscall.SIGHUP))
	d.says(t, third, "x.corp.example. A", "NOERROR; x.corp.example. 5 IN A 192.0.2.9")
	// Other configurations, again and again: the listener that stays never fails.
	for i := range 100 {
		d.configure(t, fmt.Sprintf("ttl = \"%ds\"", i+1))
		must(t, d.process.Signal(syscall.SIGHUP))
		d.says(t, d.web, "api.mesh. A", fmt.Sprintf("NOERROR; api.mesh. %d IN A 127.0.0.1", i+1))
	}
	notBound(t, third)
	d.configure(t, `mesh = "consul"`)
	must(t, d.process.Signal(syscall.SIGHUP))
	eventually(t, "the mistake to be told", func(context.Context) error {
		if !logHas(d.process, "domain and mesh are both") {
			return errors.New("it is not")
		}
		return nil
	})
	d.says(t, d.web, "api.mesh. A", "NOERROR; api.mesh. 100 IN A 127.0.0.1")
	asking.end(t)
	corp.mu.Lock()
	defer corp.mu.Unlock()
	if len(corp.asked) == 0 {
		t.Error("the resolver of corp.example was not asked")
	}
}

// notBound waits until nobody listens at an address.
func notBound(t *testing.T, address string) {
	t.Helper()
	eventually(t, "the listener at "+address+" to go", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil //nolint:nilerr // that nobody is there is what is waited for
		}
		drop(conn)
		return errors.New("it is there")
	})
}

// TestDNSOutage takes Consul away: what was known is still answered, and on its
// return changes are seen again.
func TestDNSOutage(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.register(t, "web-1", "web", "api", "secret")
	w.allow(t, "web", "api")
	d := w.resolve(t)
	d.says(t, d.web, "api.mesh. A", "NOERROR; api.mesh. 0 IN A 127.0.0.1")
	d.says(t, d.web, "secret.mesh. A", "NXDOMAIN", "(Prohibited)")
	asking := []*always{
		askAlways(t, d.web, "api.mesh. A", "NOERROR; api.mesh. 0 IN A 127.0.0.1"),
		askAlways(t, d.web, "secret.mesh. A", "NXDOMAIN; [15 18 (Prohibited)"),
		askAlways(t, d.web, "consul.service.consul. A", "NOERROR; consul.service.consul."),
		askAlways(t, d.all, "www.example.com. A", "NOERROR; www.example.com."),
	}
	must(t, w.consul.Kill())
	d.says(t, d.web, "api.mesh. A", "NOERROR", "(Stale Answer): (consul has not answered since ")
	pause(t, outage)
	must(t, w.consul.Start(t.Context()))
	w.allow(t, "web", "secret")
	d.says(t, d.web, "api.mesh. A", "NOERROR")
	asking[1].end(t, "NOERROR; secret.mesh.")
	d.says(t, d.web, "secret.mesh. A", "NOERROR; secret.mesh. 0 IN A 127.0.0.1")
	for _, one := range slices.Delete(asking, 1, 2) {
		one.end(t)
	}
}

// TestDNSBeforeConsul starts without Consul: the rest of the world is answered
// at once, and nothing of the mesh is taken for a no.
func TestDNSBeforeConsul(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	w.register(t, "web-1", "web", "api")
	w.allow(t, "web", "api")
	token := w.resolverToken(t)
	must(t, w.consul.Kill())
	d := w.resolveAs(t, token)
	d.says(t, d.all, "www.example.com. A", "NOERROR; www.example.com. 5 IN A 192.0.2.9")
	d.says(t, d.web, "api.mesh. A", "SERVFAIL", "(Not Ready): (the mesh is not known yet")
	d.says(t, d.web, "web.service.consul. A", "SERVFAIL")
	must(t, w.consul.Start(t.Context()))
	d.says(t, d.web, "api.mesh. A", "NOERROR; api.mesh. 0 IN A 127.0.0.1")
}
