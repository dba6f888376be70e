package upstream_test

import (
	"io"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

func original(name string) *mesh.Cluster {
	return &mesh.Cluster{Name: name, Kind: mesh.ClusterOriginalDst}
}

// wanting is a peer that wanted to go to an address.
func wanting(address string, redirected bool) *wire.Peer {
	return &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort(address), Restored: redirected}
}

// A cluster of original destinations connects to where the peer wanted to go, if a
// redirect has told where that is, and nowhere else.
func TestOriginalDial(t *testing.T) {
	t.Parallel()
	alive := echo(t)
	c := newSet(t, original("original-destination")).Cluster("original-destination")
	conn, host, err := c.Dial(upstream.For(t.Context(), wanting(alive, true)), wire.Choice{})
	if err != nil || host.Address() != alive {
		t.Fatalf("%v, %v", host, err)
	}
	if stats := c.Stats(); stats.Active != 1 || stats.Hosts != 1 || stats.Healthy != 1 {
		t.Errorf("%+v", stats)
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		t.Fatal("no half-close")
	}
	if _, err := io.ReadAll(conn); err != nil {
		t.Error(err)
	}
	c.SweepOriginals(time.Now().Add(time.Minute))
	if n := c.Stats().Hosts; n != 1 {
		t.Errorf("%d hosts, while one has a connection", n)
	}
	conn.Close()
	c.SweepOriginals(time.Now())
	if n := c.Stats().Hosts; n != 1 {
		t.Errorf("%d hosts, one of which was used just now", n)
	}
	c.SweepOriginals(time.Now().Add(time.Minute))
	if n := c.Stats().Hosts; n != 0 {
		t.Errorf("%d hosts, none of which is used", n)
	}
	for name, peer := range map[string]*wire.Peer{
		"called directly": wanting(alive, false), "nobody": nil, "no port": wanting("192.0.2.9:0", true),
		"every address": wanting("0.0.0.0:80", true), "multicast": wanting("224.0.0.1:80", true),
	} {
		if _, _, err := c.Dial(upstream.For(t.Context(), peer), wire.Choice{}); wire.AsFault(err).Flag != wire.FlagNoHealthyUpstream {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := c.Dial(t.Context(), wire.Choice{}); wire.AsFault(err).Flag != wire.FlagNoHealthyUpstream {
		t.Errorf("for whom nobody says: %v", err)
	}
	refused := closedPort(t)
	if _, _, err := c.Dial(upstream.For(t.Context(), wanting(refused, true)), wire.Choice{}); wire.AsFault(err).Flag != wire.FlagUpstreamConnect {
		t.Errorf("refused: %v", err)
	}
}

// A cluster of another kind never goes where its peer likes.
func TestOriginalOnlyThere(t *testing.T) {
	t.Parallel()
	empty := static("c")
	c := newSet(t, empty).Cluster("c")
	if _, _, err := c.Dial(upstream.For(t.Context(), wanting(echo(t), true)), wire.Choice{}); wire.AsFault(err).Flag != wire.FlagNoHealthyUpstream {
		t.Error(err)
	}
}

// Requests go there, too, over connections that are kept for each address; with
// another configuration they are not.
func TestOriginalServe(t *testing.T) {
	t.Parallel()
	one, two := named(t, "one"), named(t, "two")
	set := newSet(t, original("o"))
	c := set.Cluster("o")
	for range 3 {
		for name, address := range map[string]string{"one": one, "two": two} {
			x := &wire.Exchange{}
			x.Reset(nil, wanting(address, true), time.Now())
			resp, err := c.Serve(x, &wire.Request{Method: http.MethodGet, Scheme: "http", Authority: "a", Path: "/"})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || string(body) != name+" " {
				t.Errorf("%q, %v", body, err)
			}
			resp.Body.Close()
			x.Done(time.Now())
		}
	}
	if got := c.Stats(); got.Connects != 2 || got.Hosts != 2 {
		t.Errorf("%+v", got)
	}
	secured := original("o")
	secured.TLS = &mesh.UpstreamTLS{AnyPeer: true, Roots: mesh.Roots{}}
	commit(t, set, secured)
	if n := c.Stats().Hosts; n != 0 {
		t.Errorf("%d hosts of before", n)
	}
}

// A port scan through the cluster takes no room from anybody: what it has left behind
// makes room for who comes, the longest idle first, and a host with a connection stays.
func TestOriginalsMakeRoom(t *testing.T) {
	t.Parallel()
	c := newSet(t, original("o")).Cluster("o")
	busy := echo(t)
	for range 3 { // more of them than are looked at, in all
		conn, _, err := c.Dial(upstream.For(t.Context(), wanting(busy, true)), wire.Choice{})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
	}
	kept := c.PickFor(wanting(busy, true))
	at := func(i int) *wire.Peer {
		return wanting(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80).String(), true)
	}
	const scanned = upstream.MaxOriginals + 100
	var first, second, last *upstream.Host
	for i := range scanned {
		last = c.PickFor(at(i))
		if last == nil {
			t.Fatalf("nobody may go to address %d", i)
		}
		switch i {
		case 0:
			first = last
		case 150:
			second = last
		}
	}
	stats := c.Stats()
	if stats.Hosts != upstream.MaxOriginals || stats.Originals.Evicted != 101 || stats.Originals.Overflow != 0 {
		t.Errorf("%d hosts, %+v", stats.Hosts, stats.Originals)
	}
	if c.PickFor(at(150)) != second || c.PickFor(at(scanned-1)) != last || c.PickFor(wanting(busy, true)) != kept {
		t.Error("one made room that was used later")
	}
	if c.PickFor(at(0)) == first {
		t.Error("the longest idle one has not made room")
	}
}

// Where everybody is busy there is no room, which is found soon.
func TestOriginalsAreBusy(t *testing.T) {
	t.Parallel()
	c := newSet(t, original("o")).Cluster("o")
	at := func(i int) *wire.Peer {
		return wanting(netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 80).String(), true)
	}
	var hosts []*upstream.Host
	for i := range upstream.MaxOriginals {
		h := c.PickFor(at(i))
		h.Busy(1)
		hosts = append(hosts, h)
	}
	if c.PickFor(at(upstream.MaxOriginals)) != nil || c.Stats().Originals.Overflow != 1 {
		t.Error("a busy one has made room")
	}
	hosts[20].Busy(0) // the first ones have gone to the front
	for i := 0; c.PickFor(at(upstream.MaxOriginals)) == nil; i++ {
		if i > 2 {
			t.Fatal("the only idle one is not found")
		}
	}
	if c.PickFor(at(0)) != hosts[0] {
		t.Error("a busy one has made room")
	}
	c.PickFor(at(upstream.MaxOriginals)).Busy(1)
	before, another := c.Stats().Originals.Overflow, at(upstream.MaxOriginals+1)
	x := newExchange()
	x.Reset(nil, another, time.Now())
	defer x.Done(time.Now())
	_, err := c.Serve(x, request(http.MethodGet, ""))
	_, _, dialled := c.Dial(upstream.For(t.Context(), another), wire.Choice{})
	if n := c.Stats().Originals.Overflow - before; err == nil || dialled == nil || n != 2 {
		t.Errorf("%v, %v, which count as %d", err, dialled, n)
	}
}
