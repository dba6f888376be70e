package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// inTurn puts addresses in the order in which they are tried: those of one family,
// then one of the other, and so on, each family in its own order.
func inTurn(all []netip.AddrPort, order mesh.Race) []netip.AddrPort {
	six := all[0].Addr().Is6()
	if order.First != 0 {
		six = order.First == 6
	}
	var first, second []netip.AddrPort
	for _, a := range all {
		if a.Addr().Is6() == six {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	var out []netip.AddrPort
	for len(first)+len(second) > 0 {
		n := min(max(order.Count, 1), len(first))
		out, first = append(out, first[:n]...), first[n:]
		n = min(1, len(second))
		out, second = append(out, second[:n]...), second[n:]
	}
	return out
}

// headStart is how long an address is tried before the next one joins in, as with
// Envoy (RFC 8305 section 5 has 250 ms).
const headStart = 300 * time.Millisecond

// race connects to the first of several addresses that accepts. Each has a head
// start before the next, which begins at once where it fails.
func race(ctx context.Context, dialer *net.Dialer, first netip.AddrPort, others []netip.AddrPort, order mesh.Race) (net.Conn, error) {
	if len(others) == 0 {
		return dialer.DialContext(ctx, "tcp", first.String())
	}
	all := inTurn(append([]netip.AddrPort{first}, others...), order)
	first, others = all[0], all[1:]
	type outcome struct {
		conn net.Conn
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	outcomes := make(chan outcome, 1+len(others)) // never waits for who reads
	start := func(addr string) {
		go func() {
			conn, err := dialer.DialContext(ctx, "tcp", addr)
			outcomes <- outcome{conn, err}
		}()
	}
	start(first.String())
	running, next := 1, 0
	timer := time.NewTimer(headStart)
	defer timer.Stop()
	var last error
	for running > 0 {
		var late <-chan time.Time
		if next < len(others) {
			late = timer.C
		}
		select {
		case o := <-outcomes:
			running--
			if o.err == nil {
				for range running { // those that still run end with ctx
					go func() {
						if o := <-outcomes; o.conn != nil {
							o.conn.Close()
						}
					}()
				}
				return o.conn, nil
			}
			last = o.err
			if next == len(others) {
				continue
			}
		case <-late:
		}
		start(others[next].String())
		running, next = running+1, next+1
		timer.Reset(headStart)
	}
	return nil, last
}
