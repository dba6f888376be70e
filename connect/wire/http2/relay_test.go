package http2_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sort"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire/http2"
)

// mirror is a backend that tells what it got and answers in many ways.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var names []string
	for name := range r.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %s %s %d err=%v trailer=%v\n", r.Method, r.Host, r.RequestURI, r.Proto, r.ContentLength, err, r.Trailer)
	for _, name := range names {
		fmt.Fprintf(&text, "%s: %q\n", name, r.Header[name])
	}
	fmt.Fprintf(&text, "body %d %.20q\n", len(body), body)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Add("X-Many", "1")
	w.Header().Add("X-Many", "2")
	switch r.URL.Path {
	case "/stream":
		for _, line := range strings.SplitAfter(text.String(), "\n") {
			io.WriteString(w, line)
			http.NewResponseController(w).Flush()
		}
	case "/trailer":
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, text.String())
		w.Header().Set("X-Sum", fmt.Sprint(text.Len()))
	case "/large":
		for range 20 {
			io.WriteString(w, text.String())
		}
	case "/204":
		w.WriteHeader(http.StatusNoContent)
	case "/304":
		w.WriteHeader(http.StatusNotModified)
	case "/hints":
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, text.String())
	case "/fields":
		for i := range 90 {
			w.Header().Set(fmt.Sprint("X-Long-", i), strings.Repeat("v", 400))
		}
	default:
		w.Header().Set("Content-Length", fmt.Sprint(text.Len()))
		io.WriteString(w, text.String())
	}
}

// message is a response as a client sees it.
type message struct {
	Status  int
	Length  int64
	Header  http.Header
	Body    string
	Trailer http.Header
	Err     string
}

func ask(c *http.Client, addr, method, path string, header http.Header, body io.Reader, length int64) message {
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+addr+path, body)
	if err != nil {
		return message{Err: err.Error()}
	}
	req.Host = "example.com:81"
	req.Header = header.Clone()
	if length != 0 && body != nil {
		req.ContentLength = length
	}
	if length < 0 && body != nil {
		req.Trailer = http.Header{"X-Sum": {"1"}}
	}
	resp, err := c.Do(req)
	if err != nil {
		return message{Err: err.Error()}
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	return message{resp.StatusCode, resp.ContentLength, resp.Header, string(text), resp.Trailer, fmt.Sprint(err)}
}

// TestTransparency compares what a client sees through a relay, and what the
// backend sees, with what they see without one.
func TestTransparency(t *testing.T) {
	checkLeaks(t)
	addr := backend(t, mirror)
	r := relayTo(t, addr, http2.Config{})
	c := client(t)
	long := strings.Repeat("0123456789", 10000)
	for _, path := range []string{"/", "/stream?a=b&c=%20d", "/trailer", "/large", "/204", "/304", "/hints", "/fields"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PURGE"} {
			for i, header := range []http.Header{
				{},
				{"X-A": {"b", "c"}, "Cookie": {"d=e; f=g"}, "User-Agent": {"x"}, "X-Empty": {""}, "Te": {"trailers"}},
				{"Authorization": {"secret"}, "X-Long": {strings.Repeat("l", 20000)}},
			} {
				for _, body := range []string{"", "hello", long} {
					for _, length := range []int64{0, int64(len(body)), -1} {
						reader := func() io.Reader {
							if body == "" {
								return nil
							}
							return io.NopCloser(strings.NewReader(body))
						}
						want := ask(c, addr, method, path, header, reader(), length)
						got := ask(c, r.addr, method, path, header, reader(), length)
						if diff := cmp.Diff(want, got); diff != "" {
							t.Fatalf("%s %s header %d body %d length %d: %s", method, path, i, len(body), length, diff)
						}
					}
				}
			}
		}
	}
	if r.pool.dials != 1 {
		t.Errorf("%d upstream connections were used", r.pool.dials)
	}
}

// TestManyClients uses a relay from many sides at once, for the race detector.
func TestManyClients(t *testing.T) {
	checkLeaks(t)
	addr := backend(t, mirror)
	r := relayTo(t, addr, http2.Config{})
	c := client(t)
	var wg sync.WaitGroup
	for worker := range 32 {
		wg.Go(func() {
			for i := range 30 {
				path := []string{"/", "/stream", "/trailer", "/large"}[(worker+i)%4]
				var body io.Reader
				if i%3 > 0 {
					body = io.LimitReader(strings.NewReader(strings.Repeat("y", 100000)), int64(i*i*100))
				}
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.addr+path, body)
				if err != nil {
					t.Error(err)
				}
				resp, err := c.Do(req)
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				if i%7 == 6 {
					cancel() // leave in the middle
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				cancel()
				if i%7 != 6 && (err != nil || !bytes.HasPrefix(text, []byte("POST "+r.addr+" "+path+" "))) {
					t.Errorf("got %.100q, %v", text, err)
				}
			}
		})
	}
	wg.Wait()
}
