package lua_test

import (
	"io"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/filter/lua"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// slow is a body that comes when it is let.
type slow struct{ asked, let chan struct{} }

func (s *slow) Read([]byte) (int, error) {
	close(s.asked)
	<-s.let
	return 0, io.EOF
}
func (s *slow) Trailer() *wire.Header { return nil }
func (s *slow) Close() error          { return nil }

// Scripts that wait for slow clients do not take all memory, and what is beyond them does not pass unscripted.
func TestScriptsAreBounded(t *testing.T) {
	t.Parallel()
	var registry stats.Registry
	f, err := lua.New(&mesh.Lua{Code: `function envoy_on_request(h) h:body() end`}, lua.Place{
		Stats: registry.Scope("lua."), Log: slog.New(slog.DiscardHandler), MaxRuns: 1,
	})
	if err != nil {
		t.Fatal(err)
	}
	passed := 0
	chain := f.Layer(nil)(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		passed++
		return &wire.Response{Status: http.StatusOK}, nil
	}))
	serve := func(body wire.Body) error {
		x := &wire.Exchange{}
		x.Reset(nil, &wire.Peer{}, time.Now())
		defer x.Done(time.Now())
		_, err := chain.Serve(x, &wire.Request{Method: "POST", Authority: "a", Path: "/", Proto: 1, Minor: 1, Body: body, ContentLength: wire.UnknownLength})
		return err
	}
	body := &slow{asked: make(chan struct{}), let: make(chan struct{})}
	first := make(chan error, 1)
	go func() { first <- serve(body) }()
	<-body.asked
	if err := serve(wire.NewBytes([]byte("x"))); wire.AsFault(err).Status != http.StatusServiceUnavailable || passed != 0 {
		t.Errorf("beyond the bound: %v, %d passed", err, passed)
	}
	close(body.let)
	if err := <-first; err != nil {
		t.Errorf("the one under way: %v", err)
	}
	if err := serve(wire.NewBytes([]byte("x"))); err != nil || passed != 2 {
		t.Errorf("afterwards: %v, %d passed", err, passed)
	}
}
