package harness

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// What a report keeps at most: an error's text may hold a port, so that there may be as many as requests.
const (
	keptFailures = 20
	keptErrors   = 50
)

// LoadConfig says what load to make. URL alone is enough.
type LoadConfig struct {
	Client  *http.Client  // nil: one of its own, with a connection per worker and a timeout of 10 s
	URL     string        // asked by GET
	Header  http.Header   // sent with each request; Host goes into the request's Host
	Workers int           // 0: 4
	Pause   time.Duration // of a worker between two requests; 0: 5 ms; below 0: none
	Want    int           // the status of a success; 0: 200
}

// Load is a running load of GET requests.
type Load struct {
	// set by StartLoad
	config LoadConfig
	start  time.Time
	stop   context.CancelFunc
	wait   sync.WaitGroup

	// mu guards:
	mu     sync.Mutex
	report Report
}

// Report counts what a load has seen.
type Report struct {
	Duration time.Duration
	Requests int
	Status   map[int]int    // answers by status
	Errors   map[string]int // requests without an answer, or whose answer broke off, by the text of the error
	Slowest  time.Duration
	Failures []Failure // the first of them
	failed   int
}

// Failure is a request that had no answer, or not the wanted one.
type Failure struct {
	At     time.Duration // since the load's start
	Status int           // 0 without an answer
	Text   string        // the error, or the start of the answer
}

// StartLoad starts a load which runs until Stop or until ctx ends. In both cases requests under way are brought to
// their end, so that an end is never counted as a failure.
func StartLoad(ctx context.Context, c LoadConfig) *Load {
	if c.Workers == 0 {
		c.Workers = 4
	}
	if c.Pause == 0 {
		c.Pause = 5 * time.Millisecond
	}
	if c.Want == 0 {
		c.Want = http.StatusOK
	}
	if c.Client == nil {
		c.Client = &http.Client{
			Transport: &http.Transport{MaxIdleConnsPerHost: c.Workers, DisableCompression: true},
			Timeout:   10 * time.Second,
		}
	}
	l := &Load{config: c, start: time.Now()}
	l.report = Report{Status: map[int]int{}, Errors: map[string]int{}}
	ctx, l.stop = context.WithCancel(ctx)
	for range c.Workers {
		l.wait.Go(func() { l.work(ctx) })
	}
	return l
}

// Stop ends the load and tells what it saw.
func (l *Load) Stop() Report {
	l.stop()
	l.wait.Wait()
	l.config.Client.CloseIdleConnections()
	return l.Report()
}

// Report tells what the load has seen so far.
func (l *Load) Report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Status, r.Errors, r.Failures = maps.Clone(r.Status), maps.Clone(r.Errors), slices.Clone(r.Failures)
	r.Duration = time.Since(l.start)
	return r
}

func (l *Load) work(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		started := time.Now()
		status, text, err := l.get(context.WithoutCancel(ctx))
		l.count(time.Since(started), status, text, err)
		timer.Reset(max(0, l.config.Pause))
	}
}

// get gives the status and the start of the body.
func (l *Load) get(ctx context.Context) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.config.URL, http.NoBody)
	if err != nil {
		return 0, "", err
	}
	if l.config.Header != nil {
		req.Header = l.config.Header.Clone()
		req.Host = req.Header.Get("Host")
		req.Header.Del("Host")
	}
	resp, err := l.config.Client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body[:min(len(body), 200)]), err
}

func (l *Load) count(took time.Duration, status int, text string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.report
	r.Requests++
	r.Slowest = max(r.Slowest, took)
	if status != 0 {
		r.Status[status]++
	}
	if err != nil {
		text = err.Error()
		if _, ok := r.Errors[text]; ok || len(r.Errors) < keptErrors {
			r.Errors[text]++
		} else {
			r.Errors["(others)"]++
		}
	} else if status == l.config.Want {
		return
	}
	r.failed++
	if len(r.Failures) < keptFailures {
		r.Failures = append(r.Failures, Failure{At: time.Since(l.start), Status: status, Text: text})
	}
}

// Failed counts the requests that had no answer, or not the wanted one.
func (r Report) Failed() int { return r.failed }

// OK counts the others.
func (r Report) OK() int { return r.Requests - r.failed }

// String tells it in a few lines.
func (r Report) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d requests in %v, %d failed, slowest %v", r.Requests, r.Duration.Round(time.Millisecond), r.failed, r.Slowest.Round(time.Millisecond))
	for _, status := range slices.Sorted(maps.Keys(r.Status)) {
		fmt.Fprintf(&b, ", %d with status %d", r.Status[status], status)
	}
	for _, f := range r.Failures {
		fmt.Fprintf(&b, "\n  after %v: status %d: %s", f.At.Round(time.Millisecond), f.Status, f.Text)
	}
	return b.String()
}
