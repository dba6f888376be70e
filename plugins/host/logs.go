package host

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxLine bounds a line of a plugin's log, in bytes; the rest is cut.
	maxLine = 8 << 10
	// maxLines bounds the lines of a plugin in one second; the rest is counted.
	maxLines = 200
	// maxTail bounds what is kept to explain why a process ended, in bytes.
	maxTail = 2 << 10
)

// pluginLog puts what a plugin writes into our log. It is safe for concurrent
// use.
type pluginLog struct {
	log *slog.Logger

	mu      sync.Mutex // guards:
	tail    []byte
	panics  bool      // what follows is the trace of a panic
	second  time.Time // when counting began
	lines   int
	dropped int
}

// read reads lines to the end of r.
func (l *pluginLog) read(r io.Reader) {
	lines := bufio.NewReaderSize(r, maxLine)
	cut := false // the line's begin has been seen
	for {
		line, err := lines.ReadSlice('\n')
		if !cut && len(line) > 0 {
			l.line(bytes.TrimRight(line, "\r\n"))
		}
		cut = errors.Is(err, bufio.ErrBufferFull)
		if err != nil && !cut {
			return
		}
	}
}

// Write implements io.Writer for output that comes in pieces; each is taken for
// whole lines.
func (l *pluginLog) Write(b []byte) (int, error) {
	for line := range bytes.Lines(b) {
		if line = bytes.TrimRight(line, "\r\n"); len(line) > 0 {
			l.line(line[:min(len(line), maxLine)])
		}
	}
	return len(b), nil
}

// end is the end of what was written.
func (l *pluginLog) end() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return clean(strings.TrimSpace(string(l.tail)))
}

func (l *pluginLog) line(line []byte) {
	record, ok := parseLine(line)
	l.mu.Lock()
	text := line
	if ok {
		text = []byte(record.Message)
	}
	l.tail = append(append(l.tail, text...), '\n')
	l.tail = append(l.tail[:0], l.tail[max(0, len(l.tail)-maxTail):]...)
	if !ok {
		l.panics = l.panics || bytes.HasPrefix(line, []byte("panic: ")) || bytes.HasPrefix(line, []byte("fatal error: "))
		if l.panics {
			record.Level = slog.LevelError
		}
	}
	dropped, write := l.allow()
	l.mu.Unlock()
	if dropped > 0 {
		l.log.Warn("lines of a plugin's log dropped, there were too many in a second", "dropped", dropped)
	}
	if handler := l.log.Handler(); write && handler.Enabled(context.Background(), record.Level) {
		_ = handler.Handle(context.Background(), record) // as a Logger does
	}
}

// allow counts a line; mu is held. It also returns how many were dropped in the
// second before, once.
func (l *pluginLog) allow() (dropped int, write bool) {
	if now := time.Now(); now.Sub(l.second) >= time.Second {
		dropped = l.dropped
		l.second, l.lines, l.dropped = now, 0, 0
	}
	if l.lines++; l.lines > maxLines {
		l.dropped++
		return dropped, false
	}
	return dropped, true
}

// parseLine reads a line as slog's JSON handler or hclog write it. Any other is
// a message of level info, and not ok.
func parseLine(line []byte) (record slog.Record, ok bool) {
	var fields map[string]any
	if len(line) == 0 || line[0] != '{' || json.Unmarshal(line, &fields) != nil {
		return slog.NewRecord(time.Now(), slog.LevelInfo, clean(string(line)), 0), false
	}
	level, message := slog.LevelInfo, ""
	for _, key := range []string{"level", "@level"} {
		if text, isText := fields[key].(string); isText {
			level = parseLevel(text)
			delete(fields, key)
			break
		}
	}
	for _, key := range []string{"msg", "@message"} {
		if text, isText := fields[key].(string); isText {
			message = clean(text)
			delete(fields, key)
			break
		}
	}
	for _, ours := range []string{"time", "@timestamp", "@module", "@caller", "plugin"} {
		delete(fields, ours)
	}
	record = slog.NewRecord(time.Now(), level, message, 0)
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		record.AddAttrs(slog.Any(clean(key), fields[key]))
	}
	return record, true
}

func parseLevel(text string) slog.Level {
	var level slog.Level
	if strings.EqualFold(text, "trace") {
		return slog.LevelDebug - 4
	}
	if level.UnmarshalText([]byte(text)) != nil {
		return slog.LevelInfo
	}
	return level
}

// clean makes text of a plugin fit for a log: valid UTF-8, and no control
// characters but line ends and tabs.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, strings.ToValidUTF8(text, "\ufffd"))
}
