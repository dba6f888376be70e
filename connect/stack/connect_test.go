package stack_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// connecting serves CONNECT: to "c" with its connection made here, to "pass" with the
// request passed on, and nothing else.
func connecting(t *testing.T, codec mesh.Codec, address string, change func(h *mesh.HTTP)) string {
	t.Helper()
	next := map[string]*mesh.Cluster{}
	for _, name := range []string{"c", "pass"} {
		next[name] = &mesh.Cluster{Name: name, Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{Endpoints: []mesh.Endpoint{
			{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1},
		}}}
	}
	set := upstream.NewSet(slog.New(slog.DiscardHandler))
	t.Cleanup(set.Close)
	commit, err := set.Prepare(next)
	must(t, err)
	commit()
	match := mesh.Match{Headers: []mesh.HeaderMatch{{Name: ":method", Value: mesh.StringMatch{Exact: "CONNECT"}}}}
	h := &mesh.HTTP{Codec: codec, Upgrades: []string{"connect"}, Route: &mesh.Route{VirtualHosts: []*mesh.VirtualHost{
		{Name: "pass", Domains: []string{"pass:1"}, Rules: []*mesh.Rule{{Match: match, Targets: []mesh.Target{{Cluster: "pass"}}}}},
		{Name: "all", Domains: []string{"*"}, Rules: []*mesh.Rule{{Match: match, Targets: []mesh.Target{{Cluster: "c"}}, Connect: true}}},
	}}}
	if change != nil {
		change(h)
	}
	service := compile(t, h, set)
	server := stack.NewServer(codec, func() wire.Service { return service }, slog.New(slog.DiscardHandler))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	var running sync.WaitGroup
	var drain wire.Drain
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { server.Serve(conn, &wire.Peer{}, &drain) })
		}
	})
	t.Cleanup(func() { l.Close(); drain.Kill(); running.Wait() })
	return l.Addr().String()
}

// shouting sends back each line in capitals, and "bye" when the client has ended.
func shouting(conn net.Conn) {
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			if errors.Is(err, io.EOF) {
				io.WriteString(conn, "bye") //nolint:errcheck // the client notices
			}
			return
		}
		io.WriteString(conn, strings.ToUpper(line)) //nolint:errcheck // the client notices
	}
}

func TestConnectH1(t *testing.T) {
	address := connecting(t, mesh.Codec{Connect: true}, tcp(t, shouting), nil)
	conn := dialTo(t, address)
	io.WriteString(conn, "CONNECT db.example:5432 HTTP/1.1\r\nHost: db.example:5432\r\n\r\nearly\n") //nolint:errcheck // the answer tells
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, &http.Request{Method: http.MethodConnect})
	must(t, err)
	resp.Body.Close()
	if resp.StatusCode != 200 || resp.ContentLength > 0 || resp.Header.Get("Transfer-Encoding") != "" {
		t.Errorf("%s %v", resp.Status, resp.Header)
	}
	for _, want := range []string{"EARLY\n", "HELLO\n", "AGAIN\n"} {
		if want != "EARLY\n" {
			io.WriteString(conn, strings.ToLower(want)) //nolint:errcheck // the answer tells
		}
		if line, err := r.ReadString('\n'); line != want {
			t.Fatalf("%q, %v", line, err)
		}
	}
	endWrite(t, conn)
	if rest, err := io.ReadAll(r); string(rest) != "bye" || err != nil {
		t.Errorf("at the end %q, %v", rest, err)
	}
}

func TestConnectH2(t *testing.T) {
	address := connecting(t, mesh.Codec{Connect: true}, tcp(t, shouting), nil)
	conn := dialTo(t, address)
	io.WriteString(conn, http2.ClientPreface) //nolint:errcheck // the answer tells
	fr := http2.NewFramer(conn, conn)
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	var block strings.Builder
	enc := hpack.NewEncoder(&block)
	enc.WriteField(hpack.HeaderField{Name: ":method", Value: "CONNECT"})            //nolint:errcheck // into memory
	enc.WriteField(hpack.HeaderField{Name: ":authority", Value: "db.example:5432"}) //nolint:errcheck // as above
	must(t, fr.WriteSettings())
	must(t, fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(block.String()), EndHeaders: true}))
	must(t, fr.WriteData(1, false, []byte("hello\n")))
	var got strings.Builder
	for {
		f, err := fr.ReadFrame()
		must(t, err)
		switch f := f.(type) {
		case *http2.MetaHeadersFrame:
			if f.PseudoValue("status") != "200" || f.StreamEnded() {
				t.Fatalf("answered %v", f)
			}
		case *http2.DataFrame:
			got.Write(f.Data())
			if got.String() == "HELLO\n" && !f.StreamEnded() {
				must(t, fr.WriteData(1, true, nil))
			}
			if f.StreamEnded() {
				if got.String() != "HELLO\nbye" {
					t.Errorf("got %q", got.String())
				}
				return
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			t.Fatalf("got %v", f)
		}
	}
}

