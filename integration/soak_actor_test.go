package integration_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// actor does one thing after another, of one kind, at random. It says what it did, and what was wrong with it.
type actor struct {
	name string
	act  func(ctx context.Context, random *rand.Rand) (string, error)
	end  func() // closes its connections; may be nil
}

// tally counts exchanges by what they were. It is safe for concurrent use.
type tally struct {
	// mu guards:
	mu     sync.Mutex
	right  map[string]int
	wrong  map[string]int
	errors []string // some of them
}

func newTally() *tally { return &tally{right: map[string]int{}, wrong: map[string]int{}} }

func (t *tally) add(what string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.right[what]++
		return
	}
	t.wrong[what]++
	if len(t.errors) < 50 {
		t.errors = append(t.errors, fmt.Sprintf("%s %s: %v", time.Now().Format("15:04:05.000"), what, err))
	}
}

// check tells how many there were of each actor, and complains if anything was wrong.
func (t *tally) check(tb testing.TB) {
	tb.Helper()
	t.mu.Lock()
	defer t.mu.Unlock()
	total, sums := 0, map[string]int{}
	for what, n := range t.right {
		name, _, _ := strings.Cut(what, ":")
		sums[name] += n
		total += n
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		tb.Logf("%7d  %s", sums[name], name)
	}
	tb.Logf("%7d  in all were as they should be", total)
	for what, n := range t.wrong {
		tb.Errorf("%s: %d were wrong, %d right", what, n, t.right[what])
	}
	for _, err := range t.errors {
		tb.Log(err)
	}
	if total == 0 {
		tb.Error("nothing was exchanged")
	}
}

// actors are all who play, each with connections of its own.
func (s *soak) actors(t *testing.T) []actor {
	t.Helper()
	var all []actor
	edge, site, web := s.gate.url("/api"), s.gate.url("/site"), s.web.url("api", "")
	secure := "https://" + s.secure
	for _, c := range []struct {
		name, url string
		h2        bool
		count     int
	}{
		{"h1 by the edge", edge, false, 4},
		{"h1 by the edge to h2", site, false, 2},
		{"h1 with TLS by the edge", secure + "/api", false, 2},
		{"h2c by the edge to h1", edge, true, 2},
		{"h2c by the edge", site, true, 2},
		{"h2 with TLS by the edge", secure + "/site", true, 2},
		{"h1 by sidecars", web, false, 4},
		{"h2c by sidecars to h1", web, true, 2},
		{"h2c by sidecars", s.web.url("site", ""), true, 2},
	} {
		for range c.count {
			all = append(all, visitor(t, c.name, c.url, c.h2, visit))
		}
	}
	for _, flaky := range []string{"flaky", "flaky2"} {
		all = append(all,
			visitor(t, flaky+" by the edge, h1", s.gate.url("/"+flaky), false, suffer),
			visitor(t, flaky+" by the edge, h2c", s.gate.url("/"+flaky), true, suffer),
			visitor(t, flaky+" by sidecars, h1", s.web.url(flaky, ""), false, suffer),
			visitor(t, flaky+" by sidecars, h2c", s.web.url(flaky, ""), true, suffer))
	}
	return append(append(all, s.callers(t)...), s.rough(t)...)
}

// visitor is an actor with a client of its own, which repeats nothing that may have been carried out.
func visitor(t *testing.T, name, url string, h2 bool, act func(context.Context, *rand.Rand, *http.Client, string) (string, error)) actor {
	t.Helper()
	base := &http.Transport{
		MaxIdleConnsPerHost: 4, DisableCompression: true, Protocols: new(http.Protocols),
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the edge's certificate is tested elsewhere
	}
	base.Protocols.SetHTTP1(!h2)
	base.Protocols.SetHTTP2(h2)
	base.Protocols.SetUnencryptedHTTP2(h2)
	client := &http.Client{Transport: once{base}}
	t.Cleanup(base.CloseIdleConnections)
	return actor{
		name: name, end: base.CloseIdleConnections,
		act: func(ctx context.Context, random *rand.Rand) (string, error) { return act(ctx, random, client, url) },
	}
}

// pattern reads up to limit bytes of a body of /body/ or /file, which must be right. The end is none of its errors.
func pattern(r io.Reader, limit int) (total int, err error) {
	want := []byte(strings.Repeat(bodyBlock, 4097))
	buf := make([]byte, 64<<10)
	for total < limit {
		n, err := r.Read(buf[:min(len(buf), limit-total)])
		if at := total % len(bodyBlock); !bytes.Equal(buf[:n], want[at:at+n]) {
			return total, fmt.Errorf("%w, after %d bytes", errMirror, total)
		}
		total += n
		switch {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return total, err
		}
	}
	return total, nil
}

// slowReader gives at most so many bytes at once, with a pause before; its end may be an error.
type slowReader struct {
	reader io.Reader
	pause  time.Duration
	most   int
	end    error // nil for io.EOF
}

func (s *slowReader) Read(p []byte) (int, error) {
	if s.pause > 0 {
		time.Sleep(s.pause)
	}
	n, err := s.reader.Read(p[:min(len(p), s.most)])
	if errors.Is(err, io.EOF) && s.end != nil {
		err = s.end
	}
	return n, err
}

// random256 is n random bytes.
func random256(random *rand.Rand, n int) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	return data
}
