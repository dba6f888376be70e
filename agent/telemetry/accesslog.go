package telemetry

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/serai-net/serai/connect/logfile"
	"github.com/serai-net/serai/connect/wire"
)

// AccessLog writes one line for each exchange and TCP connection. Its
// destination is swapped by Prepare while exchanges go on; without one it costs
// nothing. It is safe for concurrent use.
type AccessLog struct {
	// set by NewAccessLog
	stdout io.Writer
	writer *logfile.Writer

	encode atomic.Pointer[encoder] // nil while the log is off
}

// encoder appends one line.
type encoder func(line []byte, p *Place, x *wire.Exchange) []byte

// AccessLogStats are counters since the start.
type AccessLogStats = logfile.Stats

// NewAccessLog returns a log that is off until Prepare. The path "-" stands for
// stdout; log is told when lines are lost.
func NewAccessLog(stdout io.Writer, log *slog.Logger) *AccessLog {
	return &AccessLog{stdout: stdout, writer: logfile.New(log)}
}

// Prepare opens what c names; commit puts it in force. A nil c turns the log
// off. A commit that is never called leaves a file open until the process ends.
func (l *AccessLog) Prepare(c *AccessLogConfig) (commit func(), err error) {
	if c == nil {
		return func() { l.swap(nil, nil) }, nil
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	out := logfile.To(l.stdout)
	if c.Path != "" && c.Path != "-" {
		if out, err = logfile.Open(c.Path); err != nil {
			return nil, at(c.Pos, "access_log: %v", err)
		}
	}
	encode := encoder(appendText)
	if json, _ := formats(c.Format); json {
		encode = appendJSON
	}
	return func() { l.swap(&encode, out) }, nil
}

func (l *AccessLog) swap(encode *encoder, out *logfile.Destination) {
	l.writer.Swap(out)
	l.encode.Store(encode)
}

// Run writes lines until ctx ends, then the rest of them, and closes the file.
// If the destination does not take the last lines in a while, they are lost, and
// an error says so. It is called once.
func (l *AccessLog) Run(ctx context.Context) error {
	err := l.writer.Run(ctx)
	l.encode.Store(nil)
	return err
}

// Log writes one line on x, which has ended, at p. The line is encoded under the
// lock, straight into the buffer: that takes less than a microsecond and no memory.
func (l *AccessLog) Log(p *Place, x *wire.Exchange) {
	if encode := l.encode.Load(); encode != nil {
		l.writer.Commit((*encode)(l.writer.Begin(), p, x))
	}
}

// Stats returns the counters.
func (l *AccessLog) Stats() AccessLogStats { return l.writer.Stats() }
