package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/mesh"
)

const nodes = `[
 {"Node":"ours","Address":"10.0.0.1","TaggedAddresses":{"wan":"192.0.2.1"},"Locality":{"Region":"r","Zone":"a"},"Meta":{"zone":"not this"}},
 {"Node":"meta","Address":"10.0.0.2","Meta":{"zone":"b","region":"r"}},
 {"Node":"none","Address":"10.0.0.3"},
 {"Node":"shared","Address":"10.0.0.4","Meta":{"zone":"a"}},
 {"Node":"sharer","Address":"10.0.0.4","TaggedAddresses":{"wan":"192.0.2.4"},"Meta":{"zone":"b"}},
 {"Node":"named","Address":"a.example","Meta":{"zone":"b"}}]`

func TestPlaces(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/agent/self":
			fmt.Fprint(w, `{"Config":{"NodeName":"ours"}}`)
		case "/v1/catalog/nodes":
			if r.URL.Query().Get("index") == "7" {
				<-r.Context().Done() // nothing changes
				return
			}
			w.Header().Set("X-Consul-Index", "7")
			fmt.Fprint(w, nodes)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	client, err := api.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	places := map[netip.Addr]mesh.Place{
		netip.MustParseAddr("10.0.0.1"): {Region: "r", Zone: "a"}, netip.MustParseAddr("192.0.2.1"): {Region: "r", Zone: "a"},
		netip.MustParseAddr("10.0.0.2"): {Region: "r", Zone: "b"}, netip.MustParseAddr("10.0.0.3"): {}, netip.MustParseAddr("10.0.0.4"): {},
		netip.MustParseAddr("192.0.2.4"): {Zone: "b"},
	}
	for _, tt := range []struct {
		node string
		own  mesh.Place
		want mesh.Place
	}{
		{"", mesh.Place{}, mesh.Place{Region: "r", Zone: "a"}},
		{"meta", mesh.Place{}, mesh.Place{Region: "r", Zone: "b"}},
		{"meta", mesh.Place{Zone: "given"}, mesh.Place{Zone: "given"}},
		{"nobody", mesh.Place{}, mesh.Place{}},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		taken, done := make(chan *mesh.Map, 1), make(chan error, 1)
		go func() {
			done <- catalog.NewPlaces(client, tt.node, tt.own, func(m *mesh.Map) { taken <- m }, slog.New(slog.DiscardHandler)).Run(ctx)
		}()
		if diff := cmp.Diff(&mesh.Map{Own: tt.want, Places: places}, <-taken, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("node %q: -want +got:\n%s", tt.node, diff)
		}
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}
