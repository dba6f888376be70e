//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// serverName is what proxies are called by, in certificates and requests.
const serverName = "bench.test"

// handshakes is a load of connections that end after one request.
type handshakes struct {
	config  *loadConfig
	request []byte

	mu    sync.Mutex // guards the rest
	meter *meter
	pace  *pace // nil: as fast as it goes
	over  bool
}

func handshakeLoad(c *loadConfig, m *meter) error {
	h := &handshakes{config: c, meter: m, pace: newPace(c.Rate, now())}
	h.request = fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", c.Paths[0], serverName)
	var workers sync.WaitGroup
	for range c.Conns {
		workers.Go(h.work)
	}
	workers.Wait()
	if m.done.Requests == 0 && m.done.Errors > 0 {
		return errors.New(m.done.First)
	}
	return nil
}

func (h *handshakes) work() {
	config := &tls.Config{
		ServerName:         serverName,
		InsecureSkipVerify: true, // the proxy's signature is verified all the same; the chain would only cost the load
		CurvePreferences:   []tls.CurveID{tls.X25519},
	}
	if h.config.Resume {
		config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	}
	first := true
	for {
		due := h.await()
		resumed, err := h.once(config)
		if err == nil && h.config.Resume && !first && !resumed {
			err = errors.New("the session was not resumed")
		}
		if h.count(due, err) {
			return
		}
		first = err != nil
	}
}

// await waits until a connection is due.
func (h *handshakes) await() time.Duration {
	if h.pace == nil {
		return 0
	}
	h.mu.Lock()
	due := h.pace.next
	h.pace.next += h.pace.every
	h.mu.Unlock()
	at := unix.NsecToTimespec(due.Nanoseconds())
	for again(unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &at, nil)) { // a timer of Go would be late
	}
	return due
}

// count counts a connection that was due at that time, and says whether the load is over.
func (h *handshakes) count(due time.Duration, err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.over = h.over || h.meter.tick(now()); h.over {
		return true
	}
	if err != nil {
		h.meter.failed("%v", err)
	} else {
		h.meter.answered(due)
	}
	return h.meter.done.Errors > 1000
}

func (h *handshakes) once(config *tls.Config) (resumed bool, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", h.config.Addr)
	if err != nil {
		return false, err
	}
	defer raw.Close()
	conn := tls.Client(raw, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		return false, fmt.Errorf("handshake: %w", err)
	}
	if _, err := conn.Write(h.request); err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(conn, int64(h.config.Body)+4096))
	if err != nil {
		return false, fmt.Errorf("read: %w", err)
	}
	if n, problem := bodyLength(answer); problem != "" || n != h.config.Body {
		return false, fmt.Errorf("an answer with %d bytes %s", n, problem)
	}
	return conn.ConnectionState().DidResume, nil
}
