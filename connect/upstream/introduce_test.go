package upstream_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/proxyproto"
)

// introduced is an HTTP server that tells the addresses in the headers.
func introduced(t *testing.T) (address netip.AddrPort, clients <-chan proxyproto.Header) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	seen := make(chan proxyproto.Header, 10)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				h, err := proxyproto.Read(conn)
				if err != nil {
					t.Error(err)
					return
				}
				seen <- h
				b := bufio.NewReader(conn)
				for {
					if _, err := http.ReadRequest(b); err != nil {
						return
					}
					io.WriteString(conn, "HTTP/1.1 204 No Content\r\n\r\n") //nolint:errcheck // the client tells
				}
			}()
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String()), seen
}

// Each client has connections of its own, which begin with its address.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	address, seen := introduced(t)
	set := upstream.NewSet(slog.New(slog.DiscardHandler))
	definition := func(protocol mesh.Protocol, version int) map[string]*mesh.Cluster {
		return map[string]*mesh.Cluster{"c": {
			Name: "c", Kind: mesh.ClusterStatic, ProxyProtocol: version, Protocol: protocol,
			Endpoints: &mesh.EndpointSet{Endpoints: []mesh.Endpoint{{Address: mesh.Address{AddrPort: address}, Weight: 1}}},
		}}
	}
	local := netip.MustParseAddrPort("198.51.100.1:443")
	for version := 1; version <= 2; version++ {
		commit, err := set.Prepare(definition(mesh.HTTP1, version))
		if err != nil {
			t.Fatal(err)
		}
		commit()
		for _, from := range []string{"192.0.2.1:1000", "192.0.2.1:1000", "192.0.2.2:2000"} {
			peer := &wire.Peer{Addr: netip.MustParseAddrPort(from), Local: local}
			x := &wire.Exchange{}
			x.Reset(nil, peer, time.Now())
			req := &wire.Request{Method: "GET", Scheme: "http", Authority: "x", Path: "/", Proto: 1, Minor: 1}
			resp, err := set.Cluster("c").Serve(x, req)
			if err != nil || resp.Status != http.StatusNoContent {
				t.Fatalf("%+v, %v", resp, err)
			}
			x.Done(time.Now())
			if got := <-seen; got.Source != peer.Addr || got.Destination != local {
				t.Errorf("%+v", got)
			}
		}
		conn, _, err := set.Cluster("c").Dial(upstream.For(t.Context(), &wire.Peer{Addr: netip.MustParseAddrPort("[2001:db8::1]:1"), Local: local}), wire.Choice{})
		if err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got.Source.String() != "[2001:db8::1]:1" {
			t.Errorf("%+v", got)
		}
		conn.Close()
		if conn, _, err = set.Cluster("c").Dial(t.Context(), wire.Choice{}); err != nil {
			t.Fatal(err)
		}
		if got := <-seen; got != (proxyproto.Header{}) {
			t.Errorf("without a client: %+v", got)
		}
		conn.Close()
	}
	// The next connection does not begin so: those there are not for it.
	living := set.Cluster("c").Hosts()[0]
	plain, err := set.Prepare(definition(mesh.HTTP1, 0))
	if err != nil {
		t.Fatal(err)
	}
	plain()
	if set.Cluster("c").Hosts()[0] == living {
		t.Error("connections with a header are kept for what has none")
	}
	commit, err := set.Prepare(definition(mesh.HTTP2, 1))
	if err != nil {
		t.Fatal(err)
	}
	commit()
	if _, _, err := set.Cluster("c").Dial(t.Context(), wire.Choice{}); err == nil {
		t.Error("HTTP/2 connections that speak for one client")
	}
}
