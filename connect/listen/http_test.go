package listen_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// A shutdown loses no exchange that has begun, closes what is idle, and kills
// nothing, over TLS as well.
func TestShutdownKeepsExchanges(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	var begun atomic.Int32
	service := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if req.Path == "/slow" {
			begun.Add(1)
			<-release
		}
		return wire.Text(200, "well"), nil
	})
	server := http1.NewServer(http1.Config{}, func() wire.Service { return service }, slog.New(slog.DiscardHandler))
	c, client := tlsChain(t, server)
	s := newSet(t, listen.Config{}, spec("127.0.0.1", c))
	address := only(t, s).Address

	get := func(path string) (*tls.Conn, error) {
		conn := tls.Client(dial(t, address), client)
		_, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: h\r\n\r\n", path)
		return conn, err
	}
	answer := func(conn *tls.Conn) (closes bool, err error) {
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return false, err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err == nil && string(body) != "well" {
			err = fmt.Errorf("got %q", body)
		}
		return resp.Close, err
	}
	idle, err := get("/")
	if err != nil {
		t.Fatal(err)
	}
	if closes, err := answer(idle); err != nil || closes {
		t.Fatalf("close %v, %v", closes, err)
	}
	const n = 8
	var clients sync.WaitGroup
	for range n {
		conn, err := get("/slow")
		if err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			if closes, err := answer(conn); err != nil || !closes {
				t.Errorf("close %v, %v", closes, err)
			}
		})
	}
	eventually(t, "all have begun", func() bool { return begun.Load() == n })
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	killed := startShutdown(ctx, s, 0)
	mustBeClosed(t, idle)
	mustGoOn(t, killed)
	close(release)
	clients.Wait()
	mustKill(t, killed, 0)
}
