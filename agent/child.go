package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/serai-net/serai/agent/catalog"
)

// childStart is how long a Consul that we started may take to answer.
const childStart = 30 * time.Second

// startConsul starts `consul agent -dev` as our child. Stop ends it; it also
// ends when we are killed (on Linux).
func startConsul(ctx context.Context, config catalog.Config, log *slog.Logger) (stop func(), err error) {
	args, err := devArgs(config)
	if err != nil {
		return nil, err
	}
	path, err := exec.LookPath("consul")
	if err != nil {
		return nil, errors.New("no `consul` binary on PATH to start one: install Consul, or set CONSUL_HTTP_ADDR to an agent that runs")
	}
	output, err := os.CreateTemp("", "serai-dev-consul-*.log")
	if err != nil {
		return nil, fmt.Errorf("log of consul: %w", err)
	}
	cmd := exec.Command(path, args...) //nolint:noctx // ended by stop, gently first
	cmd.Stdout, cmd.Stderr = output, output
	cmd.SysProcAttr = childAttributes()
	started, done := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(done)
		defer output.Close()
		// The kernel ties the parent death signal to the thread that forks.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() //nolint:errcheck // how it ends is in its log
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start consul: %w", err)
	}
	log.Info("no Consul answered, so one was started as a child: it keeps nothing and ends with us",
		"command", strings.Join(append([]string{filepath.Base(path)}, args...), " "), "pid", cmd.Process.Pid, "log", output.Name())
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM) //nolint:errcheck // gone already is as good
		select {
		case <-done:
		case <-time.After(5 * time.Second):
			cmd.Process.Kill() //nolint:errcheck // likewise
			<-done
		}
		os.Remove(output.Name())
	}
	if err := waitConsul(ctx, config, done); err != nil {
		stop()
		return nil, err
	}
	return stop, nil
}

// devArgs puts the child at the address where Consul was looked for.
func devArgs(config catalog.Config) ([]string, error) {
	args := []string{"agent", "-dev", "-log-level", "warn"}
	address := config.Address
	if address == "" {
		return args, nil
	}
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		scheme, rest = "http", address
	}
	host, port, err := net.SplitHostPort(rest)
	ip := net.ParseIP(host)
	if err != nil || scheme != "http" || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return nil, fmt.Errorf("no Consul answers at %s, and one can be started only at a plain address of this machine", address)
	}
	return append(args, "-http-port", port), nil
}

func waitConsul(ctx context.Context, config catalog.Config, done <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, childStart)
	defer cancel()
	for {
		err := answers(ctx, config)
		if err == nil {
			return nil
		}
		select {
		case <-done:
			return errors.New("the consul that was started ended at once: is one of its ports in use?")
		case <-ctx.Done():
			return fmt.Errorf("the consul that was started does not answer: %w", err)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// answers tells whether a Consul with a leader answers.
func answers(ctx context.Context, config catalog.Config) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	client, err := catalog.NewClient(config)
	if err != nil {
		return err
	}
	return catalog.Ping(ctx, client)
}
