package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

// dnsDrain is how long queries at work may take when our DNS is stopped.
const dnsDrain = 4 * time.Second

// meshDNS is a DNS interface of ours in a world, and a resolver behind it.
type meshDNS struct {
	process  *harness.Process
	file     string // configuration
	all, web string // listeners: of everybody, and of web
	resolver *lastResort
}

// resolve starts our DNS and waits until it is there.
func (w *world) resolve(t *testing.T) *meshDNS {
	t.Helper()
	return w.resolveAs(t, w.resolverToken(t))
}

// resolverToken may do what the DNS interface needs.
func (w *world) resolverToken(t *testing.T) string {
	t.Helper()
	token, err := w.consul.PolicyToken(t.Context(), "mesh-dns", `
		service_prefix "" { policy = "read" }
		node_prefix    "" { policy = "read" }
		agent_prefix   "" { policy = "read" }`)
	must(t, err)
	return token
}

func (w *world) resolveAs(t *testing.T, token string) *meshDNS {
	t.Helper()
	port := w.ports(t, 2)
	d := &meshDNS{
		all: local(port), web: local(port + 1), resolver: startLastResort(t),
		file: filepath.Join(t.TempDir(), "dns.hcl"),
	}
	d.configure(t, "")
	var err error
	d.process, err = w.env.Serai([]string{"dns", "-config", d.file}, w.consul.Environ(token)...)
	must(t, err)
	d.says(t, d.web, "mesh. SOA", "NOERROR")
	return d
}

// configure writes the configuration, with more in the block dns.
func (d *meshDNS) configure(t *testing.T, more string) {
	t.Helper()
	must(t, os.WriteFile(d.file, fmt.Appendf(nil, `
dns {
  listener "all" { address = %q }
  listener "web" {
    address  = %q
    workload = "web"
  }
  resolvers = [%q]
  %s
}`, d.all, d.web, d.resolver.address, more), 0o600))
}

// says waits until a question, such as "api.mesh. SRV", is answered by one line
// that has all of the texts, by UDP and TCP.
func (d *meshDNS) says(t *testing.T, server, question string, texts ...string) {
	t.Helper()
	d.saysFrom(t, "", server, question, texts...)
}

// saysFrom asks from a source address.
func (d *meshDNS) saysFrom(t *testing.T, source, server, question string, texts ...string) {
	t.Helper()
	for _, network := range []string{"udp", "tcp"} {
		eventually(t, question+" by "+network+" to say "+strings.Join(texts, ", "), func(ctx context.Context) error {
			got, err := askDNS(ctx, network, source, server, question)
			if err != nil {
				return err
			}
			for _, text := range texts {
				if !strings.Contains(got, text) {
					return fmt.Errorf("it says %s", got)
				}
			}
			return nil
		})
	}
}

// askDNS returns rcode, answers, additional records and reasons in one line.
func askDNS(ctx context.Context, network, source, server, question string) (string, error) {
	name, qtype, _ := strings.Cut(question, " ")
	client := dns.Client{Net: network, Timeout: 3 * time.Second}
	if source != "" {
		client.Dialer = &net.Dialer{Timeout: client.Timeout, LocalAddr: &net.UDPAddr{IP: net.ParseIP(source)}}
		if network == "tcp" {
			client.Dialer.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
		}
	}
	q := new(dns.Msg).SetQuestion(name, dns.StringToType[qtype]).SetEdns0(1232, false)
	m, _, err := client.ExchangeContext(ctx, q, server)
	if err != nil {
		return "", fmt.Errorf("ask %s by %s: %w", server, network, err)
	}
	parts := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range slices.Concat(m.Answer, m.Extra) {
		if opt, ok := rr.(*dns.OPT); ok {
			for _, option := range opt.Option {
				parts = append(parts, fmt.Sprintf("[%d %s]", option.Option(), option))
			}
			continue
		}
		parts = append(parts, strings.Join(strings.Fields(rr.String()), " "))
	}
	return strings.Join(parts, "; "), nil
}

// lastResort is the resolver for the rest of the world. It knows 192.0.2.9 for
// every name, and remembers what it was asked.
type lastResort struct {
	address string
	mu      sync.Mutex // guards:
	asked   []string
}

func startLastResort(t *testing.T) *lastResort {
	t.Helper()
	packets, err := net.ListenPacket("udp", "127.0.0.1:0")
	must(t, err)
	r := &lastResort{address: packets.LocalAddr().String()}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		r.mu.Lock()
		r.asked = append(r.asked, q.Question[0].Name)
		r.mu.Unlock()
		m := new(dns.Msg).SetReply(q)
		m.Answer = []dns.RR{&dns.A{
			Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 5}, A: net.IPv4(192, 0, 2, 9),
		}}
		_ = w.WriteMsg(m) // who has gone does not want it
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.ActivateAndServe() // what it was asked is what counts
	}()
	t.Cleanup(func() {
		_ = server.Shutdown()
		<-done
	})
	return r
}

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
	gone(t, third)
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

// gone waits until nobody listens at an address.
func gone(t *testing.T, address string) {
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

// always asks one question again and again, by UDP and TCP in turn.
type always struct {
	question string
	stop     context.CancelFunc
	done     chan struct{}

	// owned by the goroutine until done:
	asked int
	wrong []string
}

// askAlways expects that every answer begins with want.
func askAlways(t *testing.T, server, question, want string) *always {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	a := &always{question: question, stop: stop, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		for ctx.Err() == nil {
			network := []string{"udp", "tcp"}[a.asked%2]
			got, err := askDNS(ctx, network, "", server, question)
			if ctx.Err() != nil {
				return
			}
			a.asked++
			if err != nil {
				got = err.Error()
			}
			if !strings.HasPrefix(got, want) && len(a.wrong) < 100 {
				a.wrong = append(a.wrong, got)
			}
			select {
			case <-time.After(20 * time.Millisecond):
			case <-ctx.Done():
			}
		}
	}()
	t.Cleanup(func() { stop(); <-a.done })
	return a
}

// end stops asking. Wrong answers must begin with one of the texts.
func (a *always) end(t *testing.T, texts ...string) {
	t.Helper()
	a.stop()
	<-a.done
	t.Logf("%s: %d answers", a.question, a.asked)
	if a.asked == 0 {
		t.Errorf("%s was never asked", a.question)
	}
	for _, got := range a.wrong {
		if !slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(got, text) }) {
			t.Errorf("%s: %s", a.question, got)
		}
	}
}
