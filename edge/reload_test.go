package edge_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/serai-net/serai/edge"
)

// A reload keeps the client's connection, and swaps what answers on it.
func TestReloadKeepsConnections(t *testing.T) {
	c := edge.Config{
		Listeners: []edge.Listener{{Name: "public", Address: freeAddress(t)}},
		APIs:      []edge.API{server(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "one") })},
	}
	r := start(t, c)
	next := c
	next.APIs = []edge.API{server(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "two") })}
	client := &http.Client{Transport: &http.Transport{}}
	for i, want := range []string{"one", "two"} {
		var reused bool
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != want || reused != (i == 1) {
			t.Errorf("got %q, %v, on a used connection: %t; want %q", body, err, reused, want)
		}
		if err := r.Reload(next); err != nil {
			t.Fatal(err)
		}
	}
	// an address that is taken leaves all as it was
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	bad := c
	bad.Listeners = append(bad.Listeners[:1:1], edge.Listener{Name: "more", Address: netip.MustParseAddrPort(taken.Addr().String())})
	if err := r.Reload(bad); err == nil {
		t.Error("no error for a taken address")
	}
	if _, body := get(t, r.url); body != "two" {
		t.Errorf("after a bad reload: %q", body)
	}
}

// A reload loses no exchange, not even where it renames the route.
func TestReloadUnderLoad(t *testing.T) {
	c := edge.Config{
		Listeners: []edge.Listener{{Name: "public", Address: freeAddress(t)}},
		APIs:      []edge.API{server(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") })},
	}
	r := start(t, c)
	var calling sync.WaitGroup
	var stopped atomic.Bool
	for range 4 {
		calling.Go(func() {
			for !stopped.Load() {
				if status, body := get(t, r.url); status != 200 {
					t.Errorf("%d %s", status, body)
					return
				}
			}
		})
	}
	for i := range 50 {
		next := c
		next.APIs = []edge.API{c.APIs[0]}
		next.APIs[0].Name = fmt.Sprintf("a%d", i)
		if err := r.Reload(next); err != nil {
			t.Error(err)
		}
	}
	stopped.Store(true)
	calling.Wait()
}
