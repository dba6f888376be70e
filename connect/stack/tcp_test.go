package stack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

func endpoint(address string) *mesh.EndpointSet {
	return &mesh.EndpointSet{Endpoints: []mesh.Endpoint{{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1}}}
}

// relay is a TCP chain behind a listener.
type relay struct {
	*stack.TCP
	address string
	drain   wire.Drain
	peer    atomic.Pointer[wire.Peer]
	seen    observed

	mu   sync.Mutex
	told []string // lines of living connections
}

func (r *relay) tell(x *wire.Exchange, kind string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.told = append(r.told, fmt.Sprintf("%s %s %d %d", kind, x.Cluster, x.BytesIn, x.BytesOut))
}

// lines are what was told so far, each once.
func (r *relay) lines() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Compact(slices.Clone(r.told))
}

// listen serves a chain that has no configuration yet.
func listen(t *testing.T, set *upstream.Set, peer *wire.Peer) *relay {
	t.Helper()
	r := &relay{}
	r.peer.Store(peer)
	r.TCP = stack.NewTCP(stack.TCPConfig{Clusters: set, Observe: r.seen.observe, Tell: r.tell, Log: slog.New(slog.DiscardHandler)})
	var serving sync.WaitGroup
	r.address = tcp(t, func(conn net.Conn) {
		serving.Add(1)
		defer serving.Done()
		r.Serve(conn, r.peer.Load(), &r.drain)
	})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if r.drain.Kill(); r.drain.Wait(ctx) != nil {
			t.Error("connections live on though they were killed")
		}
	})
	return r
}

func (r *relay) update(t *testing.T, chain *mesh.FilterChain) {
	t.Helper()
	commit, err := r.Prepare(chain, &r.drain)
	if err != nil {
		t.Fatal(err)
	}
	commit()
}

// toC is a chain to cluster c.
func toC(intentions ...*mesh.Intention) *mesh.FilterChain {
	return &mesh.FilterChain{TCP: &mesh.TCPProxy{Targets: []mesh.Target{{Cluster: "c"}}}, Intentions: intentions}
}

// relayTo is a relay to one address.
func relayTo(t *testing.T, address string, chain *mesh.FilterChain) *relay {
	t.Helper()
	r := listen(t, clusters(t, map[string]string{"c": address}), web(t))
	r.update(t, chain)
	return r
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	c, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T", conn)
	}
	return c
}

// echo sends back what it reads, until the other side ends.
func echo(t *testing.T) string {
	t.Helper()
	return tcp(t, func(conn net.Conn) {
		io.Copy(conn, conn) //nolint:errcheck // until somebody closes it
	})
}

func mustTalk(t *testing.T, conn net.Conn) {
	t.Helper()
	if _, err := conn.Write([]byte("word")); err != nil {
		t.Fatal(err)
	}
	back := make([]byte, 4)
	if _, err := io.ReadFull(conn, back); err != nil || string(back) != "word" {
		t.Fatalf("%q, %v", back, err)
	}
}

func mustBeClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is open: %d, %v", n, err)
	}
}

func mustEnd(t *testing.T, r *relay) {
	t.Helper()
	eventually(t, "all connections have ended", func() bool { return r.Stats().Active == 0 && r.drain.Len() == 0 })
}

