package host_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/serai-net/serai/plugins/host"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// untimed logs without times.
func untimed(w *bytes.Buffer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})).With("plugin", "p")
}

func TestLog(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ name, in, want string }{
		{"slog", `{"time":"2026-01-02T03:04:05Z","level":"WARN","msg":"late","by":1.5,"a":"b c","plugin":"other"}`, `level=WARN msg=late plugin=p a="b c" by=1.5`},
		{"hclog", `{"@level":"error","@message":"no","@module":"m","@timestamp":"2026-01-02T03:04:05.000000Z","k":true}`, `level=ERROR msg=no plugin=p k=true`},
		{"trace", `{"@level":"trace","@message":"detail"}`, ""}, // below what the logger takes
		{"types that are wrong", `{"@level":1,"@message":[],"msg":{}}`, `level=INFO msg="" plugin=p @level=1 @message=[] msg=map[]`},
		{"unknown level", `{"level":"fatal","msg":"x"}`, `level=INFO msg=x plugin=p`},
		{"plain", "hello\tworld\x1b[0m\xff\r", "level=INFO msg=\"hello\\tworld[0m\ufffd\" plugin=p"},
		{"broken JSON", `{"msg":`, `level=INFO msg="{\"msg\":" plugin=p`},
		{"panic", "panic: no\n\ngoroutine 1", "level=ERROR msg=\"panic: no\" plugin=p\nlevel=ERROR msg=\"\" plugin=p\nlevel=ERROR msg=\"goroutine 1\" plugin=p"},
		{"long", strings.Repeat("a", 20<<10) + "\nb", `level=INFO msg=` + strings.Repeat("a", 8<<10) + " plugin=p\nlevel=INFO msg=b plugin=p"},
	} {
		var out bytes.Buffer
		host.ReadLog(untimed(&out), strings.NewReader(row.in))
		if got := strings.TrimSuffix(out.String(), "\n"); got != row.want {
			t.Errorf("%s:\ngot  %s\nwant %s", row.name, got, row.want)
		}
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	tail := host.ReadLog(quiet(), strings.NewReader(strings.Repeat("begin\n", 1000)+`{"msg":"near the end"}`+"\nend\n"))
	if len(tail) > 2<<10 || !strings.HasSuffix(tail, "begin\nnear the end\nend") {
		t.Errorf("%d bytes: %q", len(tail), tail)
	}
}

// flood writes so many lines, and then one more after a second.
type flood struct{ left int }

func (f *flood) Read(b []byte) (int, error) {
	if f.left--; f.left == 0 {
		time.Sleep(time.Second) //nolint:forbidigo // on synctest's clock
	}
	return copy(b, fmt.Sprintf("line %d\n", f.left)), map[bool]error{f.left < 0: fmt.Errorf("over")}[true]
}

func TestLogFlood(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		host.ReadLog(untimed(&out), &flood{left: 1000})
		if got := strings.Count(out.String(), "msg=\"line "); got < 200 || got > 203 {
			t.Errorf("%d lines of 1000", got)
		}
		if !strings.Contains(out.String(), `msg="lines of a plugin's log dropped, there were too many in a second" plugin=p dropped=`) {
			t.Errorf("what was dropped is not told: %s", out.String()[max(0, out.Len()-300):])
		}
	})
}

func FuzzLog(f *testing.F) {
	f.Add([]byte(`{"level":"WARN","msg":"late","by":1.5}`))
	f.Add([]byte(`{"@level":"error","@message":1,"@timestamp":[]}`))
	f.Add([]byte("panic: x\n\xff\x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		record := host.ParseLine(line)
		if !utf8.ValidString(record.Message) || strings.ContainsAny(record.Message, "\x00\x1b\r") {
			t.Errorf("message %q", record.Message)
		}
		if tail := host.ReadLog(quiet(), bytes.NewReader(line)); !utf8.ValidString(tail) || len(tail) > 3*2<<10 {
			t.Errorf("tail %q", tail)
		}
	})
}
