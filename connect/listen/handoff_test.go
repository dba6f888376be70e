package listen_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire/proxyproto"
)

// handingOff are a listener that hands off what its header says, and the one without a
// socket that gets it and looks at the first bytes, too.
func handingOff(h listen.Handler) (from, to *listen.Spec) {
	from = behind(&listen.ProxyHeader{}, chain(&echo{}))
	from.HandOff = true
	to = specAt(mesh.Address{AddrPort: netip.MustParseAddrPort(called)}, chain(h))
	to.Unbound, to.Inspect.TLS = true, true
	return from, to
}

// A shutdown waits for a connection that is handed from one listener to the other
// meanwhile, in whatever order it looks at them.
func TestShutdownHandOff(t *testing.T) {
	t.Parallel()
	for range 10 {
		h := &echo{}
		from, to := handingOff(h)
		s := newSet(t, listen.Config{}, from, to)
		address := stats(t, s, from.Name).Address
		conn := dial(t, address)
		eventually(t, "accepted", func() bool { return stats(t, s, from.Name).Pending == 1 })
		killed := startShutdown(t.Context(), s, 0)
		eventually(t, "the socket closes", func() bool { return refuses(address) })
		send(t, conn, headerOf(proxyproto.V2))
		eventually(t, "handed off", func() bool { return stats(t, s, from.Name).Pending == 0 && stats(t, s, to.Name).Pending == 1 })
		mustTalk(t, conn)
		mustGoOn(t, killed)
		conn.Close()
		mustKill(t, killed, 0)
	}
}

// What was accepted is not handed to a listener that goes: whoever has a connection
// ends it.
func TestHandOffToOneThatGoes(t *testing.T) {
	t.Parallel()
	for range 20 {
		h := &echo{polite: true}
		from, to := handingOff(h)
		s := newSet(t, listen.Config{ChainDrain: 1}, from, to)
		address := stats(t, s, from.Name).Address
		var conns []net.Conn
		for range 8 {
			conn := dial(t, address)
			conns = append(conns, conn)
			send(t, conn, headerOf(proxyproto.V2))
		}
		commit(t, s, from)
		commit(t, s)
		for _, conn := range conns {
			mustBeClosed(t, conn)
		}
	}
}

// A flooded listener leaves places to others, and all together have no more than there
// are.
func TestHandshakesAreShared(t *testing.T) {
	t.Parallel()
	const most = 12
	one, two, quiet := behind(&listen.ProxyHeader{}, chain(&echo{})), behind(&listen.ProxyHeader{}, chain(&echo{})), behind(&listen.ProxyHeader{}, chain(&echo{}))
	for i, spec := range []*listen.Spec{one, two, quiet} {
		spec.Address.AddrPort = netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(i + 1)}), 0)
		spec.Name = spec.Address.String()
	}
	s := newSet(t, listen.Config{MaxHandshakes: most}, one, two, quiet)
	flood := func(name string, places int64) {
		t.Helper()
		for range most {
			dial(t, stats(t, s, name).Address)
		}
		eventually(t, fmt.Sprintf("%s has %d of %d places", name, places, most), func() bool {
			got := stats(t, s, name)
			return got.Pending == places && got.Overflow == most-places
		})
	}
	flood(one.Name, most/2)
	flood(two.Name, 3) // it leaves as many
	conn := dial(t, stats(t, s, quiet.Name).Address)
	send(t, conn, headerOf(proxyproto.V2))
	mustTalk(t, conn)
	conn.Close()
	eventually(t, "its place is free", func() bool { return stats(t, s, quiet.Name).Destroyed == 1 })
	flood(quiet.Name, 2) // and one is left
}

// Connections that are handed off count for the limit of who gets them.
func TestHandOffOverTheLimit(t *testing.T) {
	t.Parallel()
	from, to := handingOff(&echo{})
	to.Inspect.TLS = false
	s := newSet(t, listen.Config{MaxConnections: 2}, from, to)
	var conns []net.Conn
	for range 3 {
		conn := dial(t, stats(t, s, from.Name).Address)
		send(t, conn, headerOf(proxyproto.V2))
		conns = append(conns, conn)
		eventually(t, "it has come", func() bool { got := stats(t, s, to.Name); return got.Active+got.Overflow == int64(len(conns)) })
	}
	mustTalk(t, conns[0])
	mustTalk(t, conns[1])
	mustBeClosed(t, conns[2])
	conns[0].Close()
	eventually(t, "there is room again", func() bool { return stats(t, s, to.Name).Destroyed == 1 })
	again := dial(t, stats(t, s, from.Name).Address)
	send(t, again, headerOf(proxyproto.V2))
	mustTalk(t, again)
	if got := stats(t, s, to.Name); got.Overflow != 1 || got.Accepted != 3 || got.Active != 2 {
		t.Errorf("%+v", got)
	}
}
