//go:build linux

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestRequests cuts heads at every place: no end is lost or counted twice.
func TestRequests(t *testing.T) {
	t.Parallel()
	const text = "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /b\r\r\n\r\r\n\r\nGET /c\r\n\r\n\r\n\r\n"
	want := strings.Count(text, headEnd)
	for i := range len(text) {
		for j := i; j <= len(text); j++ {
			c := &plainConn{}
			for _, part := range []string{text[:i], text[i:j], text[j:]} {
				c.requests([]byte(part))
			}
			if c.owed != want {
				t.Fatalf("cut at %d and %d: got %d requests, want %d", i, j, c.owed, want)
			}
		}
	}
}

func TestBodyLength(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		head string
		want int
		bad  bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 512\r\n", 512, false},
		{"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length:7\r\nx: y\r\n", 7, false},
		{"HTTP/1.1 200 OK\r\nx-content-length: 7\r\n", 0, true},
		{"HTTP/1.1 200 OK\r\n", 0, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n", 0, true},
		{"HTTP/1.1 503 no\r\nContent-Length: 5\r\n", 0, true},
		{"", 0, true},
	} {
		if got, problem := bodyLength([]byte(c.head)); got != c.want || (problem != "") != c.bad {
			t.Errorf("%q: got %d %q", c.head, got, problem)
		}
	}
}

func FuzzBodyLength(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 512\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length:"))
	f.Fuzz(func(t *testing.T, head []byte) {
		if n, problem := bodyLength(head); n < 0 || (problem != "" && n != 0) {
			t.Errorf("got %d %q", n, problem)
		}
	})
}

func TestStatusOK(t *testing.T) {
	t.Parallel()
	for block, want := range map[string]bool{
		"\x88":                 true,
		"\x88\x5f\x01x":        true,
		"\x20\x88":             true, // the table's new size is 0
		"\x3f\xe1\x1f\x88":     true, // 4096
		"\x3f\xe1\x1f\x20\x88": true,
		"\x8d":                 false, // 404
		"\x48\x03503":          false,
		"":                     false,
		"\x3f\xff":             false,
		string(fields(":status", "200", "a", "b")):    true,
		string(fields(":status", "503", "a", "b")):    false,
		string(fields("a", "b", ":status", "200")):    false,
		string(fields(":status", "204", "grpc", "0")): false,
	} {
		if got := statusOK([]byte(block)); got != want {
			t.Errorf("%q: got %v", block, got)
		}
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendFrame(appendHello(nil), frameData, flagPadded, 1, []byte{2, 'a', 0, 0}), byte(0))
	f.Add(appendFrame(nil, frameHeaders, flagPriority|flagEndHeaders, 3, []byte("\x00\x00\x00\x00\x00\x88")), byte(3))
	f.Fuzz(func(t *testing.T, in []byte, _ byte) {
		r := &frameReader{buffer: in, to: len(in)}
		for {
			frame, ok, err := r.next()
			if err != nil || !ok {
				return
			}
			body, err := frame.body()
			if err == nil && len(body) > len(frame.payload) {
				t.Error("a body is longer than its frame")
			}
			frame.settings(func(uint16, uint32) {})
			if frame.increment() < 0 {
				t.Error("a window shrinks")
			}
			statusOK(body)
		}
	})
}

func TestAccounts(t *testing.T) {
	t.Parallel()
	if pid, group, ok := processGroup([]byte("42 (a) b (c) S 1 7 7 0")); pid != 42 || group != 7 || !ok {
		t.Errorf("process 42 of group 7: got %d, %d, %v", pid, group, ok)
	}
	for _, bad := range []string{"", "42", "(", ")(", "x (a) S 1 7", "42 (a) S 1"} {
		if _, _, ok := processGroup([]byte(bad)); ok {
			t.Errorf("%q is read", bad)
		}
	}
	kib, err := statusField([]byte("Name:\ta\nVmHWM:\t  1536 kB\nVmRSS:\t 12 kB\n"), "VmHWM:")
	if err != nil || kib != 1536 {
		t.Errorf("got %d KiB, %v", kib, err)
	}
	if _, err := statusField([]byte("Name:\ta\n"), "VmHWM:"); err == nil {
		t.Error("a field that is not there is read")
	}
	const stat = "cpu  1 1 1 90 1\ncpu1 1 2 3 40 5 6\ncpu10 1 2 3 4 5 6\n"
	if got := idleOf([]byte(stat), 1); got != 450*time.Millisecond {
		t.Errorf("core 1 was idle for %v", got)
	}
	if got := idleOf([]byte(stat), 2); got != 0 {
		t.Errorf("core 2, which is not there, was idle for %v", got)
	}
}

