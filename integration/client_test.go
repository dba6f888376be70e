package integration_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// answer is a response that was read to its end.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

// strict is a client that hides nothing. That of the standard library sends a GET again, on another connection, when a
// kept connection turns out to be closed, so that a proxy which drops connections would look fine.
func strict(t *testing.T) *http.Client {
	t.Helper()
	return strictOver(t, &net.Dialer{Timeout: 5 * time.Second})
}

func strictOver(t *testing.T, dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
},
) *http.Client {
	t.Helper()
	base := &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true, DialContext: dialer.DialContext}
	t.Cleanup(base.CloseIdleConnections)
	return &http.Client{
		Transport:     once{base},
		Timeout:       20 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// once sends each request once.
type once struct{ base *http.Transport }

func (o once) CloseIdleConnections() { o.base.CloseIdleConnections() }

func (o once) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context())
	req.GetBody = nil
	if req.Body == nil || req.Body == http.NoBody {
		switch req.Method {
		case "", http.MethodGet, http.MethodHead, http.MethodOptions:
			// A body which the transport cannot know to be empty until it reads: then it cannot be sent twice. On
			// the wire there is none.
			req.Body = io.NopCloser(strings.NewReader(""))
		}
	}
	return o.base.RoundTrip(req)
}

// TestStrictClient shows that the client of the loads does not send again what the server dropped, and that what it
// sends has no body.
func TestStrictClient(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 || r.ContentLength != 0 {
			t.Errorf("the request has a body: %v, %d", r.TransferEncoding, r.ContentLength)
		}
		if requests.Add(1) > 1 {
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	client := strict(t)
	if _, err := fetch(t.Context(), client, server.URL); err != nil {
		t.Fatal(err)
	}
	if _, err := fetch(t.Context(), client, server.URL); err == nil || requests.Load() != 2 {
		t.Errorf("a dropped request: error %v after %d requests, want an error after 2", err, requests.Load())
	}
}

// send does a request and reads the answer.
func send(client *http.Client, req *http.Request) (*answer, error) {
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer with status %d: %w", resp.StatusCode, err)
	}
	return &answer{status: resp.StatusCode, header: resp.Header, trailer: resp.Trailer, body: string(text)}, nil
}

// fetch does a GET with acme's key.
func fetch(ctx context.Context, client *http.Client, url string) (*answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Api-Key", acmeKey)
	return send(client, req)
}

// ask does a request with acme's key, where edits do not change it; it must be answered.
func ask(t *testing.T, method, url string, body io.Reader, edits ...func(*http.Request)) *answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	must(t, err)
	req.Header.Set("X-Api-Key", acmeKey)
	for _, edit := range edits {
		edit(req)
	}
	client := strict(t)
	got, err := send(client, req)
	client.CloseIdleConnections() // whoever asks until something is so would hold as many as a server allows
	must(t, err)
	return got
}

// get is ask with GET.
func get(t *testing.T, url string, edits ...func(*http.Request)) *answer {
	t.Helper()
	return ask(t, http.MethodGet, url, http.NoBody, edits...)
}

// wantStatus complains about another status.
func wantStatus(t *testing.T, got *answer, status int) {
	t.Helper()
	if got.status != status {
		t.Errorf("status %d, want %d: %.200s", got.status, status, got.body)
	}
}

// load asks a URL with acme's key until it is stopped: GET only, which may be repeated on the way, but the load itself
// repeats nothing.
func load(t *testing.T, url string) *harness.Load {
	t.Helper()
	return loadBy(t, strict(t), url, 4)
}

func loadBy(t *testing.T, client *http.Client, url string, workers int) *harness.Load {
	t.Helper()
	return harness.StartLoad(t.Context(), harness.LoadConfig{
		Client: client, URL: url, Workers: workers, Pause: 10 * time.Millisecond,
		Header: http.Header{"X-Api-Key": {acmeKey}},
	})
}

// clean stops loads, of which no request may have failed.
func clean(t *testing.T, loads map[string]*harness.Load) {
	t.Helper()
	for name, load := range loads {
		report := load.Stop()
		t.Logf("%s: %v", name, report)
		if report.Failed() > 0 || report.OK() == 0 {
			t.Errorf("%s: %d of %d requests failed", name, report.Failed(), report.Requests)
		}
	}
}

// stillClean complains as soon as a request has failed.
func stillClean(t *testing.T, when string, loads map[string]*harness.Load) {
	t.Helper()
	for name, load := range loads {
		if report := load.Report(); report.Failed() > 0 {
			t.Errorf("%s, %s: %d of %d requests failed", name, when, report.Failed(), report.Requests)
		}
	}
}

// sample is one request of a watch.
type sample struct {
	start  time.Time
	status int // 0 without an answer
	text   string
}

// watch is a load that keeps the outcome of every request, to be asked for spans of time.
type watch struct {
	stop context.CancelFunc
	wait sync.WaitGroup

	// mu guards:
	mu      sync.Mutex
	samples []sample
}

// watchURL asks a URL with acme's key until the watch or the test ends.
func watchURL(t *testing.T, url string, workers int) *watch {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &watch{stop: cancel}
	client := strict(t)
	for range workers {
		w.wait.Go(func() {
			for ctx.Err() == nil {
				s := sample{start: time.Now()}
				if got, err := fetch(context.WithoutCancel(ctx), client, url); err != nil {
					s.text = err.Error()
				} else {
					s.status, s.text = got.status, got.body
				}
				w.mu.Lock()
				w.samples = append(w.samples, s)
				w.mu.Unlock()
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	t.Cleanup(w.end)
	return w
}

// end ends the watch; requests under way are answered first.
func (w *watch) end() {
	w.stop()
	w.wait.Wait()
}

// between gives what was asked in a span of time.
func (w *watch) between(from, to time.Time) []sample {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []sample
	for _, s := range w.samples {
		if !s.start.Before(from) && s.start.Before(to) {
			found = append(found, s)
		}
	}
	return found
}
