package main

import (
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/telemetry"
)

// observe makes what sees the exchanges of a proxy, as its flags say. reopen
// opens the access log again, if there is one.
func observe(c *cli.Context, log *slog.Logger) (seen *telemetry.Observer, reopen func(), err error) {
	limit := &telemetry.MetricsConfig{MaxSeries: c.Int("metrics-max-series")}
	if err := limit.Validate(); err != nil {
		return nil, nil, &usageError{command: c.Command.Name, err: err}
	}
	accessLog := telemetry.NewAccessLog(os.Stdout, log)
	var config *telemetry.AccessLogConfig
	switch path, format := c.String("access-log"), c.String("access-log-format"); {
	case path != "":
		config = &telemetry.AccessLogConfig{Path: path, Format: format}
	case format != "":
		return nil, nil, &usageError{command: c.Command.Name, err: errors.New("-access-log-format goes with -access-log")}
	}
	commit, err := accessLog.Prepare(config)
	if err != nil {
		return nil, nil, &usageError{command: c.Command.Name, err: err}
	}
	commit()
	return telemetry.NewObserver(telemetry.NewMetrics(limit), accessLog), func() {
		if config == nil {
			return
		}
		commit, err := accessLog.Prepare(config)
		if err != nil {
			log.Error("access log not opened again, the old file stays", "err", err)
			return
		}
		commit()
		log.Info("access log opened again", "path", c.String("access-log"))
	}, nil
}

// onReopen calls f on each SIGUSR1, by which Envoy is told to open its log files
// again, and on each SIGHUP, until stop is called, which waits. Neither ends the
// process meanwhile, also while it drains.
func onReopen(f func()) (stop func()) {
	told, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(told, syscall.SIGHUP, syscall.SIGUSR1)
	var running sync.WaitGroup
	running.Go(func() {
		defer signal.Stop(told)
		for {
			select {
			case <-done:
				return
			case <-told:
				f()
			}
		}
	})
	return func() {
		close(done)
		running.Wait()
	}
}