// TestProcessorTime holds the kernel's account of this process against what it does.
func TestProcessorTime(t *testing.T) {
	t.Parallel()
	self := []int{os.Getpid()}
	before := processorTime(self)
	for processorTime(self) < before+10*time.Millisecond { // it grows only by this, or by other tests
	}
	pids, err := family(os.Getpid() << 8) // nobody's
	if err != nil || len(pids) != 0 {
		t.Errorf("the family of nobody is %v, %v", pids, err)
	}
	if mib, err := peakMemory(self); err != nil || mib < 1 {
		t.Errorf("this process had %v MiB, %v", mib, err)
	}
}

// TestNames holds what others rely on: names of scenarios, and fields of the file.
func TestNames(t *testing.T) {
	t.Parallel()
	var names []string
	for _, s := range scenarios() {
		names = append(names, s.name)
	}
	want := []string{
		"h1-512", "h1-64k", "h1-1m", "h1-1000conns", "h2c", "h2-tls", "grpc-unary", "grpc-stream", "tls-resumed", "tls-full",
		"pair-h1", "pair-h2", "pair-tcp", "routes-10", "routes-1000", "routes-10000", "clusters-1000", "log-on",
	}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
	file := filepath.Join(t.TempDir(), "rows.json")
	rows := []*row{{Scenario: "h1-512", Proxy: ours, Rate: 1}, {Scenario: "h2c", Proxy: ours, Problem: "not served yet"}}
	if err := writeRows(file, rows); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got []map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]map[string]any{{
		"scenario": "h1-512", "proxy": "serai", "requests_per_s": 1.0, "p50_us": 0.0, "p99_us": 0.0,
		"cpu_us_per_request": 0.0, "peak_rss_mib": 0.0, "throughput_mib_s": 0.0, "errors": 0.0,
	}}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

func TestChoose(t *testing.T) {
	t.Parallel()
	some, err := choose("h2c,h1-1m")
	if err != nil || len(some) != 2 || some[0].name != "h2c" {
		t.Errorf("got %v, %v", some, err)
	}
	if _, err := choose("h3"); err == nil || !strings.Contains(err.Error(), "log-on") {
		t.Errorf("an unknown name should be told with those that there are: %v", err)
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]int{0: 1, 10: 10, 1000: 1000, 10000: 1000} {
		s := &scenario{routes: n}
		got := s.paths()
		if len(got) != want || len(slices.Compact(slices.Sorted(slices.Values(got)))) != want {
			t.Errorf("%d routes: %d paths, want %d different ones", n, len(got), want)
		}
		there := slices.Sorted(slices.Values(s.prefixes()))
		for _, path := range got {
			if _, ok := slices.BinarySearch(there, path); !ok {
				t.Fatalf("%d routes: there is no route for %s", n, path)
			}
		}
	}
}

// TestFill makes a row of three rounds, of which one was disturbed.
func TestFill(t *testing.T) {
	t.Parallel()
	result := func(requests int, cpu, idle time.Duration) *loadResult {
		return &loadResult{Requests: requests, Time: time.Second, CPU: cpu, Idle: idle, P50: 10 * time.Microsecond, P99: time.Millisecond}
	}
	s := &scenario{load: loadConfig{Body: 1 << 20}}
	var r row
	r.fill(s, []round{
		{full: result(1000, 970*time.Millisecond, 0), paced: result(10, 0, 0)},
		{full: result(100, 300*time.Millisecond, 0), paced: result(10, 0, 0)},
		{full: result(1200, 960*time.Millisecond, 0), paced: result(10, 0, 0)},
	})
	want := row{Rate: 1000, CPU: 970, P50: 10, P99: 1000, Throughput: 1000}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Errorf("row (-want +got):\n%s", diff)
	}
	r = row{}
	r.fill(s, []round{{full: result(1000, 900*time.Millisecond, 100*time.Millisecond), paced: result(10, 0, 0)}})
	if !r.Bound || r.Crowded != 0 {
		t.Errorf("a core that was idle for a tenth: %+v", r)
	}
	r = row{}
	r.fill(s, []round{{full: result(1000, 500*time.Millisecond, 0), paced: result(10, 0, 0)}})
	if r.Bound || r.Crowded < 0.49 {
		t.Errorf("a core of which others took half: %+v", r)
	}
}
