package stack_test

import (
	"bufio"
	"context"
	"crypto/sha1" //nolint:gosec // as RFC 6455 wants it
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// bothProtocols is an application that takes HTTP/1.1 and cleartext HTTP/2.
func bothProtocols(t *testing.T) string {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "websocket" {
			switchOver(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprintf(w, "%s %s %s %s %d %s", r.Proto, r.Method, r.Host, r.URL.Path, len(body), r.Header.Get("Cookie"))
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// switchOver sends back what it is told, in capitals.
func switchOver(w http.ResponseWriter, r *http.Request) {
	conn, rw, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	sum := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	answer := base64.StdEncoding.EncodeToString(sum[:])
	if r.URL.Path == "/wrong" {
		answer = "wrong"
	}
	fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n", answer)
	for {
		line, err := rw.ReadString('\n')
		if err != nil {
			return
		}
		io.WriteString(conn, strings.ToUpper(line)) //nolint:errcheck // the client notices
	}
}

// front serves what goes to a cluster at address, in clear or with a certificate.
func front(tb testing.TB, address string, protocol mesh.Protocol, secure *tls.Config) string {
	tb.Helper()
	endpoints := []mesh.Endpoint{{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1}}
	set := upstream.NewSet(slog.New(slog.DiscardHandler))
	tb.Cleanup(set.Close)
	commit, err := set.Prepare(map[string]*mesh.Cluster{"c": {
		Name: "c", Kind: mesh.ClusterStatic, Protocol: protocol, Endpoints: &mesh.EndpointSet{Name: "c", Endpoints: endpoints},
	}})
	must(tb, err)
	commit()
	server := stack.NewServer(stack.ServerConfig{}, func() wire.Service { return set.Cluster("c") }, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var running sync.WaitGroup
	var drain wire.Drain
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				peer := &wire.Peer{TLS: secure != nil}
				if secure != nil {
					secured := tls.Server(conn, secure)
					if secured.HandshakeContext(context.Background()) != nil {
						conn.Close()
						return
					}
					conn = secured
				}
				server.Serve(conn, peer, &drain)
			})
		}
	})
	tb.Cleanup(func() { l.Close(); drain.Kill(); running.Wait() })
	return l.Addr().String()
}

// asker is a client that speaks one protocol.
func asker(t *testing.T, h2 bool) *http.Client {
	t.Helper()
	transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetHTTP2(h2)
	transport.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// TestCrossing asks by both protocols, with and without TLS, what is served by
// clusters of all kinds.
func TestCrossing(t *testing.T) {
	app := bothProtocols(t)
	site := httptest.NewUnstartedServer(nil)
	site.StartTLS()
	defer site.Close()
	secure := &tls.Config{Certificates: site.TLS.Certificates, NextProtos: []string{"h2", "http/1.1"}}
	for _, test := range []struct {
		h2      bool
		cluster mesh.Protocol
		want    string
	}{
		{false, mesh.HTTP1, "HTTP/1.1"},
		{true, mesh.HTTP1, "HTTP/1.1"},
		{false, mesh.HTTP2, "HTTP/2.0"},
		{true, mesh.HTTP2, "HTTP/2.0"},
		{false, mesh.FollowDownstream, "HTTP/1.1"},
		{true, mesh.FollowDownstream, "HTTP/2.0"},
	} {
		for scheme, config := range map[string]*tls.Config{"http": nil, "https": secure} {
			t.Run(fmt.Sprintf("%s h2=%t to %d", scheme, test.h2, test.cluster), func(t *testing.T) {
				address := front(t, app, test.cluster, config)
				for _, size := range []int{0, 5, 300_000} {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, scheme+"://"+address+"/path", io.NopCloser(strings.NewReader(strings.Repeat("x", size))))
					if err != nil {
						t.Fatal(err)
					}
					req.Host, req.ContentLength, req.Trailer = "example.com", -1, http.Header{"X-In": {"sum"}}
					req.Header.Set("Cookie", "a=b; c=d")
					resp, err := asker(t, test.h2).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					want := fmt.Sprintf("%s PUT example.com /path %d a=b; c=d", test.want, size)
					if err != nil || string(body) != want || resp.Trailer.Get("X-Sum") != "sum" || (resp.ProtoMajor == 2) != test.h2 {
						t.Errorf("%s %q, %v, trailers %v", resp.Proto, body, err, resp.Trailer)
					}
				}
			})
		}
	}
}

