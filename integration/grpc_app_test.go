package integration_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// The methods of the gRPC service that an app of protocol grpc serves.
const (
	grpcSay   = "/serai.test.Echo/Say"   // unary: what it was told
	grpcFail  = "/serai.test.Echo/Fail"  // unary: an error, at once
	grpcCount = "/serai.test.Echo/Count" // client streaming: how much it was told
	grpcTell  = "/serai.test.Echo/Tell"  // server streaming: what it was told, ten times
	grpcTalk  = "/serai.test.Echo/Talk"  // both: each message back, before the next one comes
	grpcShy   = "/serai.test.Echo/Shy"   // unary: what it was told, unless that is its own name: then it is not available
	grpcHang  = "/serai.test.Echo/Hang"  // server streaming: one message, then nothing until it is cancelled
)

type text = wrapperspb.StringValue

// serveGRPC serves the methods above.
func (a *app) serveGRPC(t *testing.T, listener net.Listener) {
	t.Helper()
	server := grpc.NewServer()
	stream := func(name string, client, server bool, serve func(grpc.ServerStream) error) grpc.StreamDesc {
		return grpc.StreamDesc{StreamName: name, ClientStreams: client, ServerStreams: server, Handler: func(_ any, s grpc.ServerStream) error {
			a.hits.Add(1)
			return serve(s)
		}}
	}
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "serai.test.Echo", HandlerType: (*any)(nil),
		Streams: []grpc.StreamDesc{
			stream("Say", false, false, a.say), stream("Fail", false, false, fail), stream("Count", true, false, count),
			stream("Tell", false, true, tell), stream("Talk", true, true, talkBack), stream("Hang", false, true, a.hang),
			stream("Shy", false, false, a.shy),
		},
	}, a)
	t.Cleanup(server.Stop)
	go func() { _ = server.Serve(listener) }()
}

func (a *app) say(s grpc.ServerStream) error {
	m := &text{}
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	s.SetTrailer(metadata.Pairs("x-sum", fmt.Sprint(len(m.GetValue())), "x-raw-bin", "\x00\xff"))
	if md, ok := metadata.FromIncomingContext(s.Context()); ok {
		_ = s.SetHeader(metadata.Pairs("x-consumer", strings.Join(md.Get("x-serai-consumer"), ",")))
	}
	return s.SendMsg(wrapperspb.String(a.name + " " + m.GetValue()))
}

func (a *app) shy(s grpc.ServerStream) error {
	m := &text{}
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	if m.GetValue() == a.name {
		return status.Error(codes.Unavailable, "not to "+a.name)
	}
	return s.SendMsg(wrapperspb.String(a.name + " " + m.GetValue()))
}

func fail(grpc.ServerStream) error { return status.Error(codes.FailedPrecondition, "not today: ünï") }

func count(s grpc.ServerStream) error {
	total := 0
	for m := (&text{}); ; {
		switch err := s.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return s.SendMsg(wrapperspb.String(fmt.Sprint(total)))
		case err != nil:
			return err
		}
		total += len(m.GetValue())
	}
}

