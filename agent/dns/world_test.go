package dns_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/dns"
)

// memory is a catalog that the test writes itself.
type memory struct {
	mu        sync.Mutex // guards:
	workloads []catalog.Workload
	allowed   map[string]bool // "web -> api"
	unknown   bool            // intentions
	ready     error
	settings  catalog.Settings
	stale     time.Time
	node      string // address of our own
	instances map[string][]catalog.Instance
}

func (m *memory) change(f func(m *memory)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m)
}

func (m *memory) where(match func(w catalog.Workload) bool) []catalog.Workload {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.workloads), func(w catalog.Workload) bool { return !match(w) })
}

func (m *memory) Workloads(address netip.Addr) []catalog.Workload {
	return m.where(func(w catalog.Workload) bool { return w.Address == address })
}

func (m *memory) Workload(name string) []catalog.Workload {
	if byID := m.where(func(w catalog.Workload) bool { return w.ProxyID == name }); len(byID) > 0 {
		return byID
	}
	return m.where(func(w catalog.Workload) bool { return w.Service == name })
}

func (m *memory) Decide(_ context.Context, source, destination string) catalog.Decision {
	m.mu.Lock()
	defer m.mu.Unlock()
	pair := source + " -> " + destination
	switch {
	case m.unknown:
		return catalog.Decision{Reason: "consul does not answer"}
	case m.allowed[pair]:
		return catalog.Decision{Known: true, Allowed: true, Reason: "the intention " + pair + " allows"}
	default:
		return catalog.Decision{Known: true, Reason: "no intention allows " + pair}
	}
}

func (m *memory) Instances(_ context.Context, service, datacenter string) ([]catalog.Instance, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if datacenter != "" && datacenter != m.settings.Datacenter {
		return nil, catalog.ErrNoDatacenter
	}
	if found := m.instances[service]; found != nil {
		return found, nil
	}
	return nil, catalog.ErrNoService
}

func (m *memory) Node(_ context.Context, name, _ string) (*catalog.Node, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if name != m.settings.Node || m.node == "" {
		return nil, catalog.ErrNoNode
	}
	return &catalog.Node{Name: name, Datacenter: m.settings.Datacenter, Address: m.node}, nil
}

func (m *memory) Datacenter(_ context.Context, name string) error {
	if name != "" && name != m.Settings().Datacenter {
		return catalog.ErrNoDatacenter
	}
	return nil
}

func (m *memory) Ready() error { m.mu.Lock(); defer m.mu.Unlock(); return m.ready }

func (m *memory) Settings() catalog.Settings { m.mu.Lock(); defer m.mu.Unlock(); return m.settings }

func (m *memory) Stale() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return m.stale }

var errNotSeen = errors.New("services were not seen yet")

// newMemory has web at 10.0.0.1, whose sidecar has upstreams of all kinds, and
// api and web's twin beside it at other addresses.
func newMemory() *memory {
	return &memory{
		settings: catalog.Settings{Datacenter: "dc1", Node: "here"},
		node:     "192.168.7.7",
		allowed:  map[string]bool{"web -> api": true, "web -> six": true, "web -> sock": true, "web -> none": true, "web -> any": true, "web -> peered": true, "twin -> api": true, "twin -> same": true, "clear -> api": true},
		workloads: []catalog.Workload{
			workload("web", "here", "10.0.0.1", up("api", "127.0.0.1", 9001), up("six", "::1", 9002), up("any", "0.0.0.0", 9003),
				up("hidden", "127.0.0.1", 9004), catalog.LocalUpstream{Destination: "sock", Socket: "/run/sock"},
				catalog.LocalUpstream{Destination: "api", Datacenter: "dc2", Address: netip.MustParseAddr("127.0.0.2"), Port: 9005},
				catalog.LocalUpstream{Destination: "peered", Peer: "other", Address: netip.MustParseAddr("127.0.0.1"), Port: 9006}),
			workload("shared-a", "here", "10.0.0.2"),
			workload("shared-b", "here", "10.0.0.2"),
			workload("twin", "here", "10.0.0.3", up("api", "127.0.0.1", 9101), up("same", "127.0.0.1", 9300)),
			twin(workload("twin", "here", "10.0.0.3", up("api", "127.0.0.1", 9102), up("same", "127.0.0.1", 9300))),
			workload("far", "there", "127.0.0.1", up("api", "127.0.0.1", 9201)),
			{Service: "clear", Node: "here", ProxyID: "clear-sidecar-proxy", Address: netip.MustParseAddr("10.0.0.4"), Transparent: true},
		},
	}
}

