package upstream

import (
	"context"
	"net"
	"net/netip"
	"time"
)

// headStart is how long an address is tried before the next one joins in, as with
// Envoy (RFC 8305 section 5 has 250 ms).
const headStart = 300 * time.Millisecond

// race connects to the first of several addresses that accepts. Each has a head
// start before the next, which begins at once where it fails.
func race(ctx context.Context, dialer *net.Dialer, first string, others []netip.AddrPort) (net.Conn, error) {
	if len(others) == 0 {
		return dialer.DialContext(ctx, "tcp", first)
	}
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
	start(first)
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
