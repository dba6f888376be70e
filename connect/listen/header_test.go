package listen_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire/proxyproto"
)

const (
	client = "192.0.2.7:4321"
	called = "198.51.100.1:443"
)

// headerOf is what a proxy in front sends.
func headerOf(version int) []byte {
	h := proxyproto.Header{Source: netip.MustParseAddrPort(client), Destination: netip.MustParseAddrPort(called)}
	return h.Append(nil, version)
}

func send(t *testing.T, conn net.Conn, b []byte) {
	t.Helper()
	if _, err := conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

func behind(header *listen.ProxyHeader, chains ...*listen.Chain) *listen.Spec {
	s := spec("127.0.0.1", chains...)
	s.ProxyHeader = header
	return s
}

func TestProxyHeader(t *testing.T) {
	t.Parallel()
	local := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	for _, version := range []int{proxyproto.V1, proxyproto.V2} {
		for _, header := range []*listen.ProxyHeader{{}, {Trusted: local}, {Optional: true}, {Trusted: local, Optional: true}} {
			h := &echo{}
			secure, config := tlsChain(t, h)
			for _, c := range []*listen.Chain{chain(h), secure} {
				s := newSet(t, listen.Config{}, behind(header, c))
				conn := dial(t, only(t, s).Address)
				send(t, conn, headerOf(version))
				if c.TLS != nil {
					conn = tls.Client(conn, config)
				}
				mustTalk(t, conn)
				served, peer := h.seen()
				if peer.Addr.String() != client || peer.Local.String() != called {
					t.Errorf("version %d, %+v: peer %+v", version, header, peer)
				}
				if _, ok := served.(*net.TCPConn); !ok && c.TLS == nil {
					t.Errorf("served as %T", served)
				}
			}
		}
	}
}

// The address in the header chooses the chain, and what speaks for itself keeps its
// own.
func TestProxyHeaderChoosesChain(t *testing.T) {
	t.Parallel()
	documentation, others := &echo{}, &echo{}
	source := mesh.ChainMatch{SourcePrefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}
	both := behind(&listen.ProxyHeader{})
	both.Chains = table(t, chain(others), listen.Entry{Match: source, Chain: chain(documentation)})
	s := newSet(t, listen.Config{}, both)
	for _, header := range []string{string(headerOf(proxyproto.V2)), "PROXY UNKNOWN\r\n"} {
		conn := dial(t, only(t, s).Address)
		send(t, conn, []byte(header))
		mustTalk(t, conn)
	}
	if documentation.served.Load() != 1 || others.served.Load() != 1 {
		t.Errorf("%d and %d", documentation.served.Load(), others.served.Load())
	}
	if _, peer := others.seen(); peer.Addr.Addr().String() != "127.0.0.1" {
		t.Errorf("%+v", peer)
	}
	narrow := behind(&listen.ProxyHeader{})
	narrow.Chains = table(t, nil, listen.Entry{Match: source, Chain: chain(&echo{})})
	commit(t, s, narrow)
	conn := dial(t, only(t, s).Address)
	send(t, conn, []byte("PROXY UNKNOWN\r\n"))
	mustBeClosed(t, conn)
	if got := only(t, s); got.NoChain != 1 {
		t.Errorf("%+v", got)
	}
}

func TestProxyHeaderRefused(t *testing.T) {
	t.Parallel()
	strangers := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for name, tt := range map[string]struct {
		header *listen.ProxyHeader
		sent   string
	}{
		"none":                 {&listen.ProxyHeader{}, "GET / HTTP/1.1\r\n\r\n"},
		"broken":               {&listen.ProxyHeader{}, "PROXY TCP4 1.2.3.4 5.6.7.8 x y\r\n"},
		"half":                 {&listen.ProxyHeader{}, "PROXY TCP4 1.2.3.4"},
		"half of an optional":  {&listen.ProxyHeader{Optional: true}, "PROXY TCP4 1.2.3.4"},
		"stranger":             {&listen.ProxyHeader{Trusted: strangers}, ""},
		"stranger, optional":   {&listen.ProxyHeader{Trusted: strangers, Optional: true}, string(headerOf(proxyproto.V1))},
		"stranger, optional 2": {&listen.ProxyHeader{Trusted: strangers, Optional: true}, string(headerOf(proxyproto.V2))},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &echo{}
			s := newSet(t, listen.Config{HandshakeTimeout: 100 * time.Millisecond}, behind(tt.header, chain(h)))
			conn := dial(t, only(t, s).Address)
			if _, err := conn.Write([]byte(tt.sent)); err != nil {
				t.Log(err)
			}
			mustBeClosed(t, conn)
			eventually(t, "counted", func() bool { got := only(t, s); return got.BadProxyHeaders == 1 && got.Active == 0 })
			if h.served.Load() != 0 {
				t.Error("served")
			}
		})
	}
}

// Without a header an optional one changes nothing.
func TestProxyHeaderMissing(t *testing.T) {
	t.Parallel()
	h := &echo{}
	secure, config := tlsChain(t, h)
	strangers := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for _, c := range []*listen.Chain{chain(h), secure} {
		s := newSet(t, listen.Config{}, behind(&listen.ProxyHeader{Trusted: strangers, Optional: true}, c))
		conn := dial(t, only(t, s).Address)
		if c.TLS != nil {
			conn = tls.Client(conn, config)
		}
		mustTalk(t, conn)
		if _, peer := h.seen(); peer.Addr.Addr().String() != "127.0.0.1" {
			t.Errorf("%+v", peer)
		}
	}
	// Who comes and leaves is nobody's business.
	s := newSet(t, listen.Config{}, behind(&listen.ProxyHeader{}, chain(h)))
	dial(t, only(t, s).Address).Close()
	eventually(t, "gone", func() bool { return only(t, s).Left == 1 })
	if got := only(t, s); got.BadProxyHeaders != 0 || got.Accepted != 0 {
		t.Errorf("%+v", got)
	}
}

// Those whose header is still to come take places, and a shutdown waits for them.
func TestProxyHeaderPending(t *testing.T) {
	t.Parallel()
	h := &echo{}
	s := newSet(t, listen.Config{MaxHandshakes: 3}, behind(&listen.ProxyHeader{}, chain(h)))
	address := only(t, s).Address
	quick, slow := dial(t, address), dial(t, address)
	eventually(t, "accepted", func() bool { return only(t, s).Pending == 2 })
	eventually(t, "one too many", func() bool {
		conn := dial(t, address)
		defer conn.Close()
		eventually(t, "accepted", func() bool { return only(t, s).Pending >= 2 })
		return only(t, s).Overflow > 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	killed := startShutdown(ctx, s, 0)
	eventually(t, "the socket closes", func() bool { return refuses(address) })
	send(t, quick, headerOf(proxyproto.V2))
	mustTalk(t, quick)
	mustGoOn(t, killed)
	quick.Close()
	eventually(t, "one is left", func() bool { got := only(t, s); return got.Active == 0 && got.Pending == 1 })
	mustGoOn(t, killed)
	cancel()
	mustKill(t, killed, 1)
	mustBeClosed(t, slow)
}