func tell(s grpc.ServerStream) error {
	m := &text{}
	if err := s.RecvMsg(m); err != nil {
		return err
	}
	for range 10 {
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
	return nil
}

func talkBack(s grpc.ServerStream) error {
	for m := (&text{}); ; {
		switch err := s.RecvMsg(m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if err := s.SendMsg(m); err != nil {
			return err
		}
	}
}

func (a *app) hang(s grpc.ServerStream) error {
	if err := s.SendMsg(wrapperspb.String("waiting")); err != nil {
		return err
	}
	<-s.Context().Done()
	a.cancelled.Add(1)
	return status.FromContextError(s.Context().Err()).Err()
}

// dialGRPC is a client of a service behind addr, with acme's key.
func dialGRPC(t *testing.T, addr string, more ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	key := metadata.Pairs("x-api-key", acmeKey)
	conn, err := grpc.NewClient("passthrough:///"+addr, append(more, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithStreamInterceptor(func(ctx context.Context, d *grpc.StreamDesc, c *grpc.ClientConn, method string, s grpc.Streamer, o ...grpc.CallOption) (grpc.ClientStream, error) {
			if _, ok := metadata.FromOutgoingContext(ctx); !ok {
				ctx = metadata.NewOutgoingContext(ctx, key)
			}
			return s(ctx, d, c, method, o...)
		}))...)
	must(t, err)
	t.Cleanup(func() { drop(conn) })
	return conn
}

// callGRPC is one call: it sends one message and takes one.
func callGRPC(ctx context.Context, conn *grpc.ClientConn, method, say string, options ...grpc.CallOption) (string, error) {
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{}, method, options...)
	if err != nil {
		return "", err
	}
	if err := errors.Join(s.SendMsg(wrapperspb.String(say)), s.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	m := &text{}
	if err := s.RecvMsg(m); err != nil {
		return "", err
	}
	return m.GetValue(), nil
}

// waitGRPC waits until a call succeeds.
func waitGRPC(t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	eventually(t, "an answer by gRPC", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := callGRPC(ctx, conn, grpcSay, "hello")
		return err
	})
}

// testGRPC makes calls of all kinds to the service of a.
func testGRPC(t *testing.T, conn *grpc.ClientConn, a *app) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	large := strings.Repeat("0123456789", 100_000)
	t.Run("unary", func(t *testing.T) {
		for _, say := range []string{"", "hello", large} {
			var trailer metadata.MD
			got, err := callGRPC(ctx, conn, grpcSay, say, grpc.Trailer(&trailer))
			must(t, err)
			sum, raw := strings.Join(trailer.Get("x-sum"), ","), strings.Join(trailer.Get("x-raw-bin"), ",")
			if got != a.name+" "+say || sum != fmt.Sprint(len(say)) || raw != "\x00\xff" {
				t.Errorf("of %d bytes came back %d, trailers %v", len(say), len(got), trailer)
			}
		}
	})
	t.Run("an error, as trailers only", func(t *testing.T) {
		_, err := callGRPC(ctx, conn, grpcFail, "")
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || s.Message() != "not today: ünï" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("client streaming", func(t *testing.T) { testCount(ctx, t, conn, large) })
	t.Run("server streaming", func(t *testing.T) { testTell(ctx, t, conn, large) })
	t.Run("both ways", func(t *testing.T) { testTalk(ctx, t, conn) })
	t.Run("cancelled", func(t *testing.T) { testHang(t, conn, a, false) })
	t.Run("deadline", func(t *testing.T) { testHang(t, conn, a, true) })
}

func testCount(ctx context.Context, t *testing.T, conn *grpc.ClientConn, large string) {
	t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, grpcCount)
	must(t, err)
	for range 5 {
		must(t, s.SendMsg(wrapperspb.String(large)))
	}
	must(t, s.CloseSend())
	m := &text{}
	must(t, s.RecvMsg(m))
	if want := fmt.Sprint(5 * len(large)); m.GetValue() != want {
		t.Errorf("it counted %s, not %s", m.GetValue(), want)
	}
}

func testTell(ctx context.Context, t *testing.T, conn *grpc.ClientConn, large string) {
	t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, grpcTell)
	must(t, err)
	must(t, errors.Join(s.SendMsg(wrapperspb.String(large)), s.CloseSend()))
	for n := 0; ; n++ {
		m := &text{}
		err := s.RecvMsg(m)
		if errors.Is(err, io.EOF) {
			if n != 10 {
				t.Errorf("%d messages came", n)
			}
			return
		}
		must(t, err)
		if m.GetValue() != large {
			t.Errorf("a message of %d bytes came", len(m.GetValue()))
		}
	}
}

// testTalk needs each message through before the next one is sent.
func testTalk(ctx context.Context, t *testing.T, conn *grpc.ClientConn) {
	t.Helper()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, grpcTalk)
	must(t, err)
	for n := range 50 {
		say := strings.Repeat("x", n*n*10)
		must(t, s.SendMsg(wrapperspb.String(say)))
		m := &text{}
		must(t, s.RecvMsg(m))
		if m.GetValue() != say {
			t.Fatalf("message %d came back with %d bytes", n, len(m.GetValue()))
		}
	}
	must(t, s.CloseSend())
	if err := s.RecvMsg(&text{}); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
}

// testHang leaves in the middle of a call, which the server must see.
func testHang(t *testing.T, conn *grpc.ClientConn, a *app, deadline bool) {
	t.Helper()
	before := a.cancelled.Load()
	limit, want := patience, codes.Canceled
	if deadline {
		limit, want = 3*time.Second, codes.DeadlineExceeded
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, grpcHang)
	must(t, err)
	must(t, errors.Join(s.SendMsg(wrapperspb.String("")), s.CloseSend()))
	must(t, s.RecvMsg(&text{}))
	if !deadline {
		cancel()
	}
	if err := s.RecvMsg(&text{}); status.Code(err) != want {
		t.Errorf("the client sees %v", err)
	}
	eventually(t, "the server sees it", func(context.Context) error {
		if a.cancelled.Load() == before {
			return errors.New("the call goes on")
		}
		return nil
	})
}
