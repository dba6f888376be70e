package upstream_test

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// echo answers what it was sent once that has ended.
func echo(t *testing.T) string {
	t.Helper()
	return script(t, func(_ int, conn net.Conn) {
		b, err := io.ReadAll(conn)
		if err == nil {
			conn.Write(b) //nolint:errcheck // the other side tells
		}
	})
}

func TestDial(t *testing.T) {
	t.Parallel()
	alive := echo(t) // first, else it may be given the port that is closed
	c := newSet(t, static("c", at(closedPort(t)), at(alive))).Cluster("c")
	conn, host, err := c.Dial(t.Context(), wire.Choice{})
	if err != nil || host != c.Hosts()[1] {
		t.Fatalf("%v, %v", host, err)
	}
	if stats := c.Stats(); stats.Active != 1 || stats.Requests != 1 {
		t.Errorf("%+v", stats)
	}
	if _, err := conn.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		t.Fatal("no half-close")
	}
	if err := half.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	for range 2 {
		conn.Close()
	}
	if n := c.Stats().Active; n != 0 {
		t.Errorf("%d active after two closes", n)
	}
}

func TestDialFails(t *testing.T) {
	t.Parallel()
	c := newSet(t, static("c", at(closedPort(t)), at(closedPort(t)))).Cluster("c")
	_, _, err := c.Dial(t.Context(), wire.Choice{})
	if fault := wire.AsFault(err); fault.Flag != wire.FlagUpstreamConnect {
		t.Errorf("%v", err)
	}
	if stats := c.Stats(); stats.Active != 0 || stats.ConnectFails != 2 || stats.NoHost != 0 {
		t.Errorf("%+v", stats)
	}
}

// A dial that is given up says nothing of the host, and tries no other.
func TestDialCancelled(t *testing.T) {
	t.Parallel()
	definition := static("c", at(silent(t)), at(silent(t)))
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true}
	c := newSet(t, definition).Cluster("c")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		eventually(t, "dialled", func() bool { return c.Stats().Connects == 1 })
		cancel()
	}()
	_, _, err := c.Dial(ctx, wire.Choice{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if stats := c.Stats(); stats.Connects != 1 || stats.Active != 0 {
		t.Errorf("%+v", stats)
	}
	first, second := c.Pick(time.Now()), c.Pick(time.Now())
	if first == second {
		t.Error("a host is passed over though nobody knows that it is bad")
	}
}

// A dial that had too little time left of what went by in the queue says nothing of
// the host; one that fails in time does.
func TestDialLate(t *testing.T) {
	t.Parallel()
	c := newSet(t, static("c", at(closedPort(t)))).Cluster("c")
	first := c.Hosts()[0]
	ctx, cancel := context.WithDeadline(t.Context(), time.Now())
	defer cancel()
	if err := c.DialLate(ctx, first); !upstream.Waited(err) || first.Paused(time.Now()) {
		t.Errorf("%v, paused %v", err, first.Paused(time.Now()))
	}
	if err := c.DialLate(t.Context(), first); err == nil || upstream.Waited(err) || !first.Paused(time.Now()) {
		t.Errorf("in time: %v, paused %v", err, first.Paused(time.Now()))
	}
}

func TestDialLimit(t *testing.T) {
	t.Parallel()
	definition := static("c", at(silent(t)))
	definition.Limits = mesh.Limits{MaxConnections: 1, HasConnections: true}
	c := newSet(t, definition).Cluster("c")
	conn, _, err := c.Dial(t.Context(), wire.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.Dial(t.Context(), wire.Choice{}); wire.AsFault(err).Flag != wire.FlagUpstreamOverflow {
		t.Errorf("%v", err)
	}
	conn.Close()
	conn, _, err = c.Dial(t.Context(), wire.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
