package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// progress is how upstreams and clients of scenarios, of which one is played at a time, wait for each other.
type progress struct {
	begun chan struct{} // somebody has come to an upstream that does not answer
	heard chan struct{} // a client has the beginning of a body
}

func newProgress() *progress { return &progress{make(chan struct{}, 1), make(chan struct{}, 1)} }

// announce says that it has come so far; whoever waits hears of it once.
func announce(so chan struct{}) {
	select {
	case so <- struct{}{}:
	default:
	}
}

// forget takes back what was told and not waited for.
func forget(so chan struct{}) {
	select {
	case <-so:
	default:
	}
}

// waitBegun waits until somebody has come to an upstream that does not answer.
func (p *progress) waitBegun(ctx context.Context, t *testing.T) {
	t.Helper()
	select {
	case <-p.begun:
	case <-ctx.Done():
	case <-time.After(patience):
		t.Error("the upstream hears nothing")
	}
}

// cut sends ten bytes, and breaks off when they have come to the client.
func (p *progress) cut(rw http.ResponseWriter, r *http.Request) {
	forget(p.heard)
	_, _ = io.WriteString(rw, "0123456789")
	_ = http.NewResponseController(rw).Flush()
	select {
	case <-p.heard:
	case <-r.Context().Done():
	}
	panic(http.ErrAbortHandler)
}

// read reads a body to its end.
func (p *progress) read(body io.Reader) {
	_, _ = io.ReadFull(body, make([]byte, 10))
	announce(p.heard)
	_, _ = io.Copy(io.Discard, body)
}

// countedUpstreams are the servers that scenarios ask.
func countedUpstreams(t *testing.T, ca *signingCA, p *progress) map[string]string {
	t.Helper()
	handler := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/close":
			rw.Header().Set("Connection", "close")
		case "/hang":
			announce(p.begun)
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		case "/reset":
			panic(http.ErrAbortHandler)
		case "/cut":
			rw.Header().Set("Content-Length", "100")
			p.cut(rw, r)
		case "/cutcall":
			rw.Header().Set("Content-Type", "application/grpc")
			p.cut(rw, r)
		case "/trailers":
			rw.Header().Set("Trailer", "X-End")
			defer rw.Header().Set("X-End", "1")
		case "/503":
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		case "/later":
			rw.Header().Set("X-Later", "1")
			rw.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(rw, "hello")
	})
	first := httptest.NewServer(handler)
	t.Cleanup(first.Close)
	second := httptest.NewUnstartedServer(handler)
	second.Config.Protocols = &http.Protocols{}
	second.Config.Protocols.SetUnencryptedHTTP2(true)
	second.Start()
	t.Cleanup(second.Close)
	secret := httptest.NewUnstartedServer(handler)
	secret.TLS = &tls.Config{
		Certificates: []tls.Certificate{ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"twin.example"} })}, CurvePreferences: []tls.CurveID{tls.X25519},
	}
	secret.StartTLS()
	t.Cleanup(secret.Close)
	port, err := harness.ForTest(t).Port()
	must(t, err)
	at := func(serve func(net.Conn)) string { return accepting(t, serve).String() }
	return map[string]string{
		"http1": first.Listener.Addr().String(), "http2": second.Listener.Addr().String(), "tls": secret.Listener.Addr().String(), "nobody": local(port),
		"silent": at(func(conn net.Conn) {
			announce(p.begun)
			_, _ = io.Copy(io.Discard, conn)
		}),
		"eof": at(func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello")
			}
		}),
		"garbage": at(func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, "garbage\r\n\r\n")
			}
		}),
		"hasty": at(func(conn net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
				_, _ = io.Copy(io.Discard, conn)
			}
		}),
		"greets": at(func(conn net.Conn) { _, _ = io.WriteString(conn, "hello") }),
		"echo":   at(giveBack),
	}
}