// TestNoALPN speaks HTTP/2 behind TLS without having agreed on it, as Envoy does.
func TestNoALPN(t *testing.T) {
	site := httptest.NewUnstartedServer(nil)
	site.StartTLS()
	defer site.Close()
	address := front(t, bothProtocols(t), mesh.FollowDownstream, &tls.Config{Certificates: site.TLS.Certificates})
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		d := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}
		return d.DialContext(ctx, network, address)
	}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasPrefix(string(body), "HTTP/2.0 GET") {
		t.Errorf("got %q, %v", body, err)
	}
}

// TestHTTP1Only serves nothing else, though TLS has agreed on HTTP/2 with a client that
// knows only that.
func TestHTTP1Only(t *testing.T) {
	site := httptest.NewUnstartedServer(nil)
	site.StartTLS()
	defer site.Close()
	server := stack.NewServer(stack.ServerConfig{HTTP1Only: true}, func() wire.Service { return nil }, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		conn, err := l.Accept()
		if err != nil {
			return
		}
		secured := tls.Server(conn, &tls.Config{Certificates: site.TLS.Certificates, NextProtos: []string{"http/1.1", "h2"}})
		if secured.HandshakeContext(context.Background()) == nil {
			server.Serve(secured, &wire.Peer{TLS: true}, &wire.Drain{})
		}
	}()
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	must(t, err)
	io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") //nolint:errcheck // the answer tells
	answer, _ := io.ReadAll(conn)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 505 ") {
		t.Errorf("%q", answer)
	}
	conn.Close()
	<-done
}

// TestSwitchOver takes websockets over HTTP/2 hops: from HTTP/1, and from HTTP/2.
func TestSwitchOver(t *testing.T) {
	app := bothProtocols(t)
	second := front(t, app, mesh.HTTP1, nil)
	first := front(t, second, mesh.HTTP2, nil)
	t.Run("from HTTP/1", func(t *testing.T) {
		conn := dialTo(t, first)
		io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n") //nolint:errcheck // the answer tells
		r := bufio.NewReader(conn)
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		// The answer to the key of RFC 6455 section 1.3.
		if got := resp.Header.Get("Sec-Websocket-Accept"); resp.StatusCode != 101 || got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Errorf("%s, accept %q", resp.Status, got)
		}
		for range 3 {
			io.WriteString(conn, "hello\n") //nolint:errcheck // the answer tells
			if line, err := r.ReadString('\n'); line != "HELLO\n" {
				t.Fatalf("%q, %v", line, err)
			}
		}
	})
	t.Run("from HTTP/2", func(t *testing.T) { extendedConnect(t, dialTo(t, first)) })
	t.Run("from HTTP/2, at once", func(t *testing.T) { extendedConnect(t, dialTo(t, second)) })
}

func dialTo(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(time.Minute)) //nolint:errcheck // a wait without end is seen, too
	t.Cleanup(func() { conn.Close() })
	return conn
}

// extendedConnect asks for a websocket as RFC 8441 has it.
func extendedConnect(t *testing.T, conn net.Conn) {
	t.Helper()
	io.WriteString(conn, http2.ClientPreface) //nolint:errcheck // the answer tells
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	for _, f := range [][2]string{
		{":method", "CONNECT"},
		{":protocol", "websocket"},
		{":scheme", "http"},
		{":path", "/ws"},
		{":authority", "a"},
		{"sec-websocket-version", "13"},
	} {
		enc.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}) //nolint:errcheck // into memory
	}
	must(t, fr.WriteSettings())
	must(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}))
	must(t, fr.WriteData(1, false, []byte("hello\n")))
	knows := false
	for {
		f, err := fr.ReadFrame()
		must(t, err)
		switch f := f.(type) {
		case *http2.SettingsFrame:
			v, ok := f.Value(http2.SettingEnableConnectProtocol)
			knows = knows || ok && v == 1
		case *http2.MetaHeadersFrame:
			if f.PseudoValue("status") != "200" || f.StreamEnded() {
				t.Fatalf("answered %v", f)
			}
			for _, field := range f.RegularFields() {
				if field.Name == "sec-websocket-accept" {
					t.Error("there is a key in HTTP/2")
				}
			}
		case *http2.DataFrame:
			if string(f.Data()) != "HELLO\n" || !knows {
				t.Errorf("came back %q, settings %t", f.Data(), knows)
			}
			return
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("got %v", f)
		}
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
