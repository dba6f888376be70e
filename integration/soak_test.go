package integration_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// soakTime is how long TestSoak makes traffic where the variable SOAK does not say.
const soakTime = 10 * time.Second

// soak is the world of TestSoak:
//
//	clients ── edge ═══╦═ api-1, api-2, ...  http, all but the first come and go
//	           web-1 ══╬═ site-1             http2
//	                   ╠═ flaky-1            http, breaks its answers off
//	                   ╠═ flaky2-1           http2, breaks its answers off
//	                   ╠═ echo-1             grpc
//	                   ╚═ db-1               tcp, from web only
type soak struct {
	*world
	gate    *gate
	web     *instance
	secure  string   // host:port of the edge's listener with TLS
	public  string   // host:port of the public listener of api-1
	process []*vital // whose leaks are looked for
	log     []*harness.Process
}

// TestSoak sends traffic of all kinds through the edge and through pairs of sidecars, by clients and to upstreams that
// are slow, break off, stall, and send garbage, while endpoints come and go and the edge's file changes. What is answered
// must be right, what nobody has broken must be answered, and at the end nothing may be left: no goroutine, no
// connection, no memory.
//
// SOAK says how long (10m); without it, it is a short one.
func TestSoak(t *testing.T) {
	t.Parallel()
	long, err := time.ParseDuration(cmp.Or(os.Getenv("SOAK"), soakTime.String()))
	must(t, err)
	s := newSoak(t)
	// Once through all of it, so that the baseline has what stays: pools, tables, code that was read in.
	count := newTally()
	s.traffic(t, min(long/5, 10*time.Second), count, nil)
	if long >= soakLong {
		pause(t, 65*time.Second) // until there are no idle connections any more
	}
	for _, v := range s.process {
		v.base = v.atFirst(t)
		t.Logf("%s at first: %v", v.name, v.base)
	}
	count = newTally()
	s.traffic(t, long, count, func(ctx context.Context) { s.disturb(ctx, t) })
	count.check(t)
	for _, v := range s.process {
		t.Logf("%s at last: %v", v.name, v.atLast(t, long))
	}
	for _, p := range s.log {
		if logHas(p, "panic", "DATA RACE", "level=ERROR") {
			t.Errorf("%s complains: see its log", p.Name)
		}
	}
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	protocols := map[string]string{
		"api": "http", "site": "http2", "flaky": "http", "flaky2": "http2", "echo": "grpc", "web": "http",
	}
	s := &soak{world: newWorld(t, protocols)}
	services := []string{"api", "site", "flaky", "flaky2", "echo"}
	s.allow(t, "edge", services...)
	s.allow(t, "web", append(services, "db")...)
	for _, service := range append(services, "db") {
		i := s.run(t, service+"-1", service)
		s.watch(i.sidecar, i.id, local(i.admin))
		if service == "api" {
			s.public = local(i.public)
		}
	}
	s.web = s.run(t, "web-1", "web", append(services, "db")...)
	s.watch(s.web.sidecar, s.web.id, local(s.web.admin))
	s.startEdge(t)
	for _, service := range services[:4] {
		s.waitOK(t, s.gate.url("/"+service+"/"), s.web.url(service, "/"))
	}
	waitTCP(t, local(s.web.upstreams["db"]))
	for _, addr := range []string{s.gate.addr, local(s.web.upstreams["echo"])} {
		waitGRPC(t, dialGRPC(t, addr))
	}
	return s
}

func (s *soak) watch(p *harness.Process, name, admin string) {
	s.log = append(s.log, p)
	s.process = append(s.process, &vital{name: name, pid: p.PID(), meter: &meter{process: p, name: name, admin: admin}})
}

func (s *soak) startEdge(t *testing.T) {
	t.Helper()
	port := s.ports(t, 3)
	s.secure = local(port + 1)
	certificate(t, s.env.Dir())
	s.gate = &gate{id: "edge", addr: local(port), file: filepath.Join(s.env.Dir(), "soak.hcl")}
	s.gate.consul = fmt.Sprintf("consul {\n  address = %q\n  grpc_address = %q\n  token = %q\n}\nadmin { address = %q }\n",
		s.consul.HTTPAddr, s.consul.GRPCAddr, s.token(t, "edge"), local(port+2))
	s.gate.write(t, s.config(0))
	var err error
	s.gate.process, err = s.env.Serai([]string{"edge", "-config", s.gate.file})
	must(t, err)
	s.watch(s.gate.process, "edge", local(port+2))
}

// config is the edge's file; each turn has another route that nobody asks for.
func (s *soak) config(turn int) string {
	routes := mesh("api", "site", "flaky", "flaky2")
	routes["serai.test.Echo"] = `service = "echo"`
	routes[fmt.Sprintf("turn-%d", turn)] = `service = "api"`
	secure := fmt.Sprintf(`  listener "secure" {
    address = %q
    tls {
      certificate_file = "site.pem"
      key_file         = "site.key"
    }
  }
  consumer "acme"`, s.secure)
	return strings.Replace(s.gate.config(routes), `  consumer "acme"`, secure, 1)
}

// traffic lets all actors play for a while, and something else besides, which is to return soon after its context ends.
// What was begun in time is taken to its end.
func (s *soak) traffic(t *testing.T, long time.Duration, count *tally, besides func(context.Context)) {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("traffic for %v, seed %d", long, seed)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var playing sync.WaitGroup
	for n, a := range s.actors(t) {
		playing.Go(func() {
			random := rand.New(rand.NewPCG(seed, uint64(n)))
			for ctx.Err() == nil {
				play(t.Context(), a, random, count)
				select {
				case <-ctx.Done():
				case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
				}
			}
			if a.end != nil {
				a.end()
			}
		})
	}
	if besides != nil {
		besides(ctx)
	}
	playing.Wait()
}

// play is one exchange.
func play(ctx context.Context, a actor, random *rand.Rand, count *tally) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	what, err := a.act(ctx, random)
	count.add(a.name+": "+what, err)
}

// disturb lets instances come and go, and the edge read another file, until the time is over.
func (s *soak) disturb(ctx context.Context, t *testing.T) {
	t.Helper()
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for turn := 1; ctx.Err() == nil; turn++ {
			err := os.WriteFile(s.gate.file, []byte(s.config(turn)), 0o600)
			if err == nil {
				err = s.gate.process.Signal(syscall.SIGHUP)
			}
			if err != nil {
				t.Errorf("reload: %v", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	for n := 2; ctx.Err() == nil; n++ {
		next := s.run(t, fmt.Sprintf("api-%d", n), "api")
		s.log = append(s.log, next.sidecar)
		sidecarReady(t, next)
		select {
		case <-ctx.Done():
		case <-time.After(3 * time.Second):
		}
		s.stop(t, next, time.Second, syscall.SIGTERM)
	}
	reloads.Wait()
}
