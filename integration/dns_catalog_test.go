package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

// dnsPair is a real Consul and our DNS beside it, with the same rights and the same resolver for names of the rest of
// the world.
type dnsPair struct {
	env    *harness.Env
	consul *harness.Consul
	ours   string // host:port
	abroad string // host:port of the resolver
	token  string
}

// dnsRules is all that the DNS interface needs, and Consul's own too.
const dnsRules = `
	service_prefix "" { policy = "read" }
	node_prefix    "" { policy = "read" }
	agent_prefix   "" { policy = "read" }`

// newDNSPair starts both; hcl is added to Consul's configuration. The catalog is empty.
func newDNSPair(t *testing.T, config harness.ConsulConfig, hcl string) *dnsPair {
	t.Helper()
	return newDNSPairIn(t, harness.ForTest(t), config, hcl)
}

func newDNSPairIn(t *testing.T, env *harness.Env, config harness.ConsulConfig, hcl string) *dnsPair {
	t.Helper()
	p := &dnsPair{env: env}
	p.abroad = startAbroad(t, p.env)
	config.HCL = fmt.Sprintf("recursors = [%q]\n%s", p.abroad, hcl)
	var err error
	p.consul, err = p.env.Consul(t.Context(), config)
	must(t, err)
	p.token, err = p.consul.PolicyToken(t.Context(), "dns", dnsRules)
	must(t, err)
	if p.token != "" {
		_, err = p.consul.API.Agent().UpdateDefaultACLToken(p.token, nil)
		must(t, err)
	}
	return p
}

// start starts our DNS, and waits until it knows what Consul knows.
func (p *dnsPair) start(t *testing.T) *harness.Process {
	t.Helper()
	port, err := p.env.Port()
	must(t, err)
	p.ours = local(port)
	file := filepath.Join(t.TempDir(), "dns.hcl")
	must(t, os.WriteFile(file, fmt.Appendf(nil, `
dns {
  listener "all" { address = %q }
  resolvers = [%q]
  udp_size  = 4096
}`, p.ours, p.abroad), 0o600))
	process, err := p.env.Serai([]string{"dns", "-config", file}, p.consul.Environ(p.token)...)
	must(t, err)
	soon(t, "our DNS to know Consul's servers", func(ctx context.Context) error {
		m, err := digger{name: "consul.service.consul.", qtype: dns.TypeA}.dig(ctx, p.ours)
		if err != nil {
			return err
		}
		if len(m.Answer) == 0 {
			return fmt.Errorf("it says %s", m)
		}
		return nil
	})
	return process
}

// soon waits for what needs no more than to hear of a change, and notes what does not come.
func soon(t *testing.T, what string, condition func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience/2)
	defer cancel()
	var last error // not that of a try which the end cut off
	err := harness.Until(ctx, what, func(ctx context.Context) error {
		err := condition(ctx)
		if last == nil || !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
			last = err
		}
		return err
	})
	if err != nil {
		t.Errorf("%s: %v", what, last)
	}
}

// register writes into the catalog, as an external service monitor would.
func (p *dnsPair) register(t *testing.T, all ...*consulapi.CatalogRegistration) {
	t.Helper()
	for _, one := range all {
		_, err := p.consul.API.Catalog().Register(one, nil)
		must(t, err)
	}
}

// inst is an instance of a service; health is that of its one check, "" for none.
func inst(node, id, service, address string, port int, health string, tags ...string) *consulapi.CatalogRegistration {
	addresses := map[string]string{"alpha": "10.1.0.1", "beta": "10.1.0.2", "gamma": "host.example.net", "delta": "2001:db8::5", "Dotted.node": "10.1.0.77"}
	r := &consulapi.CatalogRegistration{
		Node: node, Address: addresses[node], SkipNodeUpdate: true,
		Service: &consulapi.AgentService{ID: id, Service: service, Address: address, Port: port, Tags: tags, Weights: consulapi.AgentWeights{Passing: 1, Warning: 1}},
	}
	if health != "" {
		r.Check = &consulapi.AgentCheck{Node: node, CheckID: "check-" + id, ServiceID: id, Status: health}
	}
	return r
}

// node is a node with metadata.
func node(name, address string, meta map[string]string) *consulapi.CatalogRegistration {
	return &consulapi.CatalogRegistration{Node: name, Address: address, NodeMeta: meta}
}

