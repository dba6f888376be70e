package main

import (
	"context"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/telemetry"
)

// observe makes what sees the exchanges of a proxy, as its flags say. reopen
// opens the access log again.
func observe(c *cli.Context, log *slog.Logger) (seen *telemetry.Observer, reopen func(), err error) {
	limit := &telemetry.MetricsConfig{MaxSeries: c.Int("metrics-max-series")}
	if err := limit.Validate(); err != nil {
		return nil, nil, &usageError{command: c.Command.Name, err: err}
	}
	accessLog := telemetry.NewAccessLog(os.Stdout, log)
	var config *telemetry.AccessLogConfig
	if path := c.String("access-log"); path != "" {
		config = &telemetry.AccessLogConfig{Path: path, Format: c.String("access-log-format")}
	}
	commit, err := accessLog.Prepare(config)
	if err != nil {
		return nil, nil, &usageError{command: c.Command.Name, err: err}
	}
	commit()
	return telemetry.NewObserver(telemetry.NewMetrics(limit), accessLog), func() {
		commit, err := accessLog.Prepare(config)
		if err != nil {
			log.Error("access log not opened again, the old file stays", "err", err)
			return
		}
		commit()
		log.Info("access log opened again", "path", c.String("access-log"))
	}, nil
}

// onHangup calls f on each SIGHUP until ctx ends or stop is called, which waits.
func onHangup(ctx context.Context, f func()) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, syscall.SIGHUP)
	var running sync.WaitGroup
	running.Go(func() {
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
				f()
			}
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}
