package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
)

// stuck is a writer that takes nothing until it is let go.
type stuck struct {
	letGo chan struct{}
	taken bytes.Buffer
}

func (s *stuck) Write(p []byte) (int, error) {
	<-s.letGo
	return s.taken.Write(p)
}

// started is a log that writes to w, with Run under way.
func started(t *testing.T, w interface{ Write([]byte) (int, error) }) (l *telemetry.AccessLog, stop func() error) {
	t.Helper()
	l = telemetry.NewAccessLog(w, discard())
	commit, err := l.Prepare(&telemetry.AccessLogConfig{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	return l, func() error {
		cancel()
		return <-done
	}
}

// A destination that takes nothing costs lines, which are counted, but never
// time: neither an exchange's nor the end of the process.
func TestAccessLogStuck(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{letGo: make(chan struct{})}
		l, stop := started(t, w)
		x, p := exchange(), edge()
		l.Log(p, x)
		synctest.Wait()
		begin := time.Now()
		const many = 30000 // more than fit
		for range many {
			l.Log(p, x)
		}
		if s := l.Stats(); s.Dropped == 0 || s.Written != 0 {
			t.Errorf("%+v", s)
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("logging has waited %v", took)
		}
		<-time.After(time.Second) // the first line is being written
		if err := stop(); err == nil || !strings.Contains(err.Error(), "the destination does not take them") {
			t.Errorf("%v", err)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("the end has taken %v", took)
		}
		close(w.letGo)
		synctest.Wait()
		if s := l.Stats(); s.Written+s.Dropped+s.Failed != many+1 {
			t.Errorf("of %d lines: %+v", many+1, s)
		}
	})
}

// What was only slow is written in the end.
func TestAccessLogSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &stuck{letGo: make(chan struct{})}
		l, stop := started(t, w)
		for range 100 {
			l.Log(edge(), exchange())
		}
		go func() {
			<-time.After(200 * time.Millisecond)
			close(w.letGo)
		}()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := l.Stats(); s.Written != 100 || bytes.Count(w.taken.Bytes(), []byte("\n")) != 100 {
			t.Errorf("%+v", s)
		}
	})
}

// full takes some bytes and then fails, until there is room again.
type full struct {
	room  int
	taken bytes.Buffer
}

var errFull = errors.New("no space left")

func (f *full) Write(p []byte) (int, error) {
	n := min(len(p), f.room)
	f.taken.Write(p[:n])
	f.room -= n
	if n < len(p) {
		return n, errFull
	}
	return n, nil
}

// A full disk tears one line; those before are counted as written, and those
// after are whole.
func TestAccessLogFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &full{room: 1000}
		l, stop := started(t, w)
		log := func() {
			for range 10 {
				l.Log(edge(), exchange())
			}
			<-time.After(time.Second)
		}
		log()
		before := l.Stats()
		if before.Written == 0 || before.Failed == 0 || before.Written+before.Failed != 10 {
			t.Errorf("%+v", before)
		}
		w.room = 1 << 20
		log()
		if err := stop(); err != nil {
			t.Error(err)
		}
		if s := l.Stats(); s.Written != before.Written+10 || s.Failed != before.Failed {
			t.Errorf("%+v", s)
		}
		whole := int64(0)
		for line := range strings.Lines(w.taken.String()) {
			if json.Valid([]byte(line)) {
				whole++
			}
		}
		if whole != before.Written+10 {
			t.Errorf("%d whole lines in\n%s", whole, w.taken.String())
		}
	})
}
