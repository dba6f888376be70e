package stack_test

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// What is no exchange, codecs count, and it stays when the chain is gone.
func TestCodecCounts(t *testing.T) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	for _, one := range []struct {
		name, sent string
		config     stack.ServerConfig
		want       []string
	}{
		{"no request", "GARB@GE\r\n\r\n", stack.ServerConfig{}, []string{"http.p.downstream_cx_protocol_error"}},
		{"a bad chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", stack.ServerConfig{}, []string{"http.p.downstream_cx_protocol_error"}},
		{"no frame of HTTP/2", preface + strings.Repeat("x", 40), stack.ServerConfig{}, []string{"http.p.downstream_cx_protocol_error", "http2.rx_messaging_error"}},
		{"half a head", "GET / HT", stack.ServerConfig{HeaderTimeout: 30 * time.Millisecond}, []string{"http.p.downstream_rq_header_timeout"}},
		{"half a body", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nx", stack.ServerConfig{RequestTimeout: 30 * time.Millisecond}, []string{"http.p.downstream_rq_timeout"}},
		{"nothing", "", stack.ServerConfig{IdleTimeout: 30 * time.Millisecond}, []string{"http.p.downstream_cx_idle_timeout"}},
		{"no stream", preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", stack.ServerConfig{IdleTimeout: 30 * time.Millisecond}, []string{"http.p.downstream_cx_idle_timeout"}},
		{"too old", "", stack.ServerConfig{MaxAge: 30 * time.Millisecond}, []string{"http.p.downstream_cx_max_duration_reached"}},
	} {
		t.Run(one.name, func(t *testing.T) {
			r := &stats.Registry{}
			reads := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
				if req.Body != nil {
					if _, err := io.Copy(io.Discard, req.Body); err != nil {
						return nil, err
					}
				}
				return wire.Text(200, "ok"), nil
			})
			server := stack.NewServer(one.config, func() wire.Service { return reads }, slog.New(slog.DiscardHandler))
			handler := stack.CountHTTP(r, "p", "127.0.0.1:1").Connections(server)
			client, ours := connected(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				handler.Serve(ours, &wire.Peer{}, nil)
			}()
			if _, err := io.WriteString(client, one.sent); err != nil {
				t.Fatal(err)
			}
			go io.Copy(io.Discard, client) //nolint:errcheck // until it ends
			select {
			case <-done:
			case <-time.After(time.Minute):
				t.Error("the connection goes on")
			}
			got := map[string]int64{}
			for s := range r.All() {
				got[s.Name] = s.Value
			}
			for _, name := range one.want {
				if got[name] != 1 {
					t.Errorf("%s is %d", name, got[name])
				}
			}
			all := int64(0)
			for _, name := range []string{
				"downstream_cx_protocol_error", "downstream_cx_idle_timeout", "downstream_cx_max_duration_reached", "downstream_rq_header_timeout",
				"downstream_rq_idle_timeout", "downstream_rq_timeout",
			} {
				all += got["http.p."+name]
			}
			if all != 1 {
				t.Errorf("counted %d times: %v", all, got)
			}
		})
	}
}

// connected are the two ends of a connection.
func connected(t *testing.T) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if client, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); server.Close() })
	return client, server
}
