package host_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/host"
	"github.com/serai-net/serai/plugins/internal/handshake"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// actVariable makes this test binary one of the plugins below, or a host.
const actVariable = "SERAI_TEST_ACT"

// pidVariable names a file for the number of the process.
const pidVariable = "SERAI_TEST_PID"

// TestMain lets the test binary be the plugins that it tests with.
func TestMain(m *testing.M) {
	if file := os.Getenv(pidVariable); file != "" {
		if err := os.WriteFile(file, []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	switch act := os.Getenv(actVariable); act {
	case "":
		os.Exit(m.Run())
	case "good":
		plugins.Serve(plugins.Plugin{Name: "good", Version: "1.2.3", New: newGood})
	case "transforms":
		plugins.Serve(plugins.Plugin{Name: "transforms", New: func(map[string]any, *slog.Logger) (any, error) {
			return struct{ plugins.Transformer }{&good{}}, nil
		}})
	case "useless":
		plugins.Serve(plugins.Plugin{Name: "useless", New: func(map[string]any, *slog.Logger) (any, error) { return 1, nil }})
	case "stubborn": // it does not end its uses
		plugins.Serve(plugins.Plugin{Name: "stubborn", New: func(map[string]any, *slog.Logger) (any, error) { return &stubborn{}, nil }})
	case "liar":
		serveRaw(handshake.Version, &liar{})
	case "version":
		serveRaw(99, &liar{})
	case "mute": // it shakes hands and then answers nothing
		serveRaw(handshake.Version, &mute{})
	case "none":
		fmt.Fprintln(os.Stderr, "I am only a program")
		fmt.Fprintln(os.Stderr, "and need a file")
		os.Exit(3)
	case "hello":
		fmt.Fprintln(os.Stdout, "hello, world")
		io.Copy(io.Discard, os.Stdin) //nolint:errcheck // until the host has had enough
	case "silent":
		select {}
	case "host":
		actAsHost()
	default:
		fmt.Fprintln(os.Stderr, "no such act:", act)
		os.Exit(2)
	}
}

// good does what the path of the request says.
type good struct {
	consumer string
	log      *slog.Logger
}

func newGood(settings map[string]any, log *slog.Logger) (any, error) {
	if text, ok := settings["refuse"].(string); ok {
		return nil, errors.New(text)
	}
	if file, ok := settings["needs"].(string); ok {
		if _, err := os.Stat(file); err != nil {
			return nil, fmt.Errorf("needs: %w", err)
		}
	}
	consumer, _ := settings["consumer"].(string)
	log.Info("a use begins", "consumer", consumer)
	fmt.Fprintln(os.Stdout, "printed on standard output")
	return &good{consumer: consumer, log: log}, nil
}

// Close implements io.Closer.
func (g *good) Close() error {
	g.log.Info("a use ends", "consumer", g.consumer)
	return nil
}

func (g *good) Authenticate(ctx context.Context, r *plugins.Request) (*plugins.Identity, error) {
	path, argument, _ := strings.Cut(strings.TrimPrefix(r.Path, "/"), "/")
	switch path {
	case "refuse":
		return nil, fmt.Errorf("wrapped: %w", &plugins.Refusal{
			Status: http.StatusUnauthorized, Text: "who are you?",
			Header: []plugins.Field{{Name: "www-authenticate", Value: "Good"}},
		})
	case "fail":
		return nil, errors.New("no database\x1b[2J")
	case "nothing":
		return nil, nil
	case "panic":
		panic("at the disco")
	case "exit":
		fmt.Fprintln(os.Stderr, "last words")
		os.Exit(7)
	case "hang": // whatever the context says
		select {}
	case "wait":
		<-ctx.Done()
		return nil, ctx.Err()
	case "child":
		cmd := exec.Command("sleep", "3600")
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &plugins.Identity{Consumer: strconv.Itoa(cmd.Process.Pid)}, nil
	case "env":
		return &plugins.Identity{Consumer: "env:" + strings.Join(os.Environ(), ",")}, nil
	case "body":
		return &plugins.Identity{Consumer: "body:" + string(r.Body)}, nil
	case "name":
		return &plugins.Identity{Consumer: argument}, nil
	}
	return &plugins.Identity{
		Consumer: g.consumer, Remove: []string{"authorization"},
		Set: []plugins.Field{{Name: "x-pid", Value: strconv.Itoa(os.Getpid())}},
	}, nil
}

func (*good) TransformRequest(_ context.Context, r *plugins.Request) (*plugins.RequestChange, error) {
	switch r.Path {
	case "/keep":
		return nil, nil
	case "/refuse":
		return nil, &plugins.Refusal{Status: 451, Text: "not here"}
	}
	return &plugins.RequestChange{
		HeaderChange: plugins.HeaderChange{
			Remove: []string{"a"}, Set: []plugins.Field{{Name: "b", Value: r.Get("b") + "\xff!"}}, Add: []plugins.Field{{Name: "c", Value: ""}},
		},
		Path: "/changed" + r.Path,
	}, nil
}

func (*good) TransformResponse(_ context.Context, r *plugins.Request, resp *plugins.Response) (*plugins.ResponseChange, error) {
	if r.Path == "/keep" {
		return nil, nil
	}
	return &plugins.ResponseChange{
		HeaderChange: plugins.HeaderChange{Set: []plugins.Field{{Name: "was", Value: strconv.Itoa(resp.Status) + resp.Get("x")}}}, Status: 299,
	}, nil
}

// stubborn never ends a use.
type stubborn struct{ plugins.Transformer }

func (*stubborn) Close() error { select {} }

// liar answers what the path says, past all that package plugins does.
type liar struct {
	pluginpb.UnimplementedPluginServer
}

func (*liar) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	return &pluginpb.DescribeResponse{Name: strings.Repeat("\x1b", 1000), Version: "0"}, nil
}

func (*liar) Open(_ context.Context, r *pluginpb.OpenRequest) (*pluginpb.OpenResponse, error) {
	return &pluginpb.OpenResponse{Authenticates: true, Transforms: true}, nil
}

func (*liar) Close(context.Context, *pluginpb.CloseRequest) (*pluginpb.CloseResponse, error) {
	return nil, status.Error(codes.Internal, "never")
}

func (*liar) Authenticate(_ context.Context, r *pluginpb.AuthenticateRequest) (*pluginpb.AuthenticateResponse, error) {
	header := func(h *pluginpb.HeaderChange) *pluginpb.AuthenticateResponse {
		return &pluginpb.AuthenticateResponse{Answer: &pluginpb.AuthenticateResponse_Identity{
			Identity: &pluginpb.Identity{Consumer: []byte("acme"), Header: h},
		}}
	}
	refusal := func(r *pluginpb.Refusal) *pluginpb.AuthenticateResponse {
		return &pluginpb.AuthenticateResponse{Answer: &pluginpb.AuthenticateResponse_Refusal{Refusal: r}}
	}
	name := []byte("x-a")
	switch string(r.GetRequest().GetPath()) {
	case "/empty":
		return &pluginpb.AuthenticateResponse{}, nil
	case "/injection":
		return header(&pluginpb.HeaderChange{Set: []*pluginpb.Field{{Name: name, Value: []byte("a\r\nx-b: c")}}}), nil
	case "/name":
		return header(&pluginpb.HeaderChange{Set: []*pluginpb.Field{{Name: []byte("x a")}}}), nil
	case "/framing":
		return header(&pluginpb.HeaderChange{Remove: [][]byte{[]byte("content-length")}}), nil
	case "/identity":
		return header(&pluginpb.HeaderChange{Set: []*pluginpb.Field{{Name: []byte("x_serai-consumer"), Value: []byte("admin")}}}), nil
	case "/many":
		return header(&pluginpb.HeaderChange{Set: slicesRepeat(&pluginpb.Field{Name: name}, 1000)}), nil
	case "/huge":
		return header(&pluginpb.HeaderChange{Set: []*pluginpb.Field{{Name: name, Value: make([]byte, 8<<20)}}}), nil
	case "/large":
		return header(&pluginpb.HeaderChange{Set: []*pluginpb.Field{{Name: name, Value: []byte(strings.Repeat("a", 100<<10))}}}), nil
	case "/status":
		return refusal(&pluginpb.Refusal{Status: 200}), nil
	case "/text":
		return refusal(&pluginpb.Refusal{Status: 400, Text: make([]byte, 5000)}), nil
	case "/code":
		return nil, status.Error(codes.PermissionDenied, "made up\x00")
	}
	return header(nil), nil
}

func slicesRepeat[T any](one T, n int) []T {
	all := make([]T, n)
	for i := range all {
		all[i] = one
	}
	return all
}

// mute answers nothing but the handshake.
type mute struct {
	pluginpb.UnimplementedPluginServer
}

func (*mute) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	select {}
}

// raw serves a server as it is.
type raw struct {
	plugin.NetRPCUnsupportedPlugin
	server pluginpb.PluginServer
}

func (r *raw) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginpb.RegisterPluginServer(s, r.server)
	return nil
}

func (*raw) GRPCClient(context.Context, *plugin.GRPCBroker, *grpc.ClientConn) (any, error) {
	return nil, errors.New("not a host")
}

func serveRaw(version uint, server pluginpb.PluginServer) {
	cookie := handshake.Config()
	cookie.ProtocolVersion = version
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: cookie, Plugins: plugin.PluginSet{handshake.Service: &raw{server: server}},
		GRPCServer: plugin.DefaultGRPCServer, Logger: hclog.NewNullLogger(),
	})
}

// actAsHost runs a plugin, tells its process number, and waits to be killed.
func actAsHost() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	set := host.NewSet(log)
	c, err := actor("good")
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	plan, err := set.Prepare(context.Background(), []host.Config{c}, nil)
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return
	}
	plan.Commit()
	fmt.Fprintln(os.Stdout, set.Stats()[0].Pid)
	if err := set.Run(context.Background()); err != nil {
		fmt.Fprintln(os.Stdout, err)
	}
	select {}
}
