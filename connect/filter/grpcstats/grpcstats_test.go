package grpcstats_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/filter/grpcstats"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// pieces is a body that comes in pieces, with a trailer.
type pieces struct {
	all     []string
	trailer wire.Header
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.all) == 0 {
		return 0, io.EOF
	}
	n := copy(b, p.all[0])
	if p.all[0] = p.all[0][n:]; p.all[0] == "" {
		p.all = p.all[1:]
	}
	return n, nil
}

func (p *pieces) Trailer() *wire.Header { return &p.trailer }
func (p *pieces) Close() error          { return nil }

// call has a filter see one call, whose request and response are read to their ends.
func call(t *testing.T, layer wire.Layer, path string, request, response []string, status string, fail error) {
	t.Helper()
	x, req := &wire.Exchange{}, &wire.Request{Method: "POST", Path: path, Body: &pieces{all: request}}
	x.Reset(nil, &wire.Peer{}, time.Now())
	req.Header.Add("content-type", "application/grpc")
	resp, err := layer(wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if fail != nil {
			return nil, fail
		}
		x.NewAttempt("c", time.Now())
		if _, err := io.Copy(io.Discard, reader{req.Body}); err != nil {
			t.Error(err)
		}
		body := &pieces{all: response}
		if status != "" {
			body.trailer.Add("grpc-status", status)
		}
		return &wire.Response{Status: 200, Body: body}, nil
	})).Serve(x, req)
	if err == nil {
		if _, err := io.Copy(io.Discard, reader{resp.Body}); err != nil {
			t.Error(err)
		}
	}
	x.Done(time.Now())
}

type reader struct{ wire.Body }

func counted(r *stats.Registry) map[string]int64 {
	all := map[string]int64{}
	for s := range r.All() {
		if s.Value != 0 {
			all[s.Name] = s.Value
		}
	}
	return all
}

func TestMessages(t *testing.T) {
	t.Parallel()
	var registry stats.Registry
	layer := grpcstats.Layer(&mesh.GRPCStats{AllMethods: true}, &registry, func(*wire.Exchange, *wire.Request) string { return "routed" })
	message := "\x00\x00\x00\x00\x03abc"
	call(t, layer, "/p.S/M?q", []string{message + message, message[:2], message[2:7], message[7:]}, []string{"\x00\x00\x00\x00\x00", message}, "0", nil)
	call(t, layer, "/p.S/M", nil, nil, "7", nil)
	call(t, layer, "/p.S/M", nil, []string{message[:4]}, "", nil) // reset: no status, no message
	call(t, layer, "/p.S/M", nil, nil, "", &wire.Fault{Status: 403})
	call(t, layer, "/p.S/M", nil, nil, "", errors.New("oops"))
	call(t, layer, "/p.S", nil, nil, "0", nil)
	call(t, layer, "/p/S/M", nil, nil, "0", nil)
	call(t, layer, "/p.S/N", nil, nil, "very long and none of gRPC's", nil)
	if diff := cmp.Diff(map[string]int64{
		"cluster.c.grpc.p.S.M.request_message_count": 3, "cluster.c.grpc.p.S.M.response_message_count": 2,
		"cluster.c.grpc.p.S.M.0": 1, "cluster.c.grpc.p.S.M.success": 1, "cluster.c.grpc.p.S.M.7": 1, "cluster.c.grpc.p.S.M.failure": 1, "cluster.c.grpc.p.S.M.total": 2,
		"cluster.routed.grpc.p.S.M.7": 1, "cluster.routed.grpc.p.S.M.2": 1, "cluster.routed.grpc.p.S.M.failure": 2, "cluster.routed.grpc.p.S.M.total": 2,
		"cluster.c.grpc.p.S.N.2": 1, "cluster.c.grpc.p.S.N.failure": 1, "cluster.c.grpc.p.S.N.total": 1,
	}, counted(&registry)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestNames: what clients ask for makes so many names and no more.
func TestNames(t *testing.T) {
	t.Parallel()
	var registry stats.Registry
	layer := grpcstats.Layer(&mesh.GRPCStats{AllMethods: true}, &registry, nil)
	for i := range 1000 {
		call(t, layer, fmt.Sprintf("/s/m%d", i), nil, nil, "0", nil)
	}
	named := 0
	for _, name := range slices.Sorted(maps.Keys(counted(&registry))) {
		if strings.HasPrefix(name, "cluster.c.grpc.s.m") && strings.HasSuffix(name, ".total") {
			named++
		}
	}
	if rest := counted(&registry)["cluster.c.grpc.total"]; named > 500 || int64(named)+rest != 1000 {
		t.Errorf("%d names, and %d calls without", named, rest)
	}
}

// TestNamesOfAll: to configure it anew makes no room for more and more names, and what has one keeps it.
func TestNamesOfAll(t *testing.T) {
	t.Parallel()
	var registry stats.Registry
	for round := range 10 {
		layer := grpcstats.Layer(&mesh.GRPCStats{AllMethods: true}, &registry, nil)
		call(t, layer, "/s/kept", nil, nil, "0", nil)
		for i := range 600 {
			call(t, layer, fmt.Sprintf("/s/m%d_%d", round, i), nil, nil, "0", nil)
		}
	}
	named, all := 0, counted(&registry)
	for name := range all {
		if strings.HasPrefix(name, "cluster.c.grpc.s.") && strings.HasSuffix(name, ".total") {
			named++
		}
	}
	if named > 2000 || named < 1000 || all["cluster.c.grpc.s.kept.total"] != 10 {
		t.Errorf("%d names; the one that was there is counted %d times", named, all["cluster.c.grpc.s.kept.total"])
	}
}

func TestAllowlist(t *testing.T) {
	t.Parallel()
	var registry stats.Registry
	layer := grpcstats.Layer(&mesh.GRPCStats{Methods: []string{"p.S/M"}, PlainServices: true}, &registry, nil)
	for _, path := range []string{"/p.S/M", "/p.S/N", "/p.S/O"} {
		call(t, layer, path, nil, nil, "0", nil)
	}
	got := counted(&registry)
	if got["cluster.c.grpc.p_S.M.total"] != 1 || got["cluster.c.grpc.total"] != 2 {
		t.Errorf("%v", got)
	}
}

// TestOthersPass: a request that is none of gRPC goes through untouched, and for
// free.
func TestOthersPass(t *testing.T) {
	layer := grpcstats.Layer(&mesh.GRPCStats{AllMethods: true}, nil, nil)
	resp := &wire.Response{}
	service := layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return resp, nil }))
	x, req := &wire.Exchange{}, &wire.Request{Path: "/a/b"}
	if n := testing.AllocsPerRun(100, func() { _, _ = service.Serve(x, req) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// An upstream makes no names of its own.
func TestStatus(t *testing.T) {
	t.Parallel()
	var registry stats.Registry
	layer := grpcstats.Layer(&mesh.GRPCStats{}, &registry, nil)
	for _, status := range []string{"16", "17", "99", "xy", "+1", "03", "-1", "a", ".."} {
		call(t, layer, "/s/m", nil, nil, status, nil)
	}
	want := map[string]int64{"cluster.c.grpc.2": 8, "cluster.c.grpc.16": 1, "cluster.c.grpc.failure": 9, "cluster.c.grpc.total": 9}
	if diff := cmp.Diff(want, counted(&registry)); diff != "" {
		t.Error(diff)
	}
}