// everyKind has an example of each thing that Consul's DNS treats in its own way.
func everyKind() []*consulapi.CatalogRegistration {
	all := []*consulapi.CatalogRegistration{
		node("alpha", "10.1.0.1", map[string]string{"rack": "r1", "rfc1035-note": "plain=text"}),
		node("beta", "10.1.0.2", map[string]string{"a=b": "c=d`e", " edge ": " kept "}),
		node("gamma", "host.example.net", map[string]string{"g": "yes"}),
		node("delta", "2001:db8::5", map[string]string{"six": "yes"}),
		node("Dotted.node", "10.1.0.77", nil),

		inst("alpha", "web1", "web", "", 8080, "passing", "v1", "Primary"),
		inst("beta", "web2", "web", "10.2.0.2", 8081, "warning", "v2"),
		inst("beta", "web3", "web", "10.2.0.3", 8082, "critical", "v3"),
		inst("beta", "dead", "dead", "", 1, "critical"),
		inst("alpha", "ext", "ext", "db.example.com", 5432, ""),
		inst("gamma", "onhost", "onhost", "", 99, ""),
		inst("delta", "six1", "six", "", 66, ""),
		inst("beta", "six2", "six", "2001:db8::7", 67, ""),
		inst("alpha", "both1", "both", "10.9.0.1", 1, ""),
		inst("alpha", "both2", "both", "2001:db8::9", 1, ""),
		inst("alpha", "mixed1", "mixed", "10.9.0.1", 1, ""),
		inst("alpha", "mixed2", "mixed", "db.example.com", 1, ""),
		inst("alpha", "inner", "inner", "web.service.consul", 7, ""),
		inst("alpha", "innernode", "innernode", "dotted.node.node.consul", 7, ""),
		inst("alpha", "nowhere", "nowhere", "none.service.consul", 7, ""),
		inst("alpha", "itself", "itself", "itself.service.consul", 7, ""),
		inst("alpha", "noport", "noport", "", 0, ""),
		inst("alpha", "dup1", "dup", "", 1, ""),
		inst("alpha", "dup2", "dup", "", 2, ""),
		inst("alpha", "dotted", "dotted.name", "", 2, "", "a.b"),
		inst("alpha", "under", "under_score", "10.9.0.1", 1, ""),
		inst("alpha", "same", "samehost", "10.1.0.1", 1, ""),
		inst("alpha", "mapped", "mapped", "::ffff:10.1.0.9", 1, ""),
		inst("alpha", "upper", "Upper", "10.9.0.7", 1, "", "tcp"),
		inst("Dotted.node", "ondotted", "ondotted", "", 1, ""),
		inst("alpha", "light", "weighty", "10.8.0.1", 1, "passing"),
		inst("alpha", "heavy", "weighty", "10.8.0.2", 1, "warning"),
	}
	sock := inst("alpha", "sock", "sock", "", 0, "")
	sock.Service.SocketPath = "/run/sock"
	all[len(all)-1].Service.Weights = consulapi.AgentWeights{Passing: 7, Warning: 3}
	all[len(all)-2].Service.Weights = consulapi.AgentWeights{Passing: 65535, Warning: 3}
	return append(all, sock)
}

// manyInstances are n instances of one service, at addresses of their own on one node.
func manyInstances(n int) []*consulapi.CatalogRegistration {
	var all []*consulapi.CatalogRegistration
	for i := range n {
		id := "many" + strconv.Itoa(i)
		all = append(all, inst("alpha", id, "many", fmt.Sprintf("10.3.0.%d", i+1), 9000+i, ""))
	}
	return all
}

// digger is a question and how it is asked.
type digger struct {
	name  string
	qtype uint16
	tcp   bool
	edns  uint16 // size, 0 for no EDNS
}

func (d digger) String() string {
	words := []string{d.name, dns.TypeToString[d.qtype], "udp"}
	if d.tcp {
		words[2] = "tcp"
	}
	if d.edns > 0 {
		words = append(words, fmt.Sprint("edns ", d.edns))
	}
	return strings.Join(words, " ")
}

func (d digger) dig(ctx context.Context, server string) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(d.name, d.qtype)
	if d.edns > 0 {
		m.SetEdns0(d.edns, false)
	}
	client := &dns.Client{Timeout: 5 * time.Second, UDPSize: dns.MaxMsgSize} // more than it asks for, to see what comes
	if d.tcp {
		client.Net = "tcp"
	}
	reply, _, err := client.ExchangeContext(ctx, m, server)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", d, err)
	}
	return reply, nil
}

// startAbroad starts a resolver for the rest of the world, by UDP and TCP: example.com and example.net have addresses,
// and nothing else exists.
func startAbroad(t *testing.T, env *harness.Env) string {
	t.Helper()
	port, err := env.Port()
	must(t, err)
	listener := listenAt(t, port)
	packets := packetsAt(t, port)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.RecursionAvailable = true
		name := strings.ToLower(q.Question[0].Name)
		known := slices.Contains([]string{"db.example.com.", "host.example.net."}, name)
		header := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: 60, Rrtype: q.Question[0].Qtype}
		switch {
		case !known:
			m.Rcode = dns.RcodeNameError
		case header.Rrtype == dns.TypeA:
			m.Answer = append(m.Answer, &dns.A{Hdr: header, A: net.IPv4(192, 0, 2, 7)})
		case header.Rrtype == dns.TypeAAAA:
			m.Answer = append(m.Answer, abroadAAAA(q.Question[0].Name))
		}
		_ = w.WriteMsg(m) // who has gone does not want it
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: listener, Handler: handler}} {
		done := make(chan error, 1)
		go func() { done <- server.ActivateAndServe() }()
		t.Cleanup(func() {
			_ = server.Shutdown()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	return local(port)
}

// abroadAAAA is the record that the resolver for the rest of the world has.
func abroadAAAA(name string) dns.RR {
	header := dns.RR_Header{Name: name, Class: dns.ClassINET, Ttl: 60, Rrtype: dns.TypeAAAA}
	return &dns.AAAA{Hdr: header, AAAA: net.ParseIP("2001:db8:ffff::7")}
}
