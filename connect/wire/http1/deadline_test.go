package http1_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// TestTimeoutCountsFromTheRequestsEnd uploads for longer than the timeout. That
// is no reason to give up; an upstream that then takes too long is.
func TestTimeoutCountsFromTheRequestsEnd(t *testing.T) {
	const timeout, upload = 10 * time.Second, 25 * time.Second
	for _, test := range []struct {
		name   string
		answer time.Duration // after the request's end
		status int
	}{
		{"in time", 5 * time.Second, http.StatusOK},
		{"late", time.Minute, http.StatusGatewayTimeout},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				var upstream sync.WaitGroup
				upstream.Go(func() {
					req, err := http.ReadRequest(bufio.NewReader(far))
					if err == nil {
						_, err = io.Copy(io.Discard, req.Body)
					}
					time.Sleep(test.answer)
					if err == nil {
						io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
					}
					far.Close()
				})
				body := newStream()
				go func() {
					for range 5 {
						time.Sleep(upload / 5)
						body.pieces <- "x"
					}
					close(body.pieces)
				}()
				c := newClient(t, near, http1.ClientConfig{})
				c.x.Deadline, c.x.Timeout = time.Now().Add(timeout), timeout
				req := simple("POST")
				req.Body, req.ContentLength = body, wire.UnknownLength
				status := http.StatusOK
				spent := took(func() {
					if _, _, err := c.do(req); err != nil {
						status = wire.AsFault(err).Status
					}
				})
				if status != test.status || spent < upload || spent > upload+2*timeout {
					t.Errorf("got %d after %v", status, spent)
				}
				c.done()
				upstream.Wait()
			})
		})
	}
}
