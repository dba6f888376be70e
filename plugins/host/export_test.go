package host

import (
	"io"
	"log/slog"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// Timings are the bounds of waits.
type Timings = timings

// DefaultTimings are those of NewSet.
func DefaultTimings() Timings { return defaultTimings() }

// NewSetWith makes a Set with its own bounds.
func NewSetWith(log *slog.Logger, t Timings) *Set { return newSet(log, t) }

// ReadLog reads a plugin's standard error to its end, and returns what is kept
// of it.
func ReadLog(log *slog.Logger, r io.Reader) (tail string) {
	l := &pluginLog{log: log}
	l.read(r)
	return l.end()
}

// ParseLine reads one line.
func ParseLine(line []byte) slog.Record {
	record, _ := parseLine(line)
	return record
}

// The checks of answers.
func CheckIdentity(from *pluginpb.Identity) (*plugins.Identity, error) { return checkIdentity(from) }

func CheckRequestChange(from *pluginpb.RequestChange) (*plugins.RequestChange, error) {
	return checkRequestChange(from)
}

func CheckResponseChange(from *pluginpb.ResponseChange) (*plugins.ResponseChange, error) {
	return checkResponseChange(from)
}

func CheckRefusal(from *pluginpb.Refusal) (*plugins.Refusal, error) { return checkRefusal(from) }

// Pause is the pause before a start after so many failures.
func Pause(t Timings, failures int) int64 {
	return int64((&worker{times: t}).pause(failures))
}
