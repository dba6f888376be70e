package upstream_test

import (
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
)

// BenchmarkUnused is what a sidecar holds for upstreams that nobody calls, by cluster with its ten endpoints. What the
// control plane has said of them is not in it.
func BenchmarkUnused(b *testing.B) {
	const many = 1000
	leaf := selfSigned(b)
	roots := mesh.Roots{PEM: leaf.CertificatePEM}
	definitions, endpoints := map[string]*mesh.Cluster{}, make([]*mesh.EndpointSet, many)
	for i := range many {
		name := fmt.Sprintf("service-%d.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul", i)
		definitions[name] = &mesh.Cluster{
			Name: name, ConnectTimeout: 5 * time.Second, Outlier: mesh.DefaultOutlier(),
			TLS: &mesh.UpstreamTLS{Leaf: leaf, Roots: roots, ServerName: name, URIs: []string{"spiffe://x.consul/ns/default/dc/dc1/svc/" + name}},
		}
		all := make([]mesh.Endpoint, 10)
		for n := range all {
			all[n] = mesh.Endpoint{Weight: 1, Address: mesh.Address{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i / 100), byte(i%100*2 + n/5)}), uint16(20000+n))}}
		}
		endpoints[i] = set(name, all...)
	}
	for b.Loop() {
		before := held()
		s := upstream.NewSet(slog.New(slog.DiscardHandler))
		commit, err := s.Prepare(definitions)
		if err != nil {
			b.Fatal(err)
		}
		commit()
		for _, e := range endpoints {
			s.SetEndpoints(e)
		}
		b.ReportMetric(float64(held()-before)/many, "B/cluster")
		runtime.KeepAlive(s)
	}
	runtime.KeepAlive(definitions)
	runtime.KeepAlive(endpoints)
}

// held is what the heap holds, in bytes.
func held() int64 {
	runtime.GC()
	runtime.GC()
	var now runtime.MemStats
	runtime.ReadMemStats(&now)
	return int64(now.HeapAlloc)
}
