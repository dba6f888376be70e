package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

// nameServer is a DNS in the test's hand, by UDP and TCP.
type nameServer struct {
	port int

	mu    sync.Mutex // guards:
	hosts map[string]string
	asked map[string]int // by network and name
}

func startNameServer(t *testing.T, networks ...string) *nameServer {
	t.Helper()
	s := &nameServer{hosts: map[string]string{}, asked: map[string]int{}}
	var err error
	s.port, err = harness.ForTest(t).Port()
	must(t, err)
	for _, network := range networks {
		server := &dns.Server{Net: network, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) { s.answer(network, w, q) })}
		if network == "tcp" {
			server.Listener = listenAt(t, s.port)
		} else {
			server.PacketConn = packetsAt(t, s.port)
		}
		go func() { _ = server.ActivateAndServe() }()
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return s
}

func (s *nameServer) set(host, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hosts[host] = address
}

func (s *nameServer) count(network, host string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[network+" "+host]
}

// answer says what is set, for a second. A name of which nothing is, gets no answer.
func (s *nameServer) answer(network string, w dns.ResponseWriter, q *dns.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := q.Question[0].Name
	s.asked[network+" "+name]++
	address, known := s.hosts[name]
	if !known {
		return
	}
	reply := (&dns.Msg{}).SetReply(q)
	if q.Question[0].Qtype == dns.TypeA {
		reply.Answer = append(reply.Answer, &dns.A{Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(address)})
	}
	_ = w.WriteMsg(reply)
}

// sameNamePort serves an app each at 127.0.0.1 and 127.0.0.2 at one port, which answer with their address.
func sameNamePort(t *testing.T) int {
	t.Helper()
	port := 0
	for _, address := range []string{"127.0.0.1", "127.0.0.2"} {
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
		must(t, err)
		port = listener.Addr().(*net.TCPAddr).Port //nolint:errcheck,forcetypeassert // it is one
		server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, address) })}
		go func() { _ = server.Serve(listener) }()
		t.Cleanup(func() { drop(server) })
	}
	return port
}

// TestDNSClustersAsEnvoy looks names up as clusters say, in both of their forms.
func TestDNSClustersAsEnvoy(t *testing.T) {
	t.Parallel()
	app := sameNamePort(t)
	both, stream := startNameServer(t, "udp", "tcp"), startNameServer(t, "tcp")
	for _, name := range []string{"ttl.test.", "fixed.test.", "typed.test.", "list.test.", "logical.test."} {
		both.set(name, "127.0.0.1")
	}
	stream.set("tcp.test.", "127.0.0.1")
	resolver := func(port int, more string) string {
		return fmt.Sprintf(`"typedDnsResolverConfig":{"name":"envoy.network.dns_resolver.cares","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
			"resolvers":[{"socketAddress":{"address":"127.0.0.1","portValue":%d}}]%s}}`, port, comma(more))
	}
	typed := func(more string) string {
		return `"clusterType":{"name":"envoy.clusters.dns","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster","dnsLookupFamily":"V4_ONLY",` + more + `}}`
	}
	udp := resolver(both.port, `"dnsResolverOptions":{"noDefaultSearchDomain":true}`)
	all := map[string]string{
		"ttl":     `"type":"STRICT_DNS","dnsLookupFamily":"V4_ONLY","dnsRefreshRate":"600s","respectDnsTtl":true,"dnsJitter":"0.5s",` + udp,
		"fixed":   `"type":"STRICT_DNS","dnsLookupFamily":"V4_ONLY","dnsRefreshRate":"600s",` + udp,
		"typed":   typed(`"dnsRefreshRate":"600s","respectDnsTtl":true,` + udp),
		"logical": typed(`"allAddressesInSingleEndpoint":true,"dnsRefreshRate":"1s",` + udp),
		"tcp":     `"type":"STRICT_DNS","dnsLookupFamily":"V4_ONLY","dnsRefreshRate":"600s","respectDnsTtl":true,` + resolver(stream.port, `"dnsResolverOptions":{"useTcpForDnsLookups":true}`),
		"list": fmt.Sprintf(`"type":"STRICT_DNS","dnsLookupFamily":"V4_ONLY","dnsRefreshRate":"600s","respectDnsTtl":true,"dnsResolutionConfig":{"resolvers":[{"socketAddress":{"address":"127.0.0.1","portValue":%d}}]}`,
			both.port),
		"silent": `"type":"STRICT_DNS","dnsLookupFamily":"V4_ONLY","waitForWarmOnInit":false,"connectTimeout":"600s",` + udp,
	}
	names := []string{"ttl", "fixed", "typed", "logical", "tcp", "list", "silent"}
	twins := staticTwins(t, harness.ForTest(t), len(names), func(ports []int) (clusters, listeners []json.RawMessage) {
		for i, name := range names {
			clusters = append(clusters, json.RawMessage(fmt.Sprintf(`{"name":%q,%s,"loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"%s.test","portValue":%d}}}}]}]}}`,
				name, all[name], name, name, app)))
			listeners = append(listeners, json.RawMessage(chainSpec{cluster: name}.listener(name, ports[i])))
		}
		return clusters, listeners
	})
	says := func(port int, want string) func(context.Context) error {
		return func(ctx context.Context) error {
			got, err := fetch(ctx, strict(t), "http://"+local(port)+"/")
			if err == nil && got.body != want {
				err = fmt.Errorf("%d %s", got.status, got.body)
			}
			return err
		}
	}
	for kind, twin := range twins {
		for i, name := range names {
			if name != "silent" {
				eventually(t, name+" by "+kind, says(twin.ports[i], "127.0.0.1"))
				continue
			}
			got := get(t, "http://"+local(twin.ports[i])+"/") // at once: the route has no more time than 15 s
			if got.status != http.StatusServiceUnavailable || !strings.HasPrefix(got.body, "no healthy upstream") {
				t.Errorf("%s without an answer of DNS: %d %s", kind, got.status, got.body)
			}
		}
	}
	for _, name := range names {
		if name != "silent" {
			both.set(name+".test.", "127.0.0.2")
		}
	}
	stream.set("tcp.test.", "127.0.0.2")
	for kind, twin := range twins {
		for i, name := range names {
			switch name {
			case "silent":
			case "logical": // whose connections outlive the address that they were made to
				eventually(t, "another look", func(context.Context) error {
					if both.count("udp", "logical.test.") <= len(twins) {
						return fmt.Errorf("none yet")
					}
					return nil
				})
			case "fixed":
				must(t, says(twin.ports[i], "127.0.0.1")(t.Context()))
			default:
				eventually(t, name+" by "+kind+" after a change", says(twin.ports[i], "127.0.0.2"))
			}
		}
	}
	if n := both.count("udp", "fixed.test."); n != len(twins) {
		t.Errorf("a name that holds for ten minutes was asked for %d times", n)
	}
	if both.count("tcp", "ttl.test.") != 0 || stream.count("tcp", "tcp.test.") == 0 {
		t.Error("the wrong protocol was asked by")
	}
}
