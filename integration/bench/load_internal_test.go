//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestMain lets the test binary be the load and the backend, as the command is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "load" || os.Args[1] == "backend") {
		if err := run(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestLoads makes each load against the backend that answers it, without a proxy between.
func TestLoads(t *testing.T) {
	t.Parallel()
	for _, s := range scenarios() {
		if s.tls || s.routes+s.clusters > 0 || s.log || s.pair != "" {
			continue // their loads are those of others, or want a proxy
		}
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			addr := backendFor(t, s)
			if err := probe(t.Context(), s, addr); err != nil {
				t.Fatal(err)
			}
			load := s.load
			load.Addr, load.Paths, load.Warm, load.Time = addr, s.paths(), 20*time.Millisecond, 200*time.Millisecond
			load.PIDs = []int{os.Getpid()}
			for _, rate := range []int{0, 200} {
				load.Rate = rate
				got, err := runLoad(t.Context(), &load)
				if err != nil {
					t.Fatal(err)
				}
				if got.Requests == 0 || got.Errors > 0 || got.Time < load.Time || (got.P99 > 0) != (rate > 0) || got.P50 > got.P99 {
					t.Errorf("at %d requests/s: %+v", rate, got)
				}
			}
			if s.load.Protocol == loadStream {
				return // an echo is as long as what was sent
			}
			load.Rate = 0
			load.Body++ // which no answer has
			if got, err := runLoad(t.Context(), &load); err == nil && (got.Requests > 0 || got.Errors == 0) {
				t.Errorf("answers that are too short are taken for right: %+v", got)
			}
		})
	}
}

func backendFor(t *testing.T, s *scenario) string {
	t.Helper()
	env := harness.ForTest(t)
	port, _, err := (&world{env: env}).startBackend(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return local(port)
}

// TestRefused tells a proxy that is not there.
func TestRefused(t *testing.T) {
	t.Parallel()
	port, err := harness.ForTest(t).Port()
	if err != nil {
		t.Fatal(err)
	}
	for _, protocol := range []string{loadPlain, loadH2} {
		_, err := makeLoad(&loadConfig{Protocol: protocol, Addr: local(port), Paths: []string{"/"}, Conns: 1, Streams: 1, Time: time.Millisecond})
		if err == nil || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%s: got %v", protocol, err)
		}
	}
}

// TestScenario runs one with our binary: a row has numbers, and all is stopped in the end.
func TestScenario(t *testing.T) {
	env := harness.ForTest(t)
	path, err := findSerai(nil)
	if err != nil {
		harness.Skip(t, err.Error())
	}
	cores, err := claimCores()
	if err != nil {
		harness.Skip(t, err.Error())
	}
	w := &world{env: env, cores: cores}
	if err := w.certify(); err != nil {
		t.Fatal(err)
	}
	chosen, err := choose("h1-512,tls-full")
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		world: w, peers: []*peer{seraiPeer()}, paths: map[string]string{ours: path},
		rounds: 1, seconds: 300 * time.Millisecond, say: t.Logf,
	}
	for _, s := range chosen {
		rows, err := b.scenario(context.Background(), s)
		if err != nil {
			t.Fatal(err)
		}
		if len(rows) != 1 {
			t.Fatalf("%s: %d rows", s.name, len(rows))
		}
		r := rows[0]
		if r.Problem != "" || r.Rate == 0 || r.CPU == 0 || r.Memory == 0 || r.Errors > 0 {
			t.Errorf("%s: %+v", s.name, r)
		}
		var table strings.Builder
		if err := writeTable(&table, s, rows); err != nil || !strings.Contains(table.String(), "serai") {
			t.Errorf("%s: %v, table:\n%s", s.name, err, &table)
		}
	}
}
