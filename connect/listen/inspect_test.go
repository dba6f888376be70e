package listen_test

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
)

// looking is a listener that inspects, with a table.
func looking(in mesh.Inspect, chains *listen.Table) *listen.Spec {
	s := spec("127.0.0.1")
	s.Inspect, s.Chains = in, chains
	return s
}

// A ClientHello chooses the chain, however it comes, and is still there for it: here
// one chain passes TLS on as it is and another one ends it.
func TestInspectTLS(t *testing.T) {
	t.Parallel()
	raw, ended, others := &echo{}, &echo{}, &echo{}
	secure, client := tlsChain(t, ended) // asks for web.example
	s := newSet(t, listen.Config{}, looking(mesh.Inspect{TLS: true}, table(t, chain(others),
		listen.Entry{Match: mesh.ChainMatch{ServerNames: []string{"*.raw.example"}}, Chain: chain(raw)},
		listen.Entry{Match: mesh.ChainMatch{ServerNames: []string{"web.example"}}, Chain: secure},
	)))
	address := only(t, s).Address
	mustTalk(t, tls.Client(dial(t, address), client))

	hello := helloOf(t, &tls.Config{ServerName: "a.raw.example"})
	for name, parts := range map[string][][]byte{
		"at once": {hello}, "in pieces": {hello[:1], hello[1:3], hello[3:50], hello[50:]}, "in records": {split(hello, 10)},
	} {
		conn := dial(t, address)
		for _, part := range parts {
			send(t, conn, part)
		}
		want := bytes.Join(parts, nil)
		back := make([]byte, len(want))
		if _, err := io.ReadFull(conn, back); err != nil || !bytes.Equal(back, want) {
			t.Fatalf("%s: %v; what was looked at must still be there", name, err)
		}
		served, peer := raw.seen()
		if _, ok := served.(*net.TCPConn); !ok || peer.ServerName != "a.raw.example" || peer.TLS {
			t.Errorf("%s: served as %T, %+v", name, served, peer)
		}
		conn.Close()
	}
	mustTalk(t, dial(t, address)) // no TLS at all
	if raw.served.Load() != 3 || ended.served.Load() != 1 || others.served.Load() != 1 {
		t.Errorf("served %d, %d, %d", raw.served.Load(), ended.served.Load(), others.served.Load())
	}
	want := &listen.TLSStats{Found: 4, NotFound: 1, SNI: 4, NoALPN: 4}
	if diff := cmp.Diff(want, only(t, s).TLS); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestInspectHTTP(t *testing.T) {
	t.Parallel()
	one, two, others := &echo{}, &echo{}, &echo{}
	s := newSet(t, listen.Config{}, looking(mesh.Inspect{TLS: true, HTTP: true}, table(t, chain(others),
		listen.Entry{Match: mesh.ChainMatch{ALPN: []string{"http/1.0", "http/1.1"}}, Chain: chain(one)},
		listen.Entry{Match: mesh.ChainMatch{ALPN: []string{"h2c"}}, Chain: chain(two)},
	)))
	for _, text := range []string{"GET / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-x\r\n", "GET / HTTP/1.0\r\n"} {
		conn := dial(t, only(t, s).Address)
		for i := range len(text) {
			send(t, conn, []byte(text[i:i+1]))
		}
		back := make([]byte, len(text))
		if _, err := io.ReadFull(conn, back); err != nil || string(back) != text {
			t.Fatalf("%q, %v", back, err)
		}
	}
	if one.served.Load() != 2 || two.served.Load() != 1 || others.served.Load() != 1 {
		t.Errorf("served %d, %d, %d", one.served.Load(), two.served.Load(), others.served.Load())
	}
	want := &listen.HTTPStats{HTTP10: 1, HTTP11: 1, HTTP2: 1, NotFound: 1}
	if diff := cmp.Diff(want, only(t, s).HTTP); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Who says too little in time is closed, or goes on to the chain for those of whom
// nothing is known.
func TestInspectTimeout(t *testing.T) {
	t.Parallel()
	for _, goesOn := range []bool{false, true} {
		h := &echo{}
		in := mesh.Inspect{TLS: true, Timeout: 20 * time.Millisecond, Continue: goesOn}
		s := newSet(t, listen.Config{}, looking(in, listen.Single(chain(h))))
		conn := dial(t, only(t, s).Address)
		send(t, conn, []byte{22, 3, 1})
		if goesOn {
			back := make([]byte, 3)
			if _, err := io.ReadFull(conn, back); err != nil || back[0] != 22 {
				t.Errorf("%v, %v", back, err)
			}
			mustTalk(t, conn) // and the deadline is gone
		} else {
			mustBeClosed(t, conn)
		}
		if got := only(t, s); got.FilterTimeouts != 1 || (got.FilterErrors == 1) == goesOn {
			t.Errorf("%+v", got)
		}
	}
}

// A quiet house: a bare TCP check makes no error, and nobody is called. A hello that
// breaks off is none.
func TestInspectLeft(t *testing.T) {
	t.Parallel()
	h := &echo{}
	s := newSet(t, listen.Config{}, looking(mesh.Inspect{TLS: true, HTTP: true}, listen.Single(chain(h))))
	conn := dial(t, only(t, s).Address)
	conn.Close()
	eventually(t, "the check has left", func() bool { return only(t, s).Left == 1 })
	got := only(t, s)
	if got.Accepted != 0 || got.FilterErrors != 0 || got.FilterTimeouts != 0 || got.NoChain != 0 || h.served.Load() != 0 {
		t.Errorf("%+v", got)
	}
	broken := dial(t, got.Address)
	send(t, broken, []byte{22, 3, 1, 1, 0, 1})
	broken.Close()
	eventually(t, "the broken one is closed", func() bool { return only(t, s).FilterErrors == 1 && only(t, s).Pending == 0 })
}

func TestInspectTooLarge(t *testing.T) {
	t.Parallel()
	h := &echo{}
	s := newSet(t, listen.Config{}, looking(mesh.Inspect{TLS: true, MaxHello: 100}, listen.Single(chain(h))))
	conn := dial(t, only(t, s).Address)
	send(t, conn, helloOf(t, &tls.Config{ServerName: "web.example"}))
	mustBeClosed(t, conn)
	if got := only(t, s); got.TLS.TooLarge != 1 || got.FilterErrors != 1 || h.served.Load() != 0 {
		t.Errorf("%+v", got)
	}
}

// What waits for its first bytes is waited for, and killed, like any other.
func TestInspectShutdown(t *testing.T) {
	t.Parallel()
	s := newSet(t, listen.Config{}, looking(mesh.Inspect{TLS: true}, listen.Single(chain(&echo{}))))
	conn := dial(t, only(t, s).Address)
	eventually(t, "it is pending", func() bool { return only(t, s).Pending == 1 })
	ctx, cancel := contextDone()
	defer cancel()
	mustKill(t, startShutdown(ctx, s, 0), 1)
	mustBeClosed(t, conn)
}

// Behind a header of the PROXY protocol, too.
func TestInspectBehindHeader(t *testing.T) {
	t.Parallel()
	h := &echo{}
	one := looking(mesh.Inspect{TLS: true}, table(t, nil,
		listen.Entry{Match: mesh.ChainMatch{ServerNames: []string{"a.example"}, SourcePrefixes: prefixes("192.0.2.0/24")}, Chain: chain(h)}))
	one.ProxyHeader = &listen.ProxyHeader{Optional: true}
	s := newSet(t, listen.Config{}, one)
	conn := dial(t, only(t, s).Address)
	hello := helloOf(t, &tls.Config{ServerName: "a.example"})
	send(t, conn, append(headerOf(2), hello...))
	if _, err := io.ReadFull(conn, make([]byte, len(hello))); err != nil {
		t.Error(err)
	}
	bare := dial(t, only(t, s).Address) // read ahead, to see that there is no header
	send(t, bare, hello)
	mustBeClosed(t, bare)
	if got := only(t, s); got.NoChain != 1 || got.TLS.Found != 2 {
		t.Errorf("%+v", got)
	}
}

// Trap 19: one port on several addresses that contain each other, as Nomad has it for
// gateways in the host's network. The more exact address gets the connection.
func TestTrap19ReusePort(t *testing.T) {
	t.Parallel()
	exact, every := &echo{}, &echo{}
	one := spec("127.0.0.1", chain(exact))
	one.ReusePort = true
	s := newSet(t, listen.Config{Strict: true}, one)
	port := netip.MustParseAddrPort(only(t, s).Address).Port()
	all := specAt(mesh.Address{AddrPort: netip.AddrPortFrom(netip.IPv4Unspecified(), port)}, chain(every))
	all.ReusePort = true
	commit(t, s, one, all)
	mustTalk(t, dial(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String()))
	mustTalk(t, dial(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port).String()))
	if exact.served.Load() != 1 || every.served.Load() != 1 {
		t.Errorf("served %d and %d", exact.served.Load(), every.served.Load())
	}
	alone := *all
	alone.ReusePort = false
	other := newSet(t, listen.Config{Strict: true})
	if _, err := other.Prepare([]*listen.Spec{&alone}); err == nil {
		t.Error("an exclusive listener shares its port")
	}
}
