package telemetry

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// AccessLogConfig is the log of exchanges, one line for each.
//
//	access_log {
//	  path   = "/var/log/serai/access.log"
//	  format = "json"
//	}
type AccessLogConfig struct {
	// Path is the file that lines are appended to, which is opened again at
	// each reload; "-" or "" is standard output.
	Path string `hcl:"path,optional,path"`
	// Format is "json", for machines, or "text", for people; "" means "text".
	Format string `hcl:"format,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells what is wrong, with the block's position in front.
func (c *AccessLogConfig) Validate() error {
	if _, ok := formats(c.Format); !ok {
		return at(c.Pos, "access_log: format is %q; it can be \"text\" or \"json\"", c.Format)
	}
	return nil
}

// LogConfig is what Serai itself logs, to standard error.
//
//	log { level = "debug" }
type LogConfig struct {
	// Level is "debug", "info", "warn" or "error"; the zero Level is info.
	Level slog.Level `hcl:"level,optional"`
	// Format is "json", for machines, or "text", for people; "" means "text".
	Format string `hcl:"format,optional"`
	// Pos is where the block stands, "" if it was not read from a file.
	Pos string `hcl:",pos"`
}

// Validate tells what is wrong, with the block's position in front.
func (c *LogConfig) Validate() error {
	if _, ok := formats(c.Format); !ok {
		return at(c.Pos, "log: format is %q; it can be \"text\" or \"json\"", c.Format)
	}
	return nil
}

// NewLogger makes the logger that c describes.
func NewLogger(w io.Writer, c LogConfig) *slog.Logger { return NewLoggerAt(w, c, c.Level) }

// NewLoggerAt makes the logger that c describes, but for its level, which may
// change.
func NewLoggerAt(w io.Writer, c LogConfig, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// formats tells whether name is a format, and whether that is JSON.
func formats(name string) (json, ok bool) {
	switch name {
	case "", "text":
		return false, true
	case "json":
		return true, true
	default:
		return false, false
	}
}

// at puts a position in front of an error.
func at(position, format string, args ...any) error {
	text := fmt.Sprintf(format, args...)
	if position != "" {
		text = position + ": " + text
	}
	return errors.New(text)
}
