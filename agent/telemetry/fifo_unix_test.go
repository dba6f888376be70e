//go:build unix

package telemetry_test

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/serai-net/serai/agent/telemetry"
)

func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Skipf("no FIFO can be made: %v", err)
	}
	return path
}

// A FIFO that nobody reads is an error, at once.
func TestAccessLogFIFOWithoutReader(t *testing.T) {
	t.Parallel()
	path := fifo(t)
	l := telemetry.NewAccessLog(nil, discard())
	_, err := l.Prepare(&telemetry.AccessLogConfig{Path: path, Pos: "e.hcl:3"})
	if want := "e.hcl:3: access_log: open " + path + ": it is a FIFO that nobody reads"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// A reader that stops reading does not hold up the end, and what it has got is
// whole lines but for the last.
func TestAccessLogFullFIFO(t *testing.T) {
	t.Parallel()
	path := fifo(t)
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // read and write: it waits for nobody
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l := telemetry.NewAccessLog(nil, discard())
	commit, err := l.Prepare(&telemetry.AccessLogConfig{Path: path, Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	const many = 5000
	for range many {
		l.Log(edge(), exchange())
	}
	if err := stopped(t, l); err == nil {
		t.Error("no error tells that lines are lost")
	}
	s := l.Stats()
	if s.Written == 0 || s.Failed+s.Dropped == 0 || s.Written+s.Failed+s.Dropped != many {
		t.Errorf("%+v", s)
	}
	lines := bufio.NewReader(reader)
	for range s.Written {
		line, err := lines.ReadString('\n')
		if err != nil || !json.Valid([]byte(line)) {
			t.Fatalf("%v: %s", err, strings.TrimSpace(line))
		}
	}
}
