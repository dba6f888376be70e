package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/telemetry"
)

// memoryShare is the part of the cgroup's memory that the Go heap aims to stay
// under; the rest is for stacks and the kernel's buffers.
const memoryShare = 0.9

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
)

// colours tells whether to is a terminal, and its user likes colours.
func colours(to *os.File) bool {
	info, err := to.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("NO_COLOR") == ""
}

// paint colours text on a terminal, and only there.
func paint(to *os.File, colour, text string) string {
	if !colours(to) {
		return text
	}
	return colour + text + "\x1b[0m"
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(unknown version)"
	}
	return info.Main.Version
}

// processFlags are those of every command that serves.
func processFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "log-level", Aliases: []string{"l"}, Usage: "trace, debug, info, warn, error or off (default: info)"},
		&cli.StringFlag{Name: "log-format", Usage: "text or json (default: text)"},
		&cli.IntFlag{Name: "concurrency", Usage: "threads that run Go code (GOMAXPROCS); 0 is one for each CPU that the cgroup allows"},
	}
}

// setUp applies processFlags: the logger, threads, and a memory limit from the
// cgroup, unless GOMEMLIMIT says otherwise. file is what a configuration says of
// the log, under what flags say.
func setUp(c *cli.Context, file *telemetry.LogConfig) (*slog.Logger, error) {
	var config telemetry.LogConfig
	if file != nil {
		config = *file
	}
	if err := logFlags(c, &config); err != nil {
		return nil, err
	}
	log := telemetry.NewLogger(os.Stderr, config)
	limits(c, log)
	return log, nil
}

// setUpAt is setUp with a level that may change, and the file to log to that
// --log-path names; nil for standard error.
func setUpAt(c *cli.Context, level *slog.LevelVar) (log *slog.Logger, file *logPath, err error) {
	var config telemetry.LogConfig
	if err := logFlags(c, &config); err != nil {
		return nil, nil, err
	}
	level.Set(config.Level)
	var to io.Writer = os.Stderr
	if path := c.String("log-path"); path != "" {
		if file, err = openLogPath(path); err != nil {
			return nil, nil, err
		}
		to = file
	}
	log = telemetry.NewLoggerAt(to, config, level)
	limits(c, log)
	return log, file, nil
}

// logFlags puts what flags say of the log over what config does.
func logFlags(c *cli.Context, config *telemetry.LogConfig) error {
	if name := c.String("log-level"); name != "" {
		level, err := logLevel(name)
		if err != nil {
			return &usageError{command: c.Command.Name, err: err}
		}
		config.Level = level
	}
	switch format := c.String("log-format"); {
	case format == "":
	case format == "json":
		config.Format = "json"
	case format == "text", strings.Contains(format, "%"): // Envoy's is a pattern; whoever gives one wants text
		config.Format = "text"
	default:
		return &usageError{command: c.Command.Name, err: fmt.Errorf("-log-format %q: it can be text or json", format)}
	}
	return nil
}

// limits sets the threads and the memory limit.
func limits(c *cli.Context, log *slog.Logger) {
	// Whoever reads our output may go; what we serve stays. (Go would end the
	// process at the next line.)
	signal.Ignore(syscall.SIGPIPE)
	if n := c.Int("concurrency"); n > 0 {
		runtime.GOMAXPROCS(n)
	}
	limit, err := memlimit.Set(memlimit.WithRatio(memoryShare), memlimit.WithProvider(allowedMemory))
	if err != nil {
		log.Debug("no memory limit", "err", err)
	} else if limit < math.MaxInt64 {
		log.Debug("memory limit", "bytes", limit)
	}
}

// allowedMemory is the limit of our cgroup, in bytes. The chroot of Nomad's exec
// driver shows no cgroup; there it is what Nomad says that it has set.
func allowedMemory() (uint64, error) {
	limit, err := memlimit.FromCgroup()
	if err == nil || errors.Is(err, memlimit.ErrNoLimit) {
		return limit, err
	}
	for _, name := range []string{"NOMAD_MEMORY_MAX_LIMIT", "NOMAD_MEMORY_LIMIT"} {
		if megabytes, err := strconv.ParseUint(os.Getenv(name), 10, 32); err == nil && megabytes > 0 {
			return megabytes << 20, nil
		}
	}
	return 0, err
}

// logLevel takes slog's levels and Envoy's.
func logLevel(name string) (slog.Level, error) {
	switch strings.ToLower(name) {
	case "trace", "debug":
		return slog.LevelDebug, nil
	case "info", "":
		return slog.LevelInfo, nil
	case "warn", "warning":
		return slog.LevelWarn, nil
	case "error", "err", "critical":
		return slog.LevelError, nil
	case "off":
		return slog.LevelError + 100, nil
	}
	return 0, fmt.Errorf("-log-level %q: it can be trace, debug, info, warn, error or off", name)
}
