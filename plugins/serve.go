package plugins

import (
	"context"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"github.com/serai-net/serai/plugins/internal/handshake"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// closeTime is how long uses may take to close when the host has gone. The host
// kills the process after one second.
const closeTime = 500 * time.Millisecond

// Serve is all that main does: it serves p until the host goes, and then ends
// the process. Called by hand, it says what the binary is for and exits with 1.
func Serve(p Plugin) {
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	s := &server{plugin: p, log: log, stderr: os.Stderr, uses: map[uint64]*use{}}
	cookie := handshake.Config()
	if os.Getenv(cookie.MagicCookieKey) == cookie.MagicCookieValue {
		go endWithHost(s)
	}
	plugin.Serve(&plugin.ServeConfig{
		HandshakeConfig: cookie,
		Plugins:         plugin.PluginSet{handshake.Service: &served{server: s}},
		GRPCServer: func(options []grpc.ServerOption) *grpc.Server {
			return grpc.NewServer(append(options,
				grpc.MaxRecvMsgSize(handshake.MaxBody+handshake.MaxHead),
				// It bounds goroutines, too: with so many calls unfinished nothing
				// more is read, not even pings.
				grpc.MaxConcurrentStreams(handshake.MaxCalls),
			)...)
		},
		Logger: hclog.NewNullLogger(), // what it has to say, the host says better
	})
	s.closeAll()
}

// endWithHost ends the process when the host has: it holds the other end of our
// standard input, and never writes.
func endWithHost(s *server) {
	_, _ = io.Copy(io.Discard, os.Stdin) // an error is an end, too
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.closeAll()
	}()
	select {
	case <-done:
	case <-time.After(closeTime):
	}
	if dir := os.Getenv(plugin.EnvUnixSocketDir); dir != "" {
		_ = os.RemoveAll(dir) // of this process alone; the host has usually done it
	}
	os.Exit(0)
}

// served is how go-plugin gets to know the server.
type served struct {
	plugin.NetRPCUnsupportedPlugin
	server *server
}

var _ plugin.GRPCPlugin = (*served)(nil)

// GRPCServer implements plugin.GRPCPlugin.
func (p *served) GRPCServer(_ *plugin.GRPCBroker, s *grpc.Server) error {
	pluginpb.RegisterPluginServer(s, p.server)
	return nil
}

// GRPCClient implements plugin.GRPCPlugin; the host has its own.
func (*served) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, _ *grpc.ClientConn) (any, error) {
	return nil, nil //nolint:nilnil // never called in a plugin
}
