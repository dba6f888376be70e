package headermeta_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/filter/headermeta"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

const clientCert = "x-forwarded-client-cert"

// spiffeRules are the five that Consul has on each public HTTP listener.
func spiffeRules() *mesh.HeaderToMetadata {
	f := &mesh.HeaderToMetadata{}
	for i, key := range []string{"trust-domain", "partition", "namespace", "datacenter", "service"} {
		f.Request = append(f.Request, mesh.MetadataRule{Header: clientCert, Present: &mesh.MetadataValue{
			Namespace: "consul", Key: key,
			Rewrite: &mesh.RegexRewrite{
				Pattern:      `.*URI=spiffe://([^/]+.[^/]+)(?:/ap/([^/]+))?/ns/([^/]+)/dc/([^/]+)/svc/([^/;,]+).*`,
				Substitution: fmt.Sprintf(`\%d`, i+1),
			},
		}})
	}
	return f
}

// forwarded is the field of a caller, as long as with its certificates.
func forwarded(service string) string {
	return `Hash=ab;Cert="` + strings.Repeat("x", 3000) + `";URI=spiffe://td.consul/ns/default/dc/dc1/svc/` + service
}

func TestReadings(t *testing.T) {
	t.Parallel()
	filter, err := headermeta.New(spiffeRules())
	if err != nil {
		t.Fatal(err)
	}
	service := filter.Layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return &wire.Response{Status: 200}, nil
	}))
	ask := func(text string) map[string]any {
		x, req := &wire.Exchange{}, &wire.Request{Method: "GET"}
		x.Reset(nil, &wire.Peer{}, time.Time{})
		req.Header.Add(clientCert, text)
		if _, err := service.Serve(x, req); err != nil {
			t.Error(err)
		}
		return x.Metadata.Namespace("consul")
	}
	var asking sync.WaitGroup
	for n := range 8 {
		asking.Go(func() {
			for i := range 200 {
				name := fmt.Sprintf("svc-%d", (n+i)%40) // more than are remembered
				want := map[string]any{"trust-domain": "td.consul", "namespace": "default", "datacenter": "dc1", "service": name}
				if diff := cmp.Diff(want, ask(forwarded(name))); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
	asking.Wait()
	if got := ask("By=nobody"); got["service"] != "By=nobody" || got["partition"] != "By=nobody" {
		t.Errorf("a text that the expression does not find is %v", got)
	}
	// The buffer of a head is another's next time.
	buffer := []byte(forwarded("here"))
	for _, name := range []string{"here", "gone"} {
		copy(buffer[len(buffer)-len(name):], name)
		if got := ask(grammar.View(buffer)); got["service"] != name {
			t.Errorf("%v, want %s", got, name)
		}
	}
	long := forwarded("far") + ";Chain=" + strings.Repeat("y", 9000)
	if got := ask(long); got["service"] != "far" {
		t.Errorf("a field too long to be remembered: %v", got["service"])
	}
}

func BenchmarkReadings(b *testing.B) {
	filter, err := headermeta.New(spiffeRules())
	if err != nil {
		b.Fatal(err)
	}
	service := filter.Layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return nil, nil //nolint:nilnil // nobody looks
	}))
	x, req := &wire.Exchange{}, &wire.Request{Method: "GET"}
	req.Header.Add(clientCert, forwarded("web"))
	peer := &wire.Peer{}
	b.ReportAllocs()
	for b.Loop() {
		x.Reset(nil, peer, time.Time{})
		service.Serve(x, req) //nolint:errcheck // it never fails
	}
}

// A caller whose field is known costs nothing but to look it up.
func TestReadingAllocates(t *testing.T) {
	filter, err := headermeta.New(spiffeRules())
	if err != nil {
		t.Fatal(err)
	}
	service := filter.Layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return nil, nil //nolint:nilnil // nobody looks
	}))
	x, req := &wire.Exchange{}, &wire.Request{Method: "GET"}
	req.Header.Add(clientCert, forwarded("web"))
	peer := &wire.Peer{}
	if n := testing.AllocsPerRun(100, func() {
		x.Reset(nil, peer, time.Time{})
		service.Serve(x, req) //nolint:errcheck // it never fails
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
