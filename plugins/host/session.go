package host

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"

	"github.com/serai-net/serai/plugins/internal/handshake"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// session is a plugin's process and the connection to it. It does not come back:
// when it has ended there is a new one.
type session struct {
	client        *plugin.Client
	process       *process
	rpc           pluginpb.PluginClient
	log           *pluginLog
	name, version string // as the plugin tells them
	began         time.Time

	ended   chan struct{}  // closed when the process has ended
	running sync.WaitGroup // the goroutines of watch
}

// startSession starts the binary and shakes hands. What is wrong is told in
// words for the operator.
func startSession(ctx context.Context, c *Config, limit time.Duration, log *slog.Logger) (*session, error) {
	if err := verify(c); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	s := &session{log: &pluginLog{log: log}, began: time.Now(), ended: make(chan struct{})}
	s.process = newProcess(s.log)
	cause := s.connect(ctx, c, limit)
	if cause == nil {
		return s, nil
	}
	late := errors.Is(ctx.Err(), context.DeadlineExceeded)
	s.process.kill()
	s.cleanUp()
	switch {
	case errors.Is(cause, syscall.ENOEXEC):
		return nil, fmt.Errorf("%s is no program for this machine: %w", c.Command, cause)
	case !s.process.isStarted():
		return nil, fmt.Errorf("start %s: %w", c.Command, cause)
	case ctx.Err() != nil && !late:
		return nil, fmt.Errorf("start %s: %w", c.Command, ctx.Err())
	}
	return nil, explain(c, s.process, s.log, limit, late, cause)
}

// verify looks at the file: the last moment before it is run.
func verify(c *Config) error {
	if err := checkFile(c.Command); err != nil {
		return err
	}
	pinned, err := c.sum()
	if err != nil {
		return err
	}
	secure := plugin.SecureConfig{Checksum: pinned, Hash: sha256.New()}
	ok, err := secure.Check(c.Command)
	if err != nil {
		return fmt.Errorf("read the binary for its checksum: %w", err)
	}
	if !ok {
		return wrongChecksum(c.Command, pinned, secure.Hash.Sum(nil))
	}
	return nil
}

// connect makes process, connection and client, as far as it gets.
func (s *session) connect(ctx context.Context, c *Config, limit time.Duration) error {
	defer context.AfterFunc(ctx, s.process.kill)()
	s.client = plugin.NewClient(&plugin.ClientConfig{
		HandshakeConfig:  handshake.Config(),
		Plugins:          plugin.PluginSet{handshake.Service: connection{}},
		AllowedProtocols: []plugin.Protocol{plugin.ProtocolGRPC},
		AutoMTLS:         true,
		SkipHostEnv:      true,
		StartTimeout:     limit,
		Logger:           hclog.NewNullLogger(), // what it has to say, we say ourselves
		SyncStdout:       s.log,
		SyncStderr:       s.log,
		GRPCDialOptions: []grpc.DialOption{
			grpc.WithIdleTimeout(0), // the socket's file is gone: nobody could connect again
			grpc.WithDefaultCallOptions(
				grpc.MaxCallRecvMsgSize(handshake.MaxHead), grpc.MaxCallSendMsgSize(c.MaxBody+handshake.MaxHead)),
		},
		RunnerFunc: func(_ hclog.Logger, made *exec.Cmd, dir string) (runner.Runner, error) {
			s.process.prepare(c, made, dir)
			return s.process, nil
		},
	})
	if _, err := s.client.Start(); err != nil {
		return err
	}
	protocol, err := s.client.Client()
	if err != nil {
		return err
	}
	raw, err := protocol.Dispense(handshake.Service)
	if err != nil {
		return err
	}
	conn, ok := raw.(*grpc.ClientConn)
	if !ok {
		return fmt.Errorf("go-plugin gave a %T for a connection", raw)
	}
	s.rpc = pluginpb.NewPluginClient(conn)
	about, err := s.rpc.Describe(ctx, &pluginpb.DescribeRequest{})
	if err != nil {
		return err
	}
	s.name, s.version = bounded(about.GetName(), 128), bounded(about.GetVersion(), 128)
	if err := os.RemoveAll(s.process.dir); err != nil {
		return err
	}
	s.watch(conn)
	return nil
}

// watch sees the end of the process, and ends it when its connection does:
// there is no other one.
func (s *session) watch(conn *grpc.ClientConn) {
	ctx, stop := context.WithCancel(context.Background())
	s.running.Go(func() {
		for conn.GetState() == connectivity.Ready && conn.WaitForStateChange(ctx, connectivity.Ready) {
		}
		s.process.kill()
	})
	s.running.Go(func() {
		<-s.process.exited
		close(s.ended)
		stop()
	})
}

// isUp tells whether calls make sense.
func (s *session) isUp() bool {
	select {
	case <-s.ended:
		return false
	default:
		return true
	}
}

// stop ends the process, by force after grace, and all that belongs to it. It is
// called once.
func (s *session) stop(grace time.Duration) {
	s.process.hangUp()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-s.process.exited:
	case <-timer.C:
		s.log.log.Warn("plugin does not end, so it is killed", "after", grace)
		s.process.kill()
	}
	s.cleanUp()
	s.running.Wait()
}

// cleanUp waits for the end of a process that is about to end, and gives back
// what it used.
func (s *session) cleanUp() {
	if s.process.isStarted() {
		<-s.process.exited
	}
	close(s.process.told)
	s.client.Kill() // it has ended; this closes the connection, ends go-plugin's goroutines and removes the socket
	s.process.reading.Wait()
	s.process.closePipes()
}

// connection is how go-plugin hands out the connection.
type connection struct {
	plugin.NetRPCUnsupportedPlugin
}

var _ plugin.GRPCPlugin = connection{}

// GRPCServer implements plugin.GRPCPlugin; the plugin has its own.
func (connection) GRPCServer(*plugin.GRPCBroker, *grpc.Server) error { return nil }

// GRPCClient implements plugin.GRPCPlugin.
func (connection) GRPCClient(_ context.Context, _ *plugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return conn, nil
}