func twin(w catalog.Workload) catalog.Workload {
	w.ProxyID = w.Service + "-2-sidecar-proxy"
	return w
}

func workload(service, node, address string, upstreams ...catalog.LocalUpstream) catalog.Workload {
	return catalog.Workload{
		Service: service, ServiceID: service, Node: node, ProxyID: service + "-sidecar-proxy",
		Address: netip.MustParseAddr(address), Upstreams: upstreams,
	}
}

func up(destination, address string, port int) catalog.LocalUpstream {
	return catalog.LocalUpstream{Destination: destination, Address: netip.MustParseAddr(address), Port: port}
}

// newServer makes a server that asks nobody else, unless change says so.
func newServer(tb testing.TB, m *memory, change ...func(c *dns.Config)) *dns.Server {
	tb.Helper()
	no := false
	c := dns.Config{
		Listeners: []dns.Listener{{Name: "all", Address: netip.MustParseAddrPort("127.0.0.1:0")}},
		Recursion: &no,
	}
	for _, f := range change {
		f(&c)
	}
	s, err := dns.New(c, dns.Deps{Catalog: m, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// run runs a server until the test ends, and returns where it listens.
func run(tb testing.TB, s *dns.Server) map[string]netip.AddrPort {
	tb.Helper()
	ctx, stop := context.WithCancel(tb.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	tb.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			tb.Error(err)
		}
	})
	waitFor(tb, "the server to listen", func() bool { return len(s.Addresses()) > 0 })
	return s.Addresses()
}

// waitFor waits for a condition.
func waitFor(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	for end := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(end) {
			tb.Fatalf("waited in vain for %s", what)
		}
		select {
		case <-time.After(time.Millisecond):
		case <-tb.Context().Done():
			tb.Fatal(tb.Context().Err())
		}
	}
}

// query is a question with EDNS of 1232 bytes.
func query(name string, qtype uint16) *mdns.Msg {
	m := new(mdns.Msg).SetQuestion(name, qtype)
	return m.SetEdns0(1232, false)
}

// ask asks without sockets, as a client at an address.
func ask(tb testing.TB, s *dns.Server, m *mdns.Msg, source, workload string, udp bool) *mdns.Msg {
	tb.Helper()
	packet, err := m.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	answer := s.Handle(tb.Context(), packet, netip.MustParseAddr(source), workload, udp, nil)
	if answer == nil {
		tb.Fatalf("no answer to %v", m)
	}
	got := &mdns.Msg{}
	if err := got.Unpack(answer); err != nil {
		tb.Fatal(err)
	}
	return got
}

// lines tells a response in lines, without what is always so, and without the
// serial of an SOA, which is time.
func lines(m *mdns.Msg) string {
	var b strings.Builder
	b.WriteString(mdns.RcodeToString[m.Rcode])
	for _, flag := range []struct {
		name string
		set  bool
	}{{"aa", m.Authoritative}, {"tc", m.Truncated}, {"ra", m.RecursionAvailable}, {"ad", m.AuthenticatedData}} {
		if flag.set {
			b.WriteString(" " + flag.name)
		}
	}
	b.WriteString("\n")
	for _, section := range []struct {
		name string
		all  []mdns.RR
	}{{"answer", m.Answer}, {"authority", m.Ns}, {"extra", m.Extra}} {
		for _, rr := range section.all {
			switch one := rr.(type) {
			case *mdns.OPT:
				for _, option := range one.Option {
					if ede, ok := option.(*mdns.EDNS0_EDE); ok {
						fmt.Fprintf(&b, "why %d %s\n", ede.InfoCode, ede.ExtraText)
					}
				}
				continue
			case *mdns.SOA:
				one.Serial = 0
			}
			fmt.Fprintf(&b, "%s %s\n", section.name, strings.Join(strings.Fields(rr.String()), " "))
		}
	}
	return b.String()
}
