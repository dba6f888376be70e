package integration_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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
	client := dns.Client{Net: network, Timeout: 10 * time.Second}
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