// TestConnectPassed hands CONNECT on to a proxy.
func TestConnectPassed(t *testing.T) {
	proxy := tcp(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n\r\n%s %s\n", req.Method, req.Host)
		io.Copy(conn, r) //nolint:errcheck // the client notices
	})
	conn := dialTo(t, connecting(t, mesh.Codec{Connect: true}, proxy, nil))
	io.WriteString(conn, "CONNECT pass:1 HTTP/1.1\r\nHost: pass:1\r\n\r\nhello\n") //nolint:errcheck // the answer tells
	endWrite(t, conn)
	got, err := io.ReadAll(conn)
	if !strings.HasPrefix(string(got), "HTTP/1.1 200 ") || !strings.HasSuffix(string(got), "\r\n\r\nCONNECT pass:1\nhello\n") || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// TestConnectRefused wants no tunnel where none is configured, or nobody is there.
func TestConnectRefused(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	nobody := l.Addr().String()
	l.Close()
	app := tcp(t, shouting)
	for name, test := range map[string]struct {
		codec   mesh.Codec
		address string
		change  func(h *mesh.HTTP)
		want    string
	}{
		"not in the codec":      {mesh.Codec{}, app, nil, "405 Method Not Allowed"},
		"not in the chain":      {mesh.Codec{Connect: true}, app, func(h *mesh.HTTP) { h.Upgrades = nil }, "403 Forbidden"},
		"no rule":               {mesh.Codec{Connect: true}, app, func(h *mesh.HTTP) { h.Route = toward(nil) }, "404 Not Found"},
		"nobody there":          {mesh.Codec{Connect: true}, nobody, nil, "503 Service Unavailable"},
		"not by the intentions": {mesh.Codec{Connect: true}, app, func(h *mesh.HTTP) { h.Filters = []mesh.HTTPFilter{{Intention: &mesh.Intention{}}} }, "403 Forbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialTo(t, connecting(t, test.codec, test.address, test.change))
			io.WriteString(conn, "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n") //nolint:errcheck // the answer tells
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			must(t, err)
			resp.Body.Close()
			if resp.Status != test.want {
				t.Errorf("%s, want %s", resp.Status, test.want)
			}
		})
	}
}

// TestConnectEnds gives a tunnel up from either side: nothing of it stays (TestMain
// looks), and the other side is told.
func TestConnectEnds(t *testing.T) {
	gone := make(chan error, 1)
	address := connecting(t, mesh.Codec{Connect: true}, tcp(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		line, err := r.ReadString('\n')
		if err != nil || line == "leave\n" {
			return
		}
		_, err = r.ReadByte()
		gone <- err
	}), nil)
	open := func(say string) net.Conn {
		conn := dialTo(t, address)
		io.WriteString(conn, "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n") //nolint:errcheck // the answer tells
		resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: http.MethodConnect})
		must(t, err)
		resp.Body.Close()
		io.WriteString(conn, say) //nolint:errcheck // as above
		return conn
	}
	conn := open("stay\n")
	if tcp, ok := conn.(*net.TCPConn); ok {
		must(t, tcp.SetLinger(0))
	}
	conn.Close()
	if err := <-gone; err == nil {
		t.Error("the upstream was told more")
	}
	conn = open("leave\n")
	if rest, err := io.ReadAll(conn); len(rest) > 0 || err != nil {
		t.Errorf("the client is told %q, %v", rest, err)
	}
}

// TestMaxDuration ends a tunnel and an exchange that take too long.
func TestMaxDuration(t *testing.T) {
	short := func(h *mesh.HTTP) { h.MaxStreamDuration = 50e6 }
	conn := dialTo(t, connecting(t, mesh.Codec{Connect: true}, tcp(t, shouting), short))
	io.WriteString(conn, "CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\n") //nolint:errcheck // the answer tells
	if got, _ := io.ReadAll(conn); !strings.HasPrefix(string(got), "HTTP/1.1 200 ") {
		t.Errorf("%q", got)
	}
	release := make(chan bool)
	app := backend(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	h := &mesh.HTTP{Route: toward(nil)}
	short(h)
	got := do(t, compile(t, h, clusters(t, map[string]string{"c": app})), &wire.Peer{}, request("GET", "/"))
	if got.Status != 504 || got.Flag != wire.FlagDuration {
		t.Errorf("%+v", got)
	}
}

// endWrite ends what conn sends, and leaves the other direction open.
func endWrite(t *testing.T, conn net.Conn) {
	t.Helper()
	if tcp, ok := conn.(*net.TCPConn); ok {
		must(t, tcp.CloseWrite())
	}
}
