package listen_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire/bulk"
	"github.com/serai-net/serai/connect/wire/socket"
)

func TestSourcePrefix(t *testing.T) {
	t.Parallel()
	prefixes := func(all ...string) []netip.Prefix {
		var parsed []netip.Prefix
		for _, p := range all {
			parsed = append(parsed, netip.MustParsePrefix(p))
		}
		return parsed
	}
	tests := []struct {
		name   string
		chains [][]netip.Prefix
		want   int // chain; -1 for none
	}{
		{"no chain", nil, -1},
		{"all", [][]netip.Prefix{nil}, 0},
		{"ours", [][]netip.Prefix{prefixes("10.0.0.0/8"), prefixes("127.0.0.0/8")}, 1},
		{"the longer one", [][]netip.Prefix{nil, prefixes("127.0.0.0/8")}, 1},
		{"one of several", [][]netip.Prefix{prefixes("10.0.0.0/8", "::/0", "127.0.0.1/32")}, 0},
		{"others", [][]netip.Prefix{prefixes("10.0.0.0/8"), prefixes("::/0")}, -1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var entries []listen.Entry
			var handlers []*echo
			for _, p := range tt.chains {
				h := &echo{}
				handlers = append(handlers, h)
				entries = append(entries, listen.Entry{Match: mesh.ChainMatch{SourcePrefixes: p}, Chain: chain(h)})
			}
			one := spec("127.0.0.1")
			one.Chains = table(t, nil, entries...)
			s := newSet(t, listen.Config{}, one)
			conn := dial(t, only(t, s).Address)
			if tt.want < 0 {
				mustBeClosed(t, conn)
				eventually(t, "the connection to be counted", func() bool {
					got := only(t, s)
					return got.NoChain == 1 && got.Active == 0
				})
				return
			}
			mustTalk(t, conn)
			if handlers[tt.want].served.Load() != 1 {
				t.Errorf("not served by chain %d", tt.want)
			}
		})
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	h := &echo{}
	c, client := tlsChain(t, h)
	s := newSet(t, listen.Config{}, spec("127.0.0.1", c))
	raw := dial(t, only(t, s).Address)
	conn := tls.Client(raw, client)
	mustTalk(t, conn)
	served, peer := h.seen()
	if peer.ID.String() != identity || !peer.TLS || peer.ServerName != "web.example" || peer.Certificate == nil {
		t.Errorf("%+v", peer)
	}
	if got := peer.Addr.String(); got != raw.LocalAddr().String() {
		t.Errorf("peer at %s, is at %s", got, raw.LocalAddr())
	}
	if got := peer.Local.String(); got != raw.RemoteAddr().String() {
		t.Errorf("peer called %s, we are at %s", got, raw.RemoteAddr())
	}
	// The codec wants it plain: it looks at the socket below TLS.
	secured, ok := served.(*tls.Conn)
	if !ok {
		t.Fatalf("%T", served)
	}
	below, ok := secured.NetConn().(*bulk.Conn)
	if !ok {
		t.Fatalf("%T below TLS", secured.NetConn())
	}
	if _, ok := below.NetConn().(*socket.Conn); !ok {
		t.Errorf("%T below that", below.NetConn())
	}
}

// A new TLS configuration counts for the next handshake and touches no
// connection.
func TestCertificateSwap(t *testing.T) {
	t.Parallel()
	first, client := secured(t)
	second, other := secured(t)
	current := make(chan *tls.Config, 1)
	current <- first
	c := &listen.Chain{Handler: &echo{}, TLS: func() *tls.Config {
		config := <-current
		current <- config
		return config
	}}
	s := newSet(t, listen.Config{}, spec("127.0.0.1", c))
	address := only(t, s).Address
	conn := tls.Client(dial(t, address), client)
	mustTalk(t, conn)
	<-current
	current <- second
	mustTalk(t, conn)
	if err := talk(tls.Client(dial(t, address), client)); err == nil {
		t.Error("the old certificate is still shown")
	}
	mustTalk(t, tls.Client(dial(t, address), other))
}

// clientHello is the first message of a handshake.
func clientHello(t *testing.T) []byte {
	t.Helper()
	var sent bytes.Buffer
	err := tls.Client(writeOnly{&sent}, &tls.Config{InsecureSkipVerify: true}).Handshake()
	if sent.Len() == 0 {
		t.Fatal(err)
	}
	return sent.Bytes()
}

