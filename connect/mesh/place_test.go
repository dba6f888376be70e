package mesh_test

import (
	"net/netip"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
)

func TestDistance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b mesh.Place
		want uint8
	}{
		{mesh.Place{Region: "r", Zone: "a"}, mesh.Place{Region: "r", Zone: "a"}, 0},
		{mesh.Place{Region: "r", Zone: "a"}, mesh.Place{Region: "r", Zone: "b"}, 1},
		{mesh.Place{Region: "r", Zone: "a"}, mesh.Place{Region: "s", Zone: "a"}, 2},
		{mesh.Place{Region: "r"}, mesh.Place{Region: "r"}, 1},
		{mesh.Place{Zone: "a"}, mesh.Place{Zone: "a"}, 0},
		{mesh.Place{Zone: "a"}, mesh.Place{Zone: "b"}, 2},
		{mesh.Place{}, mesh.Place{}, 2},
		{mesh.Place{Region: "r", Zone: "a"}, mesh.Place{}, 2},
	} {
		if got := tt.a.Distance(tt.b); got != tt.want {
			t.Errorf("from %+v to %+v: %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
	here := mesh.Address{AddrPort: netip.MustParseAddrPort("[::ffff:10.0.0.1]:80")}
	m := &mesh.Map{Own: mesh.Place{Zone: "a"}, Places: map[netip.Addr]mesh.Place{netip.MustParseAddr("10.0.0.1"): {Zone: "a"}}}
	if got := m.Distance(here); got != 0 {
		t.Errorf("a mapped address: %d", got)
	}
	for _, m := range []*mesh.Map{nil, {Places: m.Places}} {
		if got := m.Distance(here); got != 2 {
			t.Errorf("without a place of our own: %d", got)
		}
	}
	if got := m.Distance(mesh.Address{Socket: "/x"}); got != 2 {
		t.Errorf("a unix socket: %d", got)
	}
}
