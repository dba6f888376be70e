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

// visit does one of the things that a client does with a service that behaves well.
func visit(ctx context.Context, random *rand.Rand, client *http.Client, url string) (string, error) {
	switch random.IntN(11) {
	case 0, 1, 2:
		return "get", visitGet(ctx, client, url+"/x/a")
	case 3, 4:
		return "echo", visitEcho(ctx, random, client, url+"/echo", false)
	case 5:
		return "slow writer", visitEcho(ctx, random, client, url+"/echo", true)
	case 6:
		mode := []string{"sized", "chunked", "trailer"}[random.IntN(3)]
		return "download", visitBody(ctx, random, client, url+"/body/"+mode, 0)
	case 7:
		return "slow reader", visitBody(ctx, random, client, url+"/body/chunked", 2*time.Millisecond)
	case 8:
		return "leave before the answer", leaveSlow(ctx, random, client, url+"/slow/1s")
	case 9:
		return "leave in the middle of an answer", leaveBody(ctx, random, client, url+"/body/sized")
	default:
		return "leave in the middle of a request", leaveEcho(ctx, random, client, url+"/echo")
	}
}

// open sends a request with acme's key, and wants 200.
func open(ctx context.Context, client *http.Client, method, url string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Api-Key", acmeKey)
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK {
		return resp, nil
	}
	text, _ := io.ReadAll(resp.Body)
	drop(resp.Body)
	return nil, &statusError{resp.StatusCode, string(text)}
}

// statusError is an answer with another status than 200.
type statusError struct {
	status int
	text   string
}

func (e *statusError) Error() string { return fmt.Sprintf("status %d: %.200s", e.status, e.text) }

func visitGet(ctx context.Context, client *http.Client, url string) error {
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	text, err := io.ReadAll(resp.Body)
	if err == nil && !strings.HasPrefix(string(text), "api-") && string(text) != "site-1" {
		err = fmt.Errorf("%w: %.100q", errMirror, text)
	}
	return err
}

// visitEcho posts a body, with a length or without, and wants it back.
func visitEcho(ctx context.Context, random *rand.Rand, client *http.Client, url string, slow bool) error {
	data := random256(random, random.IntN(1<<uint(random.IntN(19)))) //nolint:gosec // small
	var body io.Reader = bytes.NewReader(data)
	if slow {
		body = &slowReader{reader: body, pause: time.Millisecond, most: 1 + len(data)/20}
	} else if random.IntN(2) == 0 {
		body = io.MultiReader(body)
	}
	resp, err := open(ctx, client, http.MethodPost, url, body)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	back, err := io.ReadAll(resp.Body)
	if err == nil && (!bytes.Equal(back, data) || resp.Header.Get("X-Sha256") != sum(data)) {
		err = fmt.Errorf("%w: %d bytes, %d", errMirror, len(data), len(back))
	}
	return err
}

// visitBody reads a body of /body/ to its end, within the time that a drain gives.
func visitBody(ctx context.Context, random *rand.Rand, client *http.Client, url string, pause time.Duration) error {
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	var from io.Reader = resp.Body
	if pause > 0 {
		from = &slowReader{reader: from, pause: pause, most: 8<<10 + random.IntN(56<<10)}
	}
	total, err := pattern(from, bodySize)
	if err == nil && total != bodySize {
		err = fmt.Errorf("%w: %d bytes came", io.ErrUnexpectedEOF, total)
	}
	return err
}

// leaveSlow asks what takes long, and leaves.
func leaveSlow(ctx context.Context, random *rand.Rand, client *http.Client, url string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Duration(1+random.IntN(200))*time.Millisecond)
	defer cancel()
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return nil
	case err != nil:
		return err
	}
	drop(resp.Body)
	return errAnswered
}

// leaveBody reads a part of a body, which must be right, and leaves.
func leaveBody(ctx context.Context, random *rand.Rand, client *http.Client, url string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	resp, err := open(ctx, client, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	defer drop(resp.Body)
	_, err = pattern(resp.Body, random.IntN(bodySize))
	return err
}

// leaveEcho sends a part of a body and leaves; an answer is right only if it says that something was wrong.
func leaveEcho(ctx context.Context, random *rand.Rand, client *http.Client, url string) error {
	broken := &slowReader{reader: bytes.NewReader(random256(random, random.IntN(64<<10))), most: 8 << 10, end: errNotYet}
	resp, err := open(ctx, client, http.MethodPost, url, broken)
	if err != nil {
		return nil //nolint:nilerr // that is what is wanted
	}
	drop(resp.Body)
	return errAnswered
}

// suffer asks a service that breaks off: its answers must be errors, or break off here, too.
func suffer(ctx context.Context, random *rand.Rand, client *http.Client, url string) (string, error) {
	when := []string{"before", "middle", "early"}[random.IntN(3)]
	method, body := http.MethodGet, []byte(nil)
	if random.IntN(2) == 0 || when == "early" {
		method, body = http.MethodPost, random256(random, random.IntN(256<<10))
	}
	resp, err := open(ctx, client, method, url+"/reset/"+when, bytes.NewReader(body))
	what := method + " that is reset " + when
	status := (*statusError)(nil)
	switch {
	case errors.As(err, &status) && status.status >= http.StatusBadGateway:
		return what, nil
	case errors.As(err, &status):
		return what, err
	case err != nil:
		// With its body under way a client may see the end of the connection first.
		if method == http.MethodGet {
			return what, err
		}
		return what, nil
	}
	defer drop(resp.Body)
	switch total, err := pattern(resp.Body, bodySize); {
	case errors.Is(err, errMirror):
		return what, err
	case err == nil:
		return what, fmt.Errorf("%w: %d bytes", errAnswered, total)
	}
	return what, nil
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
