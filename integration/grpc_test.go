package integration_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// TestGRPCRelay takes calls of grpc-go through the codec alone.
func TestGRPCRelay(t *testing.T) {
	t.Parallel()
	listen := func() net.Listener {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", local(0))
		must(t, err)
		return l
	}
	app := &app{name: "echo"}
	backend, relay := listen(), listen()
	app.serveGRPC(t, backend)
	serveRelay(t, relay, backend.Addr().String())
	conn := dialGRPC(t, relay.Addr().String())
	testGRPC(t, conn, app)
	var calls sync.WaitGroup
	for range 300 { // more than fit into one connection
		calls.Go(func() {
			if got, err := callGRPC(t.Context(), conn, grpcSay, "hello"); err != nil || got != "echo hello" {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	calls.Wait()
}

// serveRelay forwards what comes to listener to one connection, until the test ends.
func serveRelay(t *testing.T, listener net.Listener, to string) {
	t.Helper()
	upstream, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", to)
	must(t, err)
	client := http2.NewClientConn(upstream, http2.ClientConfig{MaxStreams: 1000})
	server := http2.NewServer(http2.Config{}, func() wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if !client.Acquire() {
				return nil, &wire.Fault{Status: 503, Text: "full"}
			}
			return client.RoundTrip(x, x.NewAttempt("upstream", time.Now()), req)
		})
	}, slog.New(slog.DiscardHandler))
	var running sync.WaitGroup
	var drain wire.Drain
	running.Go(func() { _ = client.Run() })
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() { server.Serve(conn, &wire.Peer{}, &drain) })
		}
	})
	t.Cleanup(func() {
		drop(listener)
		drain.Kill()
		drop(client)
		running.Wait()
	})
}

// TestGRPC calls a service of the mesh by gRPC: from the edge and from another service, by our sidecars and by Envoy.
// Web may call two methods of echo, the edge all of them.
func TestGRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"echo": "grpc", "their-echo": "grpc", "web": "grpc", "their-web": "grpc", "site": "http2"})
	w.allow(t, "edge", "echo", "their-echo", "site")
	w.allow(t, "their-web", "echo")
	w.allow(t, "web", "their-echo")
	must(t, w.consul.Intention(t.Context(), "web", "echo", true,
		&consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathExact: grpcSay}},
		&consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathExact: grpcTalk}},
	))
	echo := w.run(t, "echo-1", "echo")
	web := w.run(t, "web-1", "web", "echo", "their-echo")
	w.run(t, "site-1", "site")
	theirEcho, theirWeb := w.register(t, "their-echo-1", "their-echo"), w.register(t, "their-web-1", "their-web", "echo")
	w.envoy(t, theirEcho)
	w.envoy(t, theirWeb)
	g := w.edge(t, map[string]string{"serai.test.Echo": `service = "echo"`, "site": `service = "site"`})

	t.Run("edge", func(t *testing.T) { t.Parallel(); testGRPCEdge(t, dialGRPC(t, g.addr), echo) })
	t.Run("intentions", func(t *testing.T) { t.Parallel(); testGRPCIntentions(t, dialGRPC(t, local(web.upstreams["echo"]))) })
	t.Run("we call Envoy", func(t *testing.T) {
		t.Parallel()
		conn := dialGRPC(t, local(web.upstreams["their-echo"]))
		waitGRPC(t, conn)
		testGRPC(t, conn, theirEcho.app)
	})
	t.Run("Envoy calls us", func(t *testing.T) {
		t.Parallel()
		conn := dialGRPC(t, local(theirWeb.upstreams["echo"]))
		waitGRPC(t, conn)
		testGRPC(t, conn, echo.app)
	})
	t.Run("http2 from http", func(t *testing.T) {
		t.Parallel()
		w.waitOK(t, g.url("/site/"))
		if got := get(t, g.url("/site/")); got.body != "site-1" {
			t.Errorf("got %q", got.body)
		}
		testRequestBody(t, g.url("/site/echo"))
	})
}

// testRequestBody sends a body and wants it back.
func testRequestBody(t *testing.T, url string) {
	t.Helper()
	data := noise(t, 1<<20)
	got := ask(t, "POST", url, strings.NewReader(string(data)))
	if got.status != 200 || got.body != string(data) || got.header.Get("X-Sha256") != sum(data) {
		t.Errorf("status %d, %d bytes back of %d", got.status, len(got.body), len(data))
	}
}

func testGRPCEdge(t *testing.T, conn *grpc.ClientConn, echo *instance) {
	t.Helper()
	waitGRPC(t, conn)
	testGRPC(t, conn, echo.app)
	t.Run("consumer", func(t *testing.T) {
		var header metadata.MD
		_, err := callGRPC(t.Context(), conn, grpcSay, "hello", grpc.Header(&header))
		must(t, err)
		if got := header.Get("x-consumer"); len(got) != 1 || got[0] != "acme" {
			t.Errorf("the service is told of consumers %q", got)
		}
	})
	for _, c := range []struct {
		name, method string
		key          string
		code         codes.Code
	}{
		{"no key", grpcSay, "", codes.Unauthenticated},
		{"a wrong key", grpcSay, "wrong", codes.Unauthenticated},
		{"no route", "/serai.test.Other/Say", acmeKey, codes.Unimplemented},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := callGRPC(metadata.NewOutgoingContext(ctx, metadata.Pairs("x-api-key", c.key)), conn, c.method, "hello")
			if status.Code(err) != c.code {
				t.Errorf("got %v, want %v", err, c.code)
			}
		})
	}
}

func testGRPCIntentions(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	waitGRPC(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	testTalk(ctx, t, conn)
	for _, method := range []string{grpcFail, grpcCount} {
		_, err := callGRPC(ctx, conn, method, "hello")
		if s := status.Convert(err); s.Code() != codes.PermissionDenied || !strings.Contains(s.Message(), "RBAC") {
			t.Errorf("%s: %v", method, fmt.Sprint(err))
		}
	}
}

// TestGRPCDrain stops instances of a service as Nomad does, and starts others, while it is called through shared
// connections by the edge and by a sidecar: no call may be lost.
func TestGRPCDrain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"echo": "grpc", "web": "grpc"})
	w.allow(t, "edge", "echo")
	w.allow(t, "web", "echo")
	running := []*instance{w.run(t, "echo-1", "echo"), w.run(t, "echo-2", "echo")}
	web := w.run(t, "web-1", "web", "echo")
	g := w.edge(t, map[string]string{"serai.test.Echo": `service = "echo"`})
	var calls sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	var done atomic.Int64
	conns := map[string]*grpc.ClientConn{}
	for _, address := range []string{g.addr, local(web.upstreams["echo"])} {
		conn := dialGRPC(t, address)
		conns[address] = conn
		waitGRPC(t, conn)
		for range 8 {
			calls.Go(func() {
				for ctx.Err() == nil {
					if _, err := callGRPC(t.Context(), conn, grpcSay, "hello"); err != nil {
						t.Errorf("a call by %s was lost: %v", address, err)
						return
					}
					done.Add(1)
				}
			})
		}
	}
	for n, signal := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		next := w.run(t, fmt.Sprintf("echo-%d", n+3), "echo")
		sidecarReady(t, next)
		for address, conn := range conns {
			eventually(t, next.id+" to be called by "+address, func(ctx context.Context) error {
				got, err := callGRPC(ctx, conn, grpcSay, "hello")
				if err == nil && got != next.id+" hello" {
					err = errors.New(got)
				}
				return err
			})
		}
		w.stop(t, running[n], time.Second, signal)
	}
	stop()
	calls.Wait()
	t.Logf("%d calls", done.Load())
}
