package upstream_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
)

// Verdicts come in force together, with the next plan.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	s := newSet(t, checked(static("c", at(port(1)), at(port(2)), at(port(3)))))
	c, before := s.Cluster("c"), s.Cluster("c").Plan()
	for i, h := range c.Hosts() {
		if !c.Waits() {
			t.Errorf("nobody waits, though only %d were asked", i)
		}
		h.Ask()(true)
	}
	if c.Plan() != before {
		t.Error("a verdict makes a plan by itself")
	}
	if !c.Waits() {
		t.Error("who waits goes on by the old plan")
	}
	s.Sweep(t.Context(), time.Now())
	if got := c.Stats().Healthy; got != 3 || c.Waits() {
		t.Errorf("after the sweep %d are healthy, waiting: %v", got, c.Waits())
	}
}

// A verdict of a check that was ended does not count.
func TestLateVerdict(t *testing.T) {
	t.Parallel()
	s := newSet(t, checked(static("c", at(port(1)))))
	tell := s.Cluster("c").Hosts()[0].Ask()
	commit(t, s, static("c", at(port(1))))
	s.Sweep(t.Context(), time.Now())
	tell(false)
	s.Sweep(t.Context(), time.Now())
	if got := s.Cluster("c").Stats().Healthy; got != 1 {
		t.Errorf("%d are healthy", got)
	}
}

// A host that came to be checked is used when it is not to be any more, even if that
// came before its check began.
func TestCheckThatNeverBegan(t *testing.T) {
	t.Parallel()
	s := newSet(t, checked(static("c", at(port(1)))))
	commit(t, s, static("c", at(port(1))))
	s.Sweep(t.Context(), time.Now())
	if got := s.Cluster("c").Stats().Healthy; got != 1 {
		t.Errorf("%d are healthy", got)
	}
}

// Hosts that nobody has asked are no reason to panic; hosts that are unhealthy are.
func TestNoPanicBeforeChecks(t *testing.T) {
	t.Parallel()
	definition := checked(static("c", at(port(1)), at(port(2))))
	definition.PanicPercent = 50
	s := newSet(t, definition)
	c := s.Cluster("c")
	if h := c.Pick(time.Now()); h != nil {
		t.Errorf("%s is picked before it was asked", h.Address())
	}
	for i, h := range c.Hosts() {
		if got := c.Pick(time.Now()); got != nil || !c.Waits() {
			t.Errorf("panic, though only %d were asked", i)
		}
		h.Ask()(false)
		for _, other := range c.Hosts()[i+1:] {
			other.Ask() // which says nothing yet
		}
		s.Sweep(t.Context(), time.Now())
	}
	if c.Pick(time.Now()) == nil {
		t.Error("no panic though all are unhealthy")
	}
	late := []mesh.Endpoint{at(port(1)), at(port(2)), at(port(3)), at(port(4))}
	more := checked(static("c", late...))
	more.PanicPercent = 50
	commit(t, s, more)
	if c.Pick(time.Now()) == nil || c.Waits() {
		t.Error("hosts that come later are waited for")
	}
}

// Nobody waits for hosts that are gone.
func TestGoneBeforeChecks(t *testing.T) {
	t.Parallel()
	for _, left := range [][]mesh.Endpoint{nil, {at(port(1))}} {
		s := newSet(t, checked(eds("c")))
		c := s.Cluster("c")
		s.SetEndpoints(set("c", at(port(1)), at(port(2))))
		if !c.Waits() {
			t.Error("nobody waits")
		}
		c.Hosts()[0].Ask()(true)
		s.SetEndpoints(set("c", left...))
		if c.Waits() {
			t.Errorf("of %d hosts that were all asked one is waited for", len(left))
		}
	}
}

// An equal definition is the same, and an endpoint that stays keeps what was made of it.
func TestSameChecks(t *testing.T) {
	t.Parallel()
	s := newSet(t, checked(eds("c")))
	tagged := at(port(1))
	tagged.Metadata = mesh.Metadata{"envoy.lb": {"version": "1"}}
	s.SetEndpoints(set("c", tagged))
	c := s.Cluster("c")
	asks, metadata := c.Asks(), c.Hosts()[0].Metadata()
	commit(t, s, checked(eds("c")))
	if c.Asks() != asks {
		t.Error("an equal check is another one")
	}
	if c.Hosts()[0].Metadata() != metadata {
		t.Error("metadata of an endpoint that stays is made anew")
	}
	other := checked(eds("c"))
	other.Check.UnhealthyAfter++
	commit(t, s, other)
	if c.Asks() != other.Check {
		t.Error("another check does not count")
	}
}

// A cluster whose checks hang leaves places for those of others.
func TestPlacesForChecks(t *testing.T) {
	t.Parallel()
	p := upstream.NewPlaces(4)
	var dead, well, third upstream.Turns
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	enter := func(turns *upstream.Turns) bool {
		ctx, cancel := context.WithTimeout(ctx, time.Minute)
		defer cancel()
		return p.Enter(ctx, turns)
	}
	entered := make(chan bool, 8)
	for range 8 {
		running.Go(func() { entered <- p.Enter(ctx, &dead) })
	}
	eventually(t, "half of them to be taken", func() bool { return len(entered) == 2 && p.Waiting(&dead) == 6 })
	if !enter(&well) || !enter(&third) {
		t.Fatal("there is no place for others")
	}
	p.Leave(&well)
	p.Leave(&third)
	p.Leave(&dead)
	eventually(t, "the next to have its turn", func() bool { return len(entered) == 3 && p.Waiting(&dead) == 5 })
	cancel()
	running.Wait()
	close(entered)
	gone := 0
	for got := range entered {
		if !got {
			gone++
		}
	}
	if gone != 5 || p.Waiting(&dead) != 0 {
		t.Errorf("%d went without a place, %d still wait", gone, p.Waiting(&dead))
	}
}

// What keeps an endpoint out is told.
func TestWhyNotHealthy(t *testing.T) {
	t.Parallel()
	s := newSet(t, checked(static("c", at(port(1)), at(port(2)), at(port(3)))))
	c := s.Cluster("c")
	c.Hosts()[0].Ask()(true)
	c.Hosts()[1].Ask()(false)
	c.Hosts()[2].Ask() // which says nothing yet
	s.Sweep(t.Context(), time.Now())
	var got []string
	for _, e := range c.Describe(time.Now()).Endpoints {
		got = append(got, e.Health)
	}
	if diff := cmp.Diff([]string{"healthy", "failing its health check", "not checked yet"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