// Both directions end on their own.
func TestHalfClose(t *testing.T) {
	t.Parallel()
	t.Run("by the client", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, tcp(t, func(conn net.Conn) {
			b, err := io.ReadAll(conn) // ends with the client's half
			if err == nil {
				conn.Write(bytes.ToUpper(b)) //nolint:errcheck // the client tells
			}
		}), toC())
		conn := dial(t, r.address)
		if _, err := conn.Write([]byte("question")); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != "QUESTION" {
			t.Errorf("%q, %v", b, err)
		}
		mustEnd(t, r)
		if got := r.Stats(); got.BytesIn != 8 || got.BytesOut != 8 || got.Accepted != 1 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("by the upstream", func(t *testing.T) {
		t.Parallel()
		got := make(chan string, 1)
		r := relayTo(t, tcp(t, func(conn net.Conn) {
			half, ok := conn.(*net.TCPConn)
			if !ok || half.CloseWrite() != nil {
				return
			}
			b, err := io.ReadAll(conn)
			if err == nil {
				got <- string(b)
			}
		}), toC())
		conn := dial(t, r.address)
		mustBeClosed(t, conn)
		if _, err := conn.Write([]byte("still here")); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		if b := <-got; b != "still here" {
			t.Errorf("%q", b)
		}
		mustEnd(t, r)
	})
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	r := relayTo(t, echo(t), toC())
	conn := dial(t, r.address)
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<17) // 2 MiB
	go func() {
		conn.Write(sent)  //nolint:errcheck // the reader tells
		conn.CloseWrite() //nolint:errcheck // the reader tells
	}()
	back, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(back, sent) {
		t.Errorf("%d bytes of %d, %v", len(back), len(sent), err)
	}
	mustEnd(t, r)
	r.seen.want(t, "- web c in 2097152 out 2097152 tries 1")
	if got := r.Stats(); got.BytesIn != int64(len(sent)) || got.BytesOut != int64(len(sent)) {
		t.Errorf("%+v", got)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	address := echo(t)
	limited := toC()
	limited.Limit = &mesh.ConnectionLimit{Max: 1}
	tests := []struct {
		name           string
		chain          *mesh.FilterChain
		denied, failed int64
		seen           string
	}{
		{"no configuration", nil, 1, 0, "NR web  in 0 out 0 tries 0"},
		{"denied", toC(intention(mesh.Deny, "web")), 1, 0, "UAEX web  in 0 out 0 tries 0"},
		{"not allowed", toC(intention(mesh.Allow, "api")), 1, 0, "UAEX web  in 0 out 0 tries 0"},
		{"no policies", toC(&mesh.Intention{}), 1, 0, "UAEX web  in 0 out 0 tries 0"},
		{"refused", toC(&mesh.Intention{Action: mesh.Deny, Refusal: "unknown"}), 1, 0, "UAEX web  in 0 out 0 tries 0"},
		{"asks for a path", toC(intention(mesh.Allow, "web", path("/"))), 1, 0, "UAEX web  in 0 out 0 tries 0"},
		{
			"unknown cluster", &mesh.FilterChain{TCP: &mesh.TCPProxy{Targets: []mesh.Target{{Cluster: "other"}}}}, 0, 1,
			"NC web other in 0 out 0 tries 0",
		},
		{"no cluster", &mesh.FilterChain{TCP: &mesh.TCPProxy{}}, 0, 1, "NC web  in 0 out 0 tries 0"},
		{
			"upstream refuses", &mesh.FilterChain{TCP: &mesh.TCPProxy{Targets: []mesh.Target{{Cluster: "closed"}}}}, 0, 1,
			"UF web closed in 0 out 0 tries 1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := listen(t, clusters(t, map[string]string{"c": address, "closed": closedPort(t)}), web(t))
			if tt.chain != nil {
				r.update(t, tt.chain)
			}
			mustBeClosed(t, dial(t, r.address))
			mustEnd(t, r)
			r.seen.want(t, tt.seen)
			if got := r.Stats(); got.Denied != tt.denied || got.Failed != tt.failed || got.Accepted != 1 {
				t.Errorf("%+v", got)
			}
		})
	}
	t.Run("connection limit", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, address, limited)
		first := dial(t, r.address)
		mustTalk(t, first)
		mustBeClosed(t, dial(t, r.address))
		mustTalk(t, first)
		first.Close()
		mustEnd(t, r)
		mustTalk(t, dial(t, r.address))
		r.seen.want(t, "RL web  in 0 out 0 tries 0", "- web c in 8 out 8 tries 1")
	})
	t.Run("broken intention", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, address, toC())
		if _, err := r.Prepare(toC(intention(mesh.Allow, "(")), &r.drain); err == nil {
			t.Error("no error")
		}
		mustTalk(t, dial(t, r.address))
	})
}

// A change of intentions ends the living connections that it denies, and only
// those; other changes touch none.
func TestIntentionsChange(t *testing.T) {
	t.Parallel()
	set := clusters(t, map[string]string{"c": echo(t)})
	r := listen(t, set, web(t))
	r.update(t, toC())
	conn := dial(t, r.address)
	mustTalk(t, conn)
	r.update(t, toC(intention(mesh.Allow, "web")))
	moved := toC(intention(mesh.Deny, "api"))
	moved.TCP.Targets[0].Cluster = "gone"
	r.update(t, moved)
	mustTalk(t, conn)
	r.update(t, toC(intention(mesh.Deny, "web")))
	mustBeClosed(t, conn)
	mustEnd(t, r)
	if got := r.Stats(); got.Denied != 1 {
		t.Errorf("%+v", got)
	}
	r.seen.want(t, "UAEX web c in 8 out 8 tries 1")
}

// However connections and changes meet, none lives that the last change denies.
func TestIntentionsRace(t *testing.T) {
	t.Parallel()
	r := relayTo(t, echo(t), toC())
	for range 30 {
		r.update(t, toC())
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				conn, err := net.Dial("tcp", r.address)
				if err == nil {
					t.Cleanup(func() { conn.Close() })
				}
			})
		}
		r.update(t, toC(intention(mesh.Deny, "web")))
		clients.Wait()
		mustEnd(t, r)
	}
}

func idle(d time.Duration) *mesh.FilterChain {
	chain := toC()
	chain.TCP.IdleTimeout = d
	return chain
}

func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, echo(t), idle(500*time.Millisecond))
		conn := dial(t, r.address)
		mustTalk(t, conn)
		mustBeClosed(t, conn)
		mustEnd(t, r)
		r.seen.want(t, "- web c in 4 out 4 tries 1")
	})
	t.Run("one direction is enough", func(t *testing.T) {
		t.Parallel()
		sink := tcp(t, func(conn net.Conn) {
			io.Copy(io.Discard, conn) //nolint:errcheck // until somebody closes it
		})
		const timeout = 2 * time.Second
		r := relayTo(t, sink, idle(timeout))
		conn := dial(t, r.address)
		begin := time.Now()
		for tick := time.NewTicker(20 * time.Millisecond); time.Since(begin) < timeout+timeout/2; <-tick.C {
			if _, err := conn.Write([]byte("x")); err != nil {
				t.Fatalf("closed after %v: %v", time.Since(begin), err)
			}
		}
		mustBeClosed(t, conn)
	})
	t.Run("a client that does not read", func(t *testing.T) {
		t.Parallel()
		flood := tcp(t, func(conn net.Conn) {
			for {
				if _, err := conn.Write(make([]byte, 1<<16)); err != nil {
					return
				}
			}
		})
		r := relayTo(t, flood, idle(500*time.Millisecond))
		conn := dial(t, r.address)
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "connected", func() bool { return r.Stats().BytesOut > 0 })
		mustEnd(t, r)
	})
}