// countedScenarios are what happens.
func countedScenarios(t *testing.T, ca *signingCA) map[string]*occasion {
	t.Helper()
	first := func(text string, n int, statuses ...int) func(s scene) {
		return func(s scene) { speakTo(s.t, s.address, text, s.hears(n, statuses...)) }
	}
	// leaves once the upstream has heard of the request.
	leaves := func(text string) func(s scene) {
		return func(s scene) {
			forget(s.begun)
			speakTo(s.t, s.address, text, func(net.Conn, *bufio.Reader) { s.waitBegun(s.t.Context(), s.t) })
		}
	}
	all := map[string]*occasion{
		"keeps":      {happen: first(ask1("/")+ask1("/"), 2, 200, 200)},
		"asks_close": {happen: first(ask1("/", "Connection: close"), 1, 200)},
		"leaves":     {happen: leaves(ask1("/hang"))},
		// Envoy waits for the client to close, although nothing more comes.
		"cut":        {differs: `delayed_close_timeout$`, happen: first(ask1("/cut"), 1, 200)},
		"told":       {happen: first(ask1("/close")+ask1("/close"), 2, 200)},
		"until_eof":  {upstream: "eof", happen: first(ask1("/"), 1, 200)},
		"garbage":    {upstream: "garbage", happen: first(ask1("/"), 1, 502)},
		"refused":    {upstream: "nobody", happen: first(ask1("/")+ask1("/"), 2, 503, 503)},
		"late":       {route: `,"timeout":"0.3s"`, happen: first(ask1("/hang"), 1, 504)},
		"lasts":      {manager: `,"common_http_protocol_options":{"max_stream_duration":"0.3s"}`, happen: first(ask1("/hang"), 1, 504)},
		"worn":       {cluster: `,"max_requests_per_connection":2`, happen: first(ask1("/")+ask1("/")+ask1("/"), 3, 200)},
		"reset":      {happen: first(ask1("/reset"), 1, 503)},
		"redirected": {action: `"redirect":{"path_redirect":"/elsewhere"}`, happen: first(ask1("/"), 1, 301)},
		// That is no request here.
		"bad":   {differs: `_rq_`, happen: first("GET / HTTP/1.1\r\nbad field\r\n\r\n", 1, 400)},
		"early": {upstream: "hasty", happen: first("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n", 1, 200)},
		// Envoy goes on with a connection that nobody waits for.
		"unheard": {differs: `connect_timeout$`, upstream: "silent", cluster: overTLS, happen: leaves(ask1("/"))},
		"unmade":  {upstream: "silent", cluster: overTLS, happen: first(ask1("/"), 1, 503)},
		"idle":    {manager: `,"common_http_protocol_options":{"idle_timeout":"1s"},"drain_timeout":"0.1s"`, happen: first(ask1("/"), 1, 200)},
	}
	policy := func(text string) string { return `,"retry_policy":{"num_retries":2,` + text + `}` }
	all["retries"] = &occasion{route: policy(`"retry_on":"5xx"`), happen: first(ask1("/503"), 1, 503)}
	all["asked"] = &occasion{
		route:  policy(`"retry_on":"5xx","rate_limited_retry_back_off":{"reset_headers":[{"name":"x-later"}]}`),
		happen: first(ask1("/later"), 1, 503),
	}
	all["per_try"] = &occasion{route: policy(`"retry_on":"5xx","per_try_timeout":"0.2s"`), happen: first(ask1("/hang"), 1, 504)}
	all["try_idle"] = &occasion{route: policy(`"retry_on":"5xx","per_try_idle_timeout":"0.2s"`), happen: first(ask1("/hang"), 1, 504)}
	all["retry_refused"] = &occasion{upstream: "nobody", route: policy(`"retry_on":"connect-failure"`), happen: first(ask1("/"), 1, 503)}

	http2 := func(path string, status int) func(s scene) {
		return func(s scene) { s.second(path, status, nil) }
	}
	for name, path := range map[string]string{"h2_plain": "/", "h2_trailers": "/trailers", "h2_cut": "/cut", "h2_told": "/close"} {
		all[name] = &occasion{upstream: "http2", cluster: overHTTP2, happen: http2(path, 200)}
	}
	all["h2_told"].differs = `protocol_error$` // Envoy finds fault with how Go says GOAWAY
	all["h2_reset"] = &occasion{upstream: "http2", cluster: overHTTP2, happen: func(s scene) {
		s.second("/reset", 503, func(r *http.Request) bool {
			r.Method = http.MethodPost // no other would be sent again
			return false
		})
	}}
	all["h2_late"] = &occasion{upstream: "http2", cluster: overHTTP2, route: `,"timeout":"0.3s"`, happen: http2("/hang", 504)}
	all["h2_leaves"] = &occasion{upstream: "http2", cluster: overHTTP2, happen: func(s scene) {
		s.second("/hang", 0, func(*http.Request) bool { return true })
	}}
	all["h2_call"] = &occasion{upstream: "http2", cluster: overHTTP2, happen: func(s scene) {
		s.second("/cutcall", 0, func(r *http.Request) bool {
			r.Method = http.MethodPost
			r.Header.Set("Content-Type", "application/grpc")
			return false
		})
	}}
	all["h2_refused"] = &occasion{upstream: "nobody", cluster: overHTTP2, happen: http2("/", 503)}

	all["tcp"] = &occasion{upstream: "echo", tcp: "-", happen: func(s scene) {
		speakTo(s.t, s.address, "hello", func(_ net.Conn, r *bufio.Reader) { _, _ = io.ReadFull(r, make([]byte, 5)) })
	}}
	all["tcp_greets"] = &occasion{differs: `destroy_(local|remote)|flush`, // both have ended
		upstream: "greets", tcp: "-", happen: func(s scene) {
			speakTo(s.t, s.address, "x", func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
		}}
	all["tcp_refused"] = &occasion{upstream: "nobody", tcp: `,"max_connect_attempts":2`, happen: func(s scene) {
		speakTo(s.t, s.address, "x", func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	}}
	all["tcp_idle"] = &occasion{upstream: "echo", tcp: `,"idle_timeout":"1s"`, happen: func(s scene) {
		speakTo(s.t, s.address, "x", func(_ net.Conn, r *bufio.Reader) { _, _ = io.Copy(io.Discard, r) })
	}}
	server, client := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"twin.example"} }), ca.issue(t, uris("spiffe://a/b"))
	for name, version := range map[string]uint16{"tls12": tls.VersionTLS12, "tls13": tls.VersionTLS13} {
		all[name] = &occasion{
			// Envoy sees what clients ask for, and how they have signed in TLS 1.2.
			differs: `ocsp_staple|tls12\.ssl\.sigalgs`,
			chain:   `,"transport_socket":` + downstreamTLS(t, server, trusting(ca)), upstream: "tls", cluster: fmt.Sprintf(overTLS13, trusting(ca)),
			happen: func(s scene) { s.secretly(&client, version) },
		}
	}
	all["drains"] = &occasion{happen: func(scene) {}} // see TestCountedAsEnvoy
	return all
}

// secretly makes a request over TLS, of a curve that both of our servers know.
func (s scene) secretly(client *tls.Certificate, version uint16) {
	s.t.Helper()
	conn, err := (&tls.Dialer{Config: &tls.Config{
		Certificates: []tls.Certificate{*client}, InsecureSkipVerify: true, MinVersion: version, MaxVersion: version, //nolint:gosec // it is ours
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256}, // that of the certificate
	}}).DialContext(s.t.Context(), "tcp", s.address)
	must(s.t, err)
	defer drop(conn)
	_, err = io.WriteString(conn, ask1("/"))
	must(s.t, err)
	s.hears(1, http.StatusOK)(conn, bufio.NewReader(conn))
}
