package http1_test

import (
	"net"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// pool is the least that stands between a server and its upstream connections.
type pool struct {
	dial func() (net.Conn, error)
	cfg  http1.ClientConfig

	mu       sync.Mutex // guards:
	idle     []*http1.ClientConn
	dials    int
	released []bool
	free     func(c *http1.ClientConn, reusable bool)
}

func newPool(addr string, cfg http1.ClientConfig) *pool {
	p := &pool{cfg: cfg, dial: func() (net.Conn, error) { return net.Dial("tcp", addr) }}
	p.free = p.put
	return p
}

func (p *pool) put(c *http1.ClientConn, reusable bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.released) < 1000 {
		p.released = append(p.released, reusable)
	}
	if reusable {
		p.idle = append(p.idle, c)
	}
}

func (p *pool) get() (*http1.ClientConn, bool, error) {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 {
			p.dials++
			p.mu.Unlock()
			conn, err := p.dial()
			if err != nil {
				return nil, false, &wire.Fault{Status: 503, Flag: wire.FlagUpstreamConnect, Err: err}
			}
			return http1.NewClientConn(conn, p.cfg, p.free), false, nil
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.Alive(false) {
			return c, true, nil
		}
		c.Close()
	}
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
}

// Serve implements wire.Service.
func (p *pool) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	a := x.NewAttempt("upstream", time.Now())
	c, reused, err := p.get()
	if err != nil {
		return nil, err
	}
	a.Reused, a.Connected = reused, time.Now()
	return c.RoundTrip(x, a, req)
}
