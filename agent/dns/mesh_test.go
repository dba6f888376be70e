package dns_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/dns"
)

const meshSOA = "authority mesh. 1 IN SOA ns.mesh. hostmaster.mesh. 0 3600 600 86400 1\n"

func TestMesh(t *testing.T) {
	const web, shared, twins, clear, nobody, loopback = "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.9.9.9", "127.0.0.1"
	for _, row := range []struct {
		about, source, workload, name string
		qtype                         uint16
		want                          string
	}{
		{"an address", web, "", "api.mesh.", mdns.TypeA, "NOERROR aa\nanswer api.mesh. 0 IN A 127.0.0.1\n"},
		{"the case of the question stays", web, "", "aPi.MESH.", mdns.TypeA, "NOERROR aa\nanswer aPi.MESH. 0 IN A 127.0.0.1\n"},
		{"no address of the other family", web, "", "api.mesh.", mdns.TypeAAAA, "NOERROR aa\n" + meshSOA},
		{"IPv6", web, "", "six.mesh.", mdns.TypeAAAA, "NOERROR aa\nanswer six.mesh. 0 IN AAAA ::1\n"},
		{"no IPv4", web, "", "six.mesh.", mdns.TypeA, "NOERROR aa\n" + meshSOA},
		{"another type", web, "", "api.mesh.", mdns.TypeMX, "NOERROR aa\n" + meshSOA},
		{"the port", web, "", "api.mesh.", mdns.TypeSRV, "NOERROR aa\nanswer api.mesh. 0 IN SRV 1 1 9001 api.mesh.\nextra api.mesh. 0 IN A 127.0.0.1\n"},
		{"RFC 2782", web, "", "_api._tcp.mesh.", mdns.TypeSRV, "NOERROR aa\nanswer _api._tcp.mesh. 0 IN SRV 1 1 9001 api.mesh.\nextra api.mesh. 0 IN A 127.0.0.1\n"},
		{"RFC 2782 has no address", web, "", "_api._tcp.mesh.", mdns.TypeA, "NOERROR aa\n" + meshSOA},
		{"all", web, "", "six.mesh.", mdns.TypeANY, "NOERROR aa\nanswer six.mesh. 0 IN AAAA ::1\nanswer six.mesh. 0 IN SRV 1 1 9002 six.mesh.\n"},
		{"a listener at every address", web, "", "any.mesh.", mdns.TypeA, "NOERROR aa\nanswer any.mesh. 0 IN A 127.0.0.1\n"},
		{"another datacenter", web, "", "api.dc2.mesh.", mdns.TypeSRV, "NOERROR aa\nanswer api.dc2.mesh. 0 IN SRV 1 1 9005 api.dc2.mesh.\nextra api.dc2.mesh. 0 IN A 127.0.0.2\n"},
		{"RFC 2782 in another datacenter", web, "", "_api._tcp.dc2.mesh.", mdns.TypeSRV, "NOERROR aa\nanswer _api._tcp.dc2.mesh. 0 IN SRV 1 1 9005 api.dc2.mesh.\nextra api.dc2.mesh. 0 IN A 127.0.0.2\n"},
		{"the own datacenter", web, "", "api.dc1.mesh.", mdns.TypeA, "NOERROR aa\nanswer api.dc1.mesh. 0 IN A 127.0.0.1\n"},
		{"a datacenter without an upstream", web, "", "api.dc3.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 0 the sidecar of web has no upstream api in dc3: add to its definition upstreams { destination_name = \"api\" local_bind_port = ... }\n"},
		{"a socket", web, "", "sock.mesh.", mdns.TypeA, "NOERROR aa\n" + meshSOA + "why 0 the sidecar of web listens for sock at the socket /run/sock, which has no IP address\n"},
		{"no intention", web, "", "hidden.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA + "why 18 web may not call hidden: no intention allows web -> hidden\n"},
		{"no upstream", web, "", "none.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 0 the sidecar of web has no upstream none: add to its definition upstreams { destination_name = \"none\" local_bind_port = ... }\n"},
		{"an upstream at a peer", web, "", "peered.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 0 the sidecar of web has no upstream peered: add to its definition upstreams { destination_name = \"peered\" local_bind_port = ... }\n"},
		{"a transparent proxy", clear, "", "api.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 0 the sidecar of clear is a transparent proxy and has no upstream api: call api.virtual.consul, or add an upstream\n"},
		{"nobody", nobody, "", "api.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 18 no sidecar is registered at your address 10.9.9.9: ask from a workload's, or at a listener with workload = NAME\n"},
		{"not certain who", shared, "", "api.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 18 it is not certain who asks from 10.0.0.2, it can be shared-a or shared-b: ask at a listener that says it, by workload = NAME\n"},
		{"loopback of another node", loopback, "", "api.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA +
			"why 18 no sidecar is registered at your address 127.0.0.1: ask from a workload's, or at a listener with workload = NAME\n"},
		{"a listener of web", nobody, "web", "api.mesh.", mdns.TypeA, "NOERROR aa\nanswer api.mesh. 0 IN A 127.0.0.1\n"},
		{"a listener of a sidecar", nobody, "twin-2-sidecar-proxy", "api.mesh.", mdns.TypeSRV, "NOERROR aa\nanswer api.mesh. 0 IN SRV 1 1 9102 api.mesh.\nextra api.mesh. 0 IN A 127.0.0.1\n"},
		{"a listener of nobody", web, "gone", "api.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA + "why 18 this listener answers gone, and Consul has no sidecar of that service or ID\n"},
		{"twins agree on the address", twins, "", "api.mesh.", mdns.TypeA, "NOERROR aa\nanswer api.mesh. 0 IN A 127.0.0.1\n"},
		{"twins agree on the port", twins, "", "same.mesh.", mdns.TypeSRV, "NOERROR aa\nanswer same.mesh. 0 IN SRV 1 1 9300 same.mesh.\nextra same.mesh. 0 IN A 127.0.0.1\n"},
		{"twins do not agree on the port", twins, "", "api.mesh.", mdns.TypeSRV, "NXDOMAIN aa\n" + meshSOA +
			"why 0 2 sidecars of twin are here and listen for api at different places: ask at a listener with workload = \"PROXY-ID\"\n"},
		{"the zone", web, "", "mesh.", mdns.TypeSOA, "NOERROR aa\nanswer mesh. 1 IN SOA ns.mesh. hostmaster.mesh. 0 3600 600 86400 1\n"},
		{"the zone has no address", nobody, "", "mesh.", mdns.TypeA, "NOERROR aa\n" + meshSOA},
		{"the zone's servers", nobody, "", "mesh.", mdns.TypeNS, "NOERROR aa\nanswer mesh. 0 IN NS ns.mesh.\n"},
		{"too deep", web, "", "a.b.c.mesh.", mdns.TypeA, "NXDOMAIN aa\n" + meshSOA + "why 0 names here are NAME.mesh, NAME.DATACENTER.mesh and _NAME._tcp.mesh\n"},
		{"between _NAME and the zone", web, "", "_tcp.mesh.", mdns.TypeA, "NOERROR aa\n" + meshSOA + "why 0 there are names below this one, but it has no records\n"},
		{"a datacenter", web, "", "dc2.mesh.", mdns.TypeA, "NOERROR aa\n" + meshSOA + "why 0 there are names below this one, but it has no records\n"},
		{"a name that only ends like the zone", web, "", "apimesh.", mdns.TypeA, "REFUSED\nwhy 20 this is no name of the mesh or of Consul, and nothing else is answered here\n"},
		{"an escaped dot", web, "", `api\.mesh.`, mdns.TypeA, "REFUSED\nwhy 20 this is no name of the mesh or of Consul, and nothing else is answered here\n"},
	} {
		t.Run(row.about, func(t *testing.T) {
			s := newServer(t, newMemory())
			got := lines(ask(t, s, query(row.name, row.qtype), row.source, row.workload, true))
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("%s %s from %s:\n%s", row.name, mdns.TypeToString[row.qtype], row.source, diff)
			}
		})
	}
}

// What is not known is never taken for a no, nor for a yes.
func TestMeshNotKnown(t *testing.T) {
	for _, row := range []struct {
		about, source string
		change        func(m *memory)
		want          string
	}{
		{"intentions", "10.0.0.1", func(m *memory) { m.unknown = true }, "SERVFAIL aa\nwhy 14 the intentions of web are not known: consul does not answer\n"},
		{"who asks", "10.9.9.9", func(m *memory) { m.ready = errNotSeen }, "SERVFAIL aa\nwhy 14 the mesh is not known yet: services were not seen yet\n"},
		{"our node", "127.0.0.1", func(m *memory) { m.settings = catalog.Settings{}; m.ready = errNotSeen }, "SERVFAIL aa\nwhy 14 the mesh is not known yet: services were not seen yet\n"},
		{
			"whether Consul has changed", "10.0.0.1", func(m *memory) { m.stale = time.Unix(1700000000, 0) },
			"NOERROR aa\nanswer api.mesh. 0 IN A 127.0.0.1\nwhy 3 consul has not answered since 2023-11-14T22:13:20Z\n",
		},
	} {
		m := newMemory()
		row.change(m)
		s := newServer(t, m)
		if diff := cmp.Diff(row.want, lines(ask(t, s, query("api.mesh.", mdns.TypeA), row.source, "", true))); diff != "" {
			t.Errorf("%s is not known:\n%s", row.about, diff)
		}
	}
}

// From loopback, what is registered at the node's own address asks; what other
// nodes have at the same address never does.
func TestMeshFromOurNode(t *testing.T) {
	m := newMemory()
	m.workloads = append(m.workloads, workload("web", "here", m.node, up("api", "127.0.0.1", 9401)))
	s := newServer(t, m)
	const want = "NOERROR aa\nanswer api.mesh. 0 IN SRV 1 1 9401 api.mesh.\nextra api.mesh. 0 IN A 127.0.0.1\n"
	if diff := cmp.Diff(want, lines(ask(t, s, query("api.mesh.", mdns.TypeSRV), "127.0.0.1", "", true))); diff != "" {
		t.Error(diff)
	}
	m.change(func(m *memory) {
		m.workloads = append(m.workloads, workload("web", "there", "10.0.0.1", up("api", "127.0.0.3", 1)))
	})
	const near = "NOERROR aa\nanswer api.mesh. 0 IN A 127.0.0.1\n"
	if diff := cmp.Diff(near, lines(ask(t, s, query("api.mesh.", mdns.TypeA), "10.0.0.1", "", true))); diff != "" {
		t.Error(diff)
	}
}

func TestMeshNameAndTTL(t *testing.T) {
	s := newServer(t, newMemory(), func(c *dns.Config) { c.Mesh, c.TTL = "Internal.Example", 7*time.Second })
	const want = "NOERROR aa\nanswer api.internal.example. 7 IN A 127.0.0.1\n"
	if diff := cmp.Diff(want, lines(ask(t, s, query("api.internal.example.", mdns.TypeA), "10.0.0.1", "", true))); diff != "" {
		t.Error(diff)
	}
}
