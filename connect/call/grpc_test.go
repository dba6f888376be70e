package call_test

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// health answers as the name of the asked service says.
type health struct {
	healthv1.UnimplementedHealthServer
	deadlines chan bool
}

func (h *health) Check(ctx context.Context, req *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	_, hasDeadline := ctx.Deadline()
	md, _ := metadata.FromIncomingContext(ctx)
	switch req.GetService() {
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "deadline":
		h.deadlines <- hasDeadline
	case "denied":
		return nil, status.Error(codes.PermissionDenied, "not for you: 100 % \x01 größer")
	case "metadata":
		if strings.Join(md.Get("x-who"), ",") != "me" || strings.Join(md.Get(":authority"), ",") != "health.test" {
			return nil, status.Errorf(codes.InvalidArgument, "%v", md)
		}
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}, nil
}

// grpcServer is a real server of gRPC.
func grpcServer(t *testing.T) (address string, h *health) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h = &health{deadlines: make(chan bool, 1)}
	s := grpc.NewServer()
	healthv1.RegisterHealthServer(s, h)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	return l.Addr().String(), h
}

func check(ctx context.Context, to wire.Service, service string) (string, error) {
	message, err := proto.Marshal(&healthv1.HealthCheckRequest{Service: service})
	if err != nil {
		return "", err
	}
	answer, err := call.Unary(ctx, to, "health.test", healthv1.Health_Check_FullMethodName, []wire.Field{{Name: "x-who", Value: "me"}}, message)
	if err != nil {
		return "", err
	}
	resp := &healthv1.HealthCheckResponse{}
	if err := proto.Unmarshal(answer, resp); err != nil {
		return "", err
	}
	return resp.GetStatus().String(), nil
}

func TestUnary(t *testing.T) {
	t.Parallel()
	address, h := grpcServer(t)
	c := cluster(t, address, mesh.HTTP2)
	for _, service := range []string{"", "metadata", strings.Repeat("long", 100_000)} {
		if got, err := check(t.Context(), c, service); got != "SERVING" || err != nil {
			t.Errorf("%.10s: %q, %v", service, got, err)
		}
	}
	_, err := check(t.Context(), c, "denied")
	var got *call.StatusError
	errors.As(err, &got)
	want := &call.StatusError{Code: 7, Message: "not for you: 100 % \x01 größer"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := check(ctx, c, "deadline"); err != nil || !<-h.deadlines {
		t.Errorf("the server was not told the deadline: %v", err)
	}
	short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := check(short, c, "wait"); err == nil {
		t.Error("waited for ever, and got an answer")
	}
	if _, err := call.Unary(t.Context(), c, "a", "/no.Such/Method", nil, nil); !errors.As(err, &got) || got.Code != 12 {
		t.Errorf("unknown method: %v", err)
	}
	if s := c.Stats(); s.Active != 0 || s.Connects != 1 {
		t.Errorf("%+v", s)
	}
}

// What no server of gRPC answers.
func TestUnaryOdd(t *testing.T) {
	t.Parallel()
	message := func(flag byte, size uint32, body string) string {
		return string(binary.BigEndian.AppendUint32([]byte{flag}, size)) + body
	}
	tests := []struct {
		name   string
		status int
		head   []wire.Field
		body   string
		code   int
		text   string
	}{
		{"no status", 200, nil, message(0, 1, "x"), 13, "the response has no grpc-status"},
		{"http", 503, nil, "down", 14, "HTTP status 503"},
		{"http with a status", 503, []wire.Field{{Name: "grpc-status", Value: "8"}}, "", 8, ""},
		{"bad status", 200, []wire.Field{{Name: "grpc-status", Value: "17"}}, "", 2, `grpc-status "17"`},
		{"worse status", 200, []wire.Field{{Name: "grpc-status", Value: "-1"}}, "", 2, `grpc-status "-1"`},
		{"bad message", 200, []wire.Field{{Name: "grpc-status", Value: "5"}, {Name: "grpc-message", Value: "100%zz"}}, "", 5, "100%zz"},
		{"nothing", 200, []wire.Field{{Name: "grpc-status", Value: "0"}}, "", 13, "the response has no message"},
		{"compressed", 200, []wire.Field{{Name: "grpc-status", Value: "0"}}, message(1, 1, "x"), 13, "the response is compressed, which nobody asked for"},
		{"short", 200, []wire.Field{{Name: "grpc-status", Value: "0"}}, message(0, 2, "x"), 13, "the response is not one whole message"},
		{"two", 200, []wire.Field{{Name: "grpc-status", Value: "0"}}, message(0, 1, "x") + message(0, 1, "x"), 13, "the response is not one whole message"},
	}
	for _, tt := range tests {
		service := wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
			if !x.GRPC {
				t.Error("the cluster does not know that it is gRPC")
			}
			resp := &wire.Response{Status: tt.status, ContentLength: int64(len(tt.body)), Body: wire.NewBytes([]byte(tt.body))}
			for _, f := range tt.head {
				resp.Header.Add(f.Name, f.Value)
			}
			return resp, nil
		})
		_, err := call.Unary(t.Context(), service, "a", "/a/b", nil, nil)
		var got *call.StatusError
		errors.As(err, &got)
		if diff := cmp.Diff(&call.StatusError{Code: tt.code, Message: tt.text}, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

func FuzzUnframe(f *testing.F) {
	f.Add("0", "", "\x00\x00\x00\x00\x01x")
	f.Add("7", "a%20b", "")
	f.Fuzz(func(t *testing.T, code, message, body string) {
		service := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			resp := &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: wire.NewBytes([]byte(body))}
			resp.Header.Add("grpc-status", code)
			resp.Header.Add("grpc-message", message)
			return resp, nil
		})
		answer, err := call.Unary(t.Context(), service, "a", "/a/b", nil, nil)
		whole := len(body) >= 5 && body[0] == 0 && int64(binary.BigEndian.Uint32([]byte(body[1:5]))) == int64(len(body)-5)
		if (err == nil) != (whole && strings.Trim(code, "0") == "" && code != "") || err == nil && body[5:] != string(answer) {
			t.Errorf("%q, %v", answer, err)
		}
	})
}
