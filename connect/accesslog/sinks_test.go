package accesslog_test

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// An update that changes nothing goes on while lines are written.
func TestCompileAgainMeanwhile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	s := accesslog.New(accesslog.Node{}, io.Discard, io.Discard, nil, slog.New(slog.DiscardHandler))
	all := []*mesh.AccessLog{text(path, "x\n")}
	place := s.Compile(all).At(accesslog.Exchanges, "")
	var writing sync.WaitGroup
	writing.Go(func() {
		for range 100 {
			place.End(exchange())
		}
	})
	for range 100 {
		s.Begin()
		s.Compile(all)
		s.Sweep()
	}
	writing.Wait()
	s.Close()
	if got, _ := s.Stats(); got.Written != 100 {
		t.Errorf("%+v", got)
	}
}

// What was counted stays when a log is gone.
func TestStatsOfGone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := accesslog.New(accesslog.Node{}, io.Discard, io.Discard, func(string) wire.Service { return nil }, slog.New(slog.DiscardHandler))
		place := s.Compile([]*mesh.AccessLog{text("/dev/stdout", "x\n"), {OTLP: &mesh.LogOTLP{Cluster: "none"}}}).At(accesslog.Exchanges, "")
		place.End(exchange())
		time.Sleep(5 * time.Second) //nolint:forbidigo // of a bubble
		lines, records := s.Stats()
		s.Begin()
		s.Sweep()
		synctest.Wait()
		if files, collectors := s.Stats(); files.Written != 1 || collectors.Failed != 1 || files != lines || collectors != records {
			t.Errorf("%+v and %+v, then %+v and %+v", lines, records, files, collectors)
		}
		s.Close()
	})
}

// slow is a collector that answers when the caller has given up.
func slow(string) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
		<-x.Context().Done()
		return nil, wire.Aborted(context.Cause(x.Context()))
	})
}

// A collector that takes its time does not hold up the end.
func TestCloseInTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := accesslog.New(accesslog.Node{}, io.Discard, io.Discard, slow, slog.New(slog.DiscardHandler))
		place := s.Compile([]*mesh.AccessLog{{OTLP: &mesh.LogOTLP{Cluster: "slow"}}}).At(accesslog.Exchanges, "")
		place.End(exchange())
		time.Sleep(2 * time.Second) //nolint:forbidigo // of a bubble: it is being sent
		began := time.Now()
		s.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		if s.Compile([]*mesh.AccessLog{{OTLP: &mesh.LogOTLP{Cluster: "slow", Name: "late"}}}) != nil {
			t.Error("a collector is asked after the end")
		}
	})
}

// A connection that lives while its log moves to another file is still written of in the one that it began with.
func TestMovedMeanwhile(t *testing.T) {
	t.Parallel()
	before, after := filepath.Join(t.TempDir(), "before"), filepath.Join(t.TempDir(), "after")
	synctest.Test(t, func(t *testing.T) {
		var collected atomic.Int64
		s := accesslog.New(accesslog.Node{}, io.Discard, io.Discard, func(string) wire.Service {
			return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
				collected.Add(1)
				return &wire.Response{Status: 200}, nil
			})
		}, slog.New(slog.DiscardHandler))
		otlp := &mesh.AccessLog{OTLP: &mesh.LogOTLP{Cluster: "c", HTTP: "/"}}
		old := s.Compile([]*mesh.AccessLog{text(before, "old\n"), otlp}).At(accesslog.Connections, "")
		long, short := exchange(), exchange()
		old.On(long)
		s.Begin()
		now := s.Compile([]*mesh.AccessLog{text(after, "new\n")}).At(accesslog.Connections, "")
		s.Sweep()
		old.On(short) // which had found it just before
		short.Done(time.Now())
		now.On(short)
		time.Sleep(time.Hour) //nolint:forbidigo // of a bubble
		long.Done(time.Now())
		time.Sleep(time.Minute) //nolint:forbidigo // of a bubble
		if got := read(t, before); got != "old\nold\n" || collected.Load() != 2 {
			t.Errorf("%q, and %d reports", got, collected.Load())
		}
		files, collectors := s.Stats()
		s.Close()
		if files.Written != 2 || collectors.Written != 2 {
			t.Errorf("counted %+v and %+v", files, collectors)
		}
	})
}