type writeOnly struct{ io.Writer }

func (writeOnly) Read([]byte) (int, error)         { return 0, errors.New("nothing to read") }
func (writeOnly) Close() error                     { return nil }
func (writeOnly) LocalAddr() net.Addr              { return nil }
func (writeOnly) RemoteAddr() net.Addr             { return nil }
func (writeOnly) SetDeadline(time.Time) error      { return nil }
func (writeOnly) SetReadDeadline(time.Time) error  { return nil }
func (writeOnly) SetWriteDeadline(time.Time) error { return nil }

// Checks connect and leave: that is no error. What has said something is.
func TestBadHandshakes(t *testing.T) {
	t.Parallel()
	hello := clientHello(t)
	tests := []struct {
		name    string
		sent    []byte
		do      func(conn *net.TCPConn) error
		want    int64
		timeout time.Duration // of the handshake
	}{
		{"close", nil, func(c *net.TCPConn) error { return c.Close() }, 0, time.Minute},
		{"reset", nil, func(c *net.TCPConn) error { return errors.Join(c.SetLinger(0), c.Close()) }, 0, time.Minute},
		{"end of writing", nil, func(c *net.TCPConn) error { return c.CloseWrite() }, 0, time.Minute},
		{"garbage", []byte("GET / HTTP/1.1\r\n\r\n"), func(*net.TCPConn) error { return nil }, 1, 200 * time.Millisecond},
		{"one byte", hello[:1], func(c *net.TCPConn) error { return c.CloseWrite() }, 1, time.Minute},
		{"half a hello", hello[:len(hello)/2], func(c *net.TCPConn) error { return c.CloseWrite() }, 1, time.Minute},
		{"a hello, then close", hello, func(c *net.TCPConn) error { return c.CloseWrite() }, 1, time.Minute},
		{"a hello, then silence", hello, func(*net.TCPConn) error { return nil }, 1, 200 * time.Millisecond},
		{"silence", nil, func(*net.TCPConn) error { return nil }, 1, 200 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, _ := tlsChain(t, &echo{})
			s := newSet(t, listen.Config{HandshakeTimeout: tt.timeout}, spec("127.0.0.1", c))
			conn, ok := dial(t, only(t, s).Address).(*net.TCPConn)
			if !ok {
				t.Fatal("no TCP")
			}
			if _, err := conn.Write(tt.sent); err != nil {
				t.Fatal(err)
			}
			if err := tt.do(conn); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the connection ends", func() bool { got := only(t, s); return got.Accepted == 1 && got.Active == 0 })
			if got := only(t, s); got.BadHandshakes != tt.want {
				t.Errorf("%d bad handshakes, want %d", got.BadHandshakes, tt.want)
			}
		})
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	t.Run("connections", func(t *testing.T) {
		t.Parallel()
		s := newSet(t, listen.Config{MaxConnections: 2}, spec("127.0.0.1", chain(&echo{})))
		address := only(t, s).Address
		first, second := dial(t, address), dial(t, address)
		mustTalk(t, first)
		mustTalk(t, second)
		mustBeClosed(t, dial(t, address))
		if got := only(t, s); got.Overflow != 1 || got.Active != 2 || got.Accepted != 2 || got.Destroyed != 0 {
			t.Errorf("%+v", got)
		}
		first.Close()
		eventually(t, "there is room again", func() bool { return only(t, s).Active == 1 })
		mustTalk(t, dial(t, address))
	})
	t.Run("handshakes", func(t *testing.T) {
		t.Parallel()
		c, client := tlsChain(t, &echo{})
		s := newSet(t, listen.Config{MaxHandshakes: 1}, spec("127.0.0.1", c))
		address := only(t, s).Address
		done := tls.Client(dial(t, address), client)
		mustTalk(t, done) // a connection whose handshake is over takes no place
		slow := dial(t, address)
		eventually(t, "accepted", func() bool { return only(t, s).Active == 2 })
		mustBeClosed(t, dial(t, address))
		if got := only(t, s); got.Overflow != 1 || got.BadHandshakes != 0 {
			t.Errorf("%+v", got)
		}
		mustTalk(t, tls.Client(slow, client))
	})
}
