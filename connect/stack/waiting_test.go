package stack_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// patient admits when it is told to, and lets those in of whom it is not told in time,
// as a filter that fails open.
type patient struct{ asked, ended, let chan struct{} }

func newPatient() *patient {
	return &patient{make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{})}
}

func (p *patient) Admit(ctx context.Context, _ *wire.Peer) error {
	p.asked <- struct{}{}
	select {
	case <-p.let:
	case <-ctx.Done():
		p.ended <- struct{}{}
	}
	return nil
}

func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Fatalf("in vain: %s", what)
	}
}

// reads is a codec that reads all.
type reads chan string

func (r reads) Serve(conn net.Conn, _ *wire.Peer, _ *wire.Drain) {
	defer conn.Close()
	b, err := io.ReadAll(conn)
	if err != nil {
		b = []byte(err.Error())
	}
	r <- string(b)
}

// guarded serves one chain behind a patient admission.
func guarded(t *testing.T) (address string, p *patient, drain *wire.Drain, served reads) {
	t.Helper()
	p, drain, served = newPatient(), &wire.Drain{}, make(reads, 1)
	guard := &stack.Guarded{Next: served}
	commit, err := guard.Prepare(&mesh.FilterChain{}, p)
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return tcp(t, func(conn net.Conn) { guard.Serve(conn, web(t), drain) }), p, drain, served
}

// Nobody is asked any more about a connection that has ended, or that we drain, and it is
// not served, whatever the answer was.
func TestAdmissionEndsWithConnection(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(conn *net.TCPConn, drain *wire.Drain){
		"left": func(conn *net.TCPConn, _ *wire.Drain) { conn.Close() },
		"reset": func(conn *net.TCPConn, _ *wire.Drain) {
			conn.Write([]byte("bytes")) //nolint:errcheck // it is reset
			conn.SetLinger(0)           //nolint:errcheck // as above
			conn.Close()
		},
		"drained": func(_ *net.TCPConn, drain *wire.Drain) { drain.CloseIdle() },
		"killed":  func(_ *net.TCPConn, drain *wire.Drain) { drain.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			address, p, drain, served := guarded(t)
			conn := dial(t, address)
			within(t, "it is asked", p.asked)
			end(conn, drain)
			within(t, "it ends", p.ended)
			eventually(t, "it is gone", func() bool { return drain.Len() == 0 })
			if name == "drained" || name == "killed" {
				mustBeClosed(t, conn)
			}
			select {
			case got := <-served:
				t.Errorf("served: %q", got)
			default:
			}
		})
	}
}

// A client that has said all that it has to say may still wait to be admitted: what it
// has said is read then.
func TestAdmissionOfHalfClosed(t *testing.T) {
	t.Parallel()
	address, p, _, served := guarded(t)
	conn := dial(t, address)
	if _, err := conn.Write([]byte("all")); err != nil {
		t.Fatal(err)
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	within(t, "it is asked", p.asked)
	close(p.let)
	if got := <-served; got != "all" {
		t.Errorf("%q", got)
	}
}

// The same of a connection for tcp_proxy, whose upstream is not dialled then.
func TestAdmissionEndsWithRelay(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(conn *net.TCPConn, drain *wire.Drain){
		"left":   func(conn *net.TCPConn, _ *wire.Drain) { conn.Close() },
		"killed": func(_ *net.TCPConn, drain *wire.Drain) { drain.Kill() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			set := clusters(t, map[string]string{"c": echo(t)})
			r, p := listen(t, set, web(t)), newPatient()
			commit, err := r.Prepare(toC(), &r.drain, p)
			if err != nil {
				t.Fatal(err)
			}
			commit()
			conn := dial(t, r.address)
			within(t, "it is asked", p.asked)
			end(conn, &r.drain)
			within(t, "it ends", p.ended)
			mustEnd(t, r)
			if got := set.Cluster("c").Stats(); got.Connects != 0 || r.Stats().Denied != 0 {
				t.Errorf("%d connections upstream, %d denied", got.Connects, r.Stats().Denied)
			}
		})
	}
}
