package agent_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/agent"
	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/config"
)

// both is a configuration with two roles.
func both(t *testing.T, edge, upstream, dns string) *config.Config {
	t.Helper()
	c, err := config.Parse("both.hcl", fmt.Appendf(nil, `
edge {
  listener "a" { address = %q }
  drain_delay = "0s"
  api "a" {
    route "all" {
      upstream { addresses = [%q] }
    }
  }
}
dns {
  listener "a" { address = %q }
}`, edge, upstream, dns))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answering serves a text until the test ends.
func answering(t *testing.T, text string) string {
	t.Helper()
	listener := listening(t)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) })}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	return listener.Addr().String()
}

func listening(t *testing.T) net.Listener {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	return listener
}

// free is an address that was free a moment ago, from which nobody dials: there no
// connection is given its port by chance.
func free(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.12.5:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// hears waits until the edge answers so.
func hears(t *testing.T, address, want string) {
	t.Helper()
	last := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(5 * time.Millisecond) {
		resp, err := http.Get("http://" + address)
		if err != nil {
			last = err.Error()
			continue
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if last = string(text); err == nil && last == want {
			return
		}
	}
	t.Fatalf("got %q, want %q", last, want)
}

// TestReloadAllOrNothing: what one role cannot take, no role takes.
func TestReloadAllOrNothing(t *testing.T) {
	t.Parallel()
	edge, dns, old, next := free(t), free(t), answering(t, "old"), answering(t, "new")
	a, err := agent.New(both(t, edge, old, dns), catalog.Config{Address: free(t)}, io.Discard, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := a.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer stop()
	hears(t, edge, "old")

	taken := listening(t).Addr().String()
	if err := a.Reload(both(t, edge, next, taken)); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("got %v, want an error that names %s", err, taken)
	}
	hears(t, edge, "old")
	if err := a.Reload(both(t, edge, next, dns)); err != nil {
		t.Error(err)
	}
	hears(t, edge, "new")
}
