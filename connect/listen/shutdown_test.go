package listen_test

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/listen"
)

// startShutdown gives what Shutdown returns, once it does.
func startShutdown(ctx context.Context, s *listen.Set, delay time.Duration) <-chan int {
	killed := make(chan int, 1)
	go func() { killed <- s.Shutdown(ctx, delay) }()
	return killed
}

func mustKill(t *testing.T, killed <-chan int, want int) {
	t.Helper()
	select {
	case got := <-killed:
		if got != want {
			t.Errorf("killed %d, want %d", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatal("the shutdown does not end")
	}
}

func mustGoOn(t *testing.T, killed <-chan int) {
	t.Helper()
	select {
	case n := <-killed:
		t.Fatalf("the shutdown has ended, killed %d", n)
	default:
	}
}

func accepts(address string) bool {
	conn, err := tryDial(address)
	if err != nil {
		return false
	}
	defer conn.Close()
	return talk(conn) == nil
}

// refuses says whether nobody accepts at the address.
func refuses(address string) bool {
	conn, err := tryDial(address)
	if err == nil {
		conn.Close()
	}
	return err != nil
}

// Inbound listeners accept for the delay, outbound ones until the inbound
// connections have ended.
func TestShutdownOrder(t *testing.T) {
	t.Parallel()
	inbound, outbound := spec("127.0.0.1", chain(&echo{})), spec("127.0.0.2", chain(&echo{polite: true}))
	outbound.Outbound = true
	s := newSet(t, listen.Config{}, inbound, outbound)
	in, out := stats(t, s, inbound.Name).Address, stats(t, s, outbound.Name).Address
	busy, idle := dial(t, in), dial(t, out)
	mustTalk(t, busy)
	mustTalk(t, idle)

	killed := startShutdown(t.Context(), s, 3*time.Second) // for two calls
	eventually(t, "responses ask to close", func() bool {
		return first(inbound).Drain().Draining() && first(outbound).Drain().Draining()
	})
	if !accepts(in) || !accepts(out) {
		t.Error("nobody may be turned away during the delay")
	}
	eventually(t, "the inbound socket closes", func() bool { return !accepts(in) })
	if !accepts(out) {
		t.Error("the application may still call")
	}
	mustTalk(t, busy)
	mustTalk(t, idle)
	mustGoOn(t, killed)
	busy.Close()
	mustKill(t, killed, 0)
	mustBeClosed(t, idle)
	if accepts(out) {
		t.Error("the outbound socket is open")
	}
}

// The number is that of connections, however many parts they have.
func TestShutdownKills(t *testing.T) {
	t.Parallel()
	inbound, outbound := spec("127.0.0.1", chain(&echo{})), spec("127.0.0.2", chain(&echo{}))
	outbound.Outbound = true
	s := newSet(t, listen.Config{}, inbound, outbound)
	conns := []net.Conn{
		dial(t, stats(t, s, inbound.Name).Address), dial(t, stats(t, s, inbound.Name).Address), dial(t, stats(t, s, outbound.Name).Address),
	}
	for _, conn := range conns {
		mustTalk(t, conn)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	mustKill(t, startShutdown(ctx, s, time.Hour), 3)
	for _, conn := range conns {
		mustBeClosed(t, conn)
	}
	mustKill(t, startShutdown(ctx, s, time.Hour), 0)
}

// Connections in mid-handshake are waited for, and killed at the end.
func TestShutdownInHandshake(t *testing.T) {
	t.Parallel()
	h := &echo{}
	c, client := tlsChain(t, h)
	s := newSet(t, listen.Config{}, spec("127.0.0.1", c))
	address := only(t, s).Address
	quick, slow := dial(t, address), dial(t, address)
	eventually(t, "accepted", func() bool { return only(t, s).Active == 2 })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	killed := startShutdown(ctx, s, 0)
	eventually(t, "the socket closes", func() bool { return refuses(address) })
	conn := tls.Client(quick, client)
	mustTalk(t, conn)
	conn.Close()
	eventually(t, "the quick one ends", func() bool { return only(t, s).Active == 1 })
	mustGoOn(t, killed)
	cancel()
	mustKill(t, killed, 1)
	mustBeClosed(t, slow)
	if h.served.Load() != 1 {
		t.Errorf("%d were served", h.served.Load())
	}
}

// Connections of chains that had left before are waited for as well.
func TestShutdownWaitsForChains(t *testing.T) {
	t.Parallel()
	s := newSet(t, listen.Config{}, spec("127.0.0.1", chain(&echo{})), spec("127.0.0.2", chain(&echo{})))
	replaced, removed := dial(t, stats(t, s, "127.0.0.1:0").Address), dial(t, stats(t, s, "127.0.0.2:0").Address)
	mustTalk(t, replaced)
	mustTalk(t, removed)
	commit(t, s, spec("127.0.0.1", chain(&echo{})))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	killed := startShutdown(ctx, s, 0)
	address := stats(t, s, "127.0.0.1:0").Address
	eventually(t, "the socket closes", func() bool { return refuses(address) })
	// The calls that found out may have been accepted and count until they end.
	eventually(t, "only the replaced one lives", func() bool { return stats(t, s, "127.0.0.1:0").Active == 1 })
	mustTalk(t, replaced)
	mustTalk(t, removed)
	mustGoOn(t, killed)
	cancel()
	mustKill(t, killed, 2)
	mustBeClosed(t, replaced)
	mustBeClosed(t, removed)
}
