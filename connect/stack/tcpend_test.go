package stack_test

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
)

// A connection that is killed while its upstream is being dialled ends at once.
func TestKillDuringDial(t *testing.T) {
	t.Parallel()
	mute := tcp(t, func(conn net.Conn) {
		io.Copy(io.Discard, conn) //nolint:errcheck // until somebody closes it
	})
	set := upstream.NewSet(slog.New(slog.DiscardHandler))
	commit, err := set.Prepare(map[string]*mesh.Cluster{"c": {
		Name: "c", Kind: mesh.ClusterStatic, Endpoints: endpoint(mute), ConnectTimeout: time.Minute,
		TLS: &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	r := listen(t, set, web(t))
	r.update(t, toC())
	conn := dial(t, r.address)
	eventually(t, "dialled", func() bool { return set.Cluster("c").Stats().Connects == 1 })
	r.drain.Kill()
	mustEnd(t, r)
	mustBeClosed(t, conn)
	r.seen.want(t, "DR web c in 0 out 0 tries 1")
	if got := set.Cluster("c").Stats(); got.Active != 0 {
		t.Errorf("%+v", got)
	}
}

// roots are of a certificate that nobody shows.
func roots(t *testing.T) mesh.Roots {
	t.Helper()
	return mesh.Roots{PEM: encode(certificate(t, nil).Raw)}
}

// A connection ends when it is too old, whatever happens on it; before, it is
// nobody's business.
func TestTCPMaxDuration(t *testing.T) {
	t.Parallel()
	chain := toC()
	chain.TCP.MaxDuration = 300 * time.Millisecond
	r := relayTo(t, echo(t), chain)
	begin := time.Now()
	conn := dial(t, r.address)
	for err := error(nil); err == nil; {
		one := []byte("x")
		if _, err = conn.Write(one); err == nil {
			_, err = io.ReadFull(conn, one)
		}
	}
	if age := time.Since(begin); age < chain.TCP.MaxDuration {
		t.Errorf("ended after %v", age)
	}
	mustEnd(t, r)
}

// What lasts is written of when it begins, when its upstream is reached, and now and then.
func TestTCPMoments(t *testing.T) {
	t.Parallel()
	chain := toC()
	chain.TCP.LogMoments = mesh.LogMoments{Start: true, Connected: true, Every: time.Millisecond}
	r := relayTo(t, echo(t), chain)
	conn := dial(t, r.address)
	for _, words := range []string{"hello", "world"} {
		if _, err := io.WriteString(conn, words); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, len(words))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "told of all bytes", func() bool { return slices.Contains(r.lines(), "TcpPeriodic c 10 10") })
	conn.Close()
	mustEnd(t, r)
	all := r.lines()
	if want := []string{"TcpConnectionStart  0 0", "TcpUpstreamConnected c 0 0"}; !slices.Equal(all[:2], want) || all[len(all)-1] != "TcpPeriodic c 10 10" {
		t.Errorf("told %q", all)
	}
}

// Each attempt may try several endpoints; they end when one accepts.
func TestConnectAttempts(t *testing.T) {
	t.Parallel()
	refused, good := closedPort(t), echo(t)
	set := &mesh.EndpointSet{}
	for range 8 {
		set.Endpoints = append(set.Endpoints, mesh.Endpoint{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(refused)}, Weight: 1})
		refused = closedPort(t)
	}
	set.Endpoints = append(set.Endpoints, mesh.Endpoint{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(good)}, Weight: 1})
	clusters := upstream.NewSet(slog.New(slog.DiscardHandler))
	commit, err := clusters.Prepare(map[string]*mesh.Cluster{"c": {Name: "c", Kind: mesh.ClusterStatic, Endpoints: set}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	chain := toC()
	chain.TCP.ConnectAttempts = 16
	r := listen(t, clusters, web(t))
	r.update(t, chain)
	mustTalk(t, dial(t, r.address))
}

// Much data is spliced: it is counted while it moves, is not silence, and both
// ends are passed on. Behind a slow reader it waits.
func TestSplicedTransfer(t *testing.T) {
	t.Parallel()
	chain := idle(10 * time.Second) // the machine may be busy
	r := relayTo(t, echo(t), chain)
	conn := dial(t, r.address)
	chunk := bytes.Repeat([]byte("0123456789abcdef"), 1<<14) // 256 KiB
	back := make([]byte, len(chunk))
	var total int64
	for range 20 {
		go conn.Write(chunk) //nolint:errcheck // the reader tells
		if _, err := io.ReadFull(conn, back); err != nil || !bytes.Equal(back, chunk) {
			t.Fatal(err)
		}
		total += int64(len(chunk))
		eventually(t, "counted while it lives", func() bool {
			s := r.Stats()
			return s.BytesIn == total && s.BytesOut == total && s.Active == 1
		})
	}
	if err := conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(conn); err != nil || len(b) != 0 {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	mustEnd(t, r)
}
