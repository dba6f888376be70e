package signature_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/serai-net/serai/plugins"
)

const replayed = "401 this nonce was used before: make a new one for each request"

func at(created int64, nonce string) *plugins.Request {
	return sign(request("/a", ""), acmeSecret, strings.Replace(params(nonce), strconv.Itoa(noon), strconv.FormatInt(created, 10), 1), good()...)
}

// A signature is taken once, for as long as its time would be accepted.
func TestReplay(t *testing.T) {
	g := newGate(t, nil)
	for _, step := range []struct {
		now, created int64
		nonce, want  string
	}{
		{noon, noon, "a", "acme"},
		{noon, noon, "a", replayed},
		{noon, noon, "b", "acme"},
		{noon, noon + 30, "c", "acme"},
		{noon + 30, noon, "a", replayed},
		{noon + 30, noon + 30, "a", replayed}, // made anew, with a nonce that is still known
		{noon + 31, noon, "a", "401 the signature was created 31 s ago, at most 30 s are allowed: look at the clock"},
		{noon + 31, noon + 31, "a", "acme"},
		{noon + 60, noon + 30, "c", replayed},
		{noon + 61, noon + 61, "c", "acme"},
		{noon + 5000, noon + 5000, "d", "acme"}, // a leap of the clock
		{noon, noon, "e", "acme"},               // and one back
		{noon, noon, "e", replayed},
	} {
		g.now = step.now
		if got := g.ask(t, at(step.created, step.nonce)); got != step.want {
			t.Errorf("%+v: %s", step, got)
		}
	}
	g.now = noon + 10_000
	g.ask(t, at(g.now, "last"))
	if n := g.nonces.Len(); n != 1 {
		t.Errorf("%d nonces are remembered, want the last alone", n)
	}
}

// What is wrong in other respects takes no memory, nor does what could be from
// before our time.
func TestNoncesAreTakenLast(t *testing.T) {
	g := newGate(t, nil)
	wrong := sign(request("/a", ""), "another secret", params("a"), good()...)
	if got := g.ask(t, wrong); got != "401 the signature does not match" || g.nonces.Len() != 0 {
		t.Errorf("%s, %d remembered", got, g.nonces.Len())
	}
	g.now = noon - 1000
	if got := g.ask(t, at(noon-1001, "b")); !strings.HasPrefix(got, "401 the signature was made before this gateway was started") {
		t.Error(got)
	}
	if got := g.ask(t, at(noon-1000, "b")); got != "acme" {
		t.Error(got)
	}
}

// A full memory refuses, for its key alone, until something may be forgotten.
func TestNoncesAreBounded(t *testing.T) {
	secret := map[string]any{"secret": acmeSecret, "consumer": "acme"}
	g := newGate(t, map[string]any{"max_nonces": 3.0, "keys": map[string]any{"k1": secret, "k2": secret}})
	for i := range 3 {
		if got := g.ask(t, at(noon, strconv.Itoa(i))); got != "acme" {
			t.Error(got)
		}
	}
	const full = "429 too many signed requests by this key, try later"
	if got := g.ask(t, at(noon, "3")); got != full || g.nonces.Refused() != 1 {
		t.Errorf("%s, %d refused", got, g.nonces.Refused())
	}
	other := sign(request("/a", ""), acmeSecret, strings.Replace(params("3"), "k1", "k2", 1), good()...)
	if got := g.ask(t, other); got != "acme" {
		t.Error(got)
	}
	if got := g.ask(t, at(noon, "0")); got != replayed {
		t.Error(got)
	}
	g.now += 31
	if got := g.ask(t, at(g.now, "3")); got != "acme" {
		t.Error(got)
	}
}

// A new configuration knows what the one before has seen, also if it allows more.
func TestNoncesOutliveSettings(t *testing.T) {
	settings := map[string]any{"keys": map[string]any{"k1": map[string]any{"secret": acmeSecret, "consumer": "acme"}}}
	g := newGate(t, map[string]any{"clock_skew": "10s"})
	if got := g.ask(t, at(noon, "a")); got != "acme" {
		t.Error(got)
	}
	g.add(t, settings)
	if got := g.ask(t, at(noon, "a")); got != replayed {
		t.Error(got)
	}
	g.now += 20
	g.ask(t, at(g.now, "forget a"))
	if got := g.ask(t, at(noon, "a")); got == "acme" {
		t.Error("a nonce was forgotten under a shorter skew, and then taken under a longer one")
	}
}

// Of many equal requests at once, one is taken.
func TestReplayAtOnce(t *testing.T) {
	g := newGate(t, nil)
	var taken atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i := range 200 {
				if identity, err := g.Authenticate(t.Context(), at(noon, fmt.Sprint(i))); err == nil && identity != nil {
					taken.Add(1)
				}
			}
		})
	}
	all.Wait()
	if taken.Load() != 200 {
		t.Errorf("%d requests taken, want 200", taken.Load())
	}
}
