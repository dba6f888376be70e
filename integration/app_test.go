package integration_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// app is what an instance serves.
//
//	/              its name
//	/headers       what it got, as JSON
//	/echo          the body, once all of it is there, and if its hash is what X-Sha256 says, if anything
//	/file          bodySize bytes, of which ranges may be asked
//	/body/MODE     the body streamed: sized, chunked, or with a trailer that has its hash
//	/slow/2s       its name, after a while
//	/via/NAME/...  what its upstream NAME answers
//	/upgrade       101, then all bytes back
//	/reset/WHEN    no whole answer: cut off before it, in the middle of it, or early, while the body is still coming
//
// With a header X-Show any path answers what was got, as JSON, and with headers X-Kept, X-Gone and X-Twice.
// A path under /x/ is answered as / is. An app whose service is tcp sends each byte back, and when the client has
// closed its half the hash of all, by which it is seen that the other half lives on.
type app struct {
	name      string
	port      int
	upstreams map[string]int
	hits      atomic.Int64
	cancelled atomic.Int64 // calls of gRPC that were cut off
}

// seen is a request as the app got it.
type seen struct {
	Name   string // of the app
	Method string
	Host   string
	Path   string
	Header http.Header
}

// startApp serves until the test ends.
func startApp(t *testing.T, name string, port int, protocol string, upstreams map[string]int) *app {
	t.Helper()
	a := &app{name: name, port: port, upstreams: upstreams}
	listener := listenAt(t, port)
	if protocol == "grpc" {
		a.serveGRPC(t, listener)
		return a
	}
	if protocol == "http" || protocol == "http2" {
		server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second, Protocols: new(http.Protocols)}
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(protocol == "http2")
		t.Cleanup(func() { drop(server) })
		go func() { _ = server.Serve(listener) }()
		return a
	}
	serveEach(t, listener, func(conn net.Conn) {
		a.hits.Add(1)
		hash := sha256.New()
		if _, err := io.Copy(io.MultiWriter(conn, hash), conn); err == nil {
			_, _ = fmt.Fprintf(conn, "%x", hash.Sum(nil))
		}
	})
	return a
}

// serveEach serves each connection of a listener until the test ends, and closes it.
func serveEach(t *testing.T, listener net.Listener, serve func(net.Conn)) {
	t.Helper()
	t.Cleanup(func() { drop(listener) })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer drop(conn)
				serve(conn)
			}()
		}
	}()
}

// accepting is the address of a listener whose connections are served so.
func accepting(t *testing.T, serve func(net.Conn)) net.Addr {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	serveEach(t, listener, serve)
	return listener.Addr()
}

// giveBack sends back all that comes.
func giveBack(conn net.Conn) { _, _ = io.Copy(conn, conn) }

func (a *app) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", a.hello)
	mux.HandleFunc("/x/", a.hello)
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(a.saw(r))
	})
	mux.HandleFunc("/fail/{only}", func(w http.ResponseWriter, r *http.Request) {
		if r.PathValue("only") == a.name {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		a.hello(w, r)
	})
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "file.bin", time.Time{}, strings.NewReader(strings.Repeat(bodyBlock, bodySize/len(bodyBlock))))
	})
	mux.HandleFunc("/body/{mode}", body)
	mux.HandleFunc("/slow/{time}", func(w http.ResponseWriter, r *http.Request) {
		d, _ := time.ParseDuration(r.PathValue("time"))
		select {
		case <-time.After(d):
		case <-r.Context().Done():
		}
		a.hello(w, r)
	})
	mux.HandleFunc("/via/{upstream}/{path...}", a.via)
	mux.HandleFunc("/upgrade", upgrade)
	mux.HandleFunc("/reset/{when}", cutOff)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.hits.Add(1)
		if r.Header.Get("X-Show") != "" {
			a.show(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (a *app) saw(r *http.Request) seen {
	return seen{Name: a.name, Method: r.Method, Host: r.Host, Path: r.RequestURI, Header: r.Header}
}

func (a *app) show(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Kept", "app")
	w.Header().Set("X-Gone", "app")
	w.Header().Set("X-Twice", "app")
	_ = json.NewEncoder(w).Encode(a.saw(r))
}

func (a *app) hello(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, a.name) }

// echo sends the body back with its hash.
func echo(w http.ResponseWriter, r *http.Request) {
	all, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if want := r.Header.Get("X-Sha256"); want != "" && want != sum(all) {
		http.Error(w, fmt.Sprintf("another body of %d bytes came", len(all)), http.StatusConflict)
		return
	}
	w.Header().Set("X-Sha256", sum(all))
	w.Header().Set("X-Proto", r.Proto)
	w.Header().Set("X-Trailer", r.Trailer.Get("X-Trailer"))
	w.Header().Set("X-Length", fmt.Sprint(r.ContentLength))
	_, _ = w.Write(all)
}

// bodySize is of /body/: more than all buffers on the way.
const bodySize = 3 << 20

const bodyBlock = "0123456789abcdef"

// body streams bodySize bytes.
func body(w http.ResponseWriter, r *http.Request) {
	block := []byte(strings.Repeat(bodyBlock, 1<<10))
	switch r.PathValue("mode") {
	case "sized":
		w.Header().Set("Content-Length", fmt.Sprint(bodySize))
	case "trailer":
		w.Header().Set("Trailer", "X-Sha256")
	}
	hash := sha256.New()
	for range bodySize / len(block) {
		_, _ = hash.Write(block)
		if _, err := w.Write(block); err != nil {
			return
		}
	}
	if r.PathValue("mode") == "trailer" {
		w.Header().Set("X-Sha256", hex.EncodeToString(hash.Sum(nil)))
	}
}

// via asks the upstream as an application does, at the local listener of its sidecar.
func (a *app) via(w http.ResponseWriter, r *http.Request) {
	url := "http://" + local(a.upstreams[r.PathValue("upstream")]) + "/" + r.PathValue("path")
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, url, http.NoBody)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer resp.Body.Close()
	w.WriteHeader(resp.StatusCode)
	_, _ = fmt.Fprintf(w, "%s hears from ", a.name)
	_, _ = io.Copy(w, resp.Body)
}

// upgrade does what a websocket's server does, but for frames.
func upgrade(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != "websocket" || !strings.EqualFold(r.Header.Get("Connection"), "upgrade") {
		http.Error(w, "no upgrade came through", http.StatusBadRequest)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

// cutOff resets the connection, or by HTTP/2 the stream.
func cutOff(w http.ResponseWriter, r *http.Request) {
	if r.PathValue("when") != "early" {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	if r.PathValue("when") == "middle" {
		w.Header().Set("Content-Length", fmt.Sprint(bodySize))
		_, _ = io.WriteString(w, strings.Repeat(bodyBlock, 1<<8))
		_ = http.NewResponseController(w).Flush()
	}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		reset(conn)
		return
	}
	panic(http.ErrAbortHandler)
}

// reset closes a connection by RST.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	drop(conn)
}

// mirror is a raw connection to a tcp app, on which each message must come back.
type mirror struct {
	conn   net.Conn
	reader *bufio.Reader
}

func dialMirror(t *testing.T, addr string) *mirror {
	t.Helper()
	m, err := tryMirror(t.Context(), addr)
	must(t, err)
	t.Cleanup(func() { drop(m.conn) })
	return m
}

func tryMirror(ctx context.Context, addr string) (*mirror, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return newMirror(conn), nil
}

func newMirror(conn net.Conn) *mirror { return &mirror{conn: conn, reader: bufio.NewReader(conn)} }

var (
	errMirror   = errors.New("what came back is not what was sent")
	errAnswered = errors.New("it is answered")
	errNotYet   = errors.New("not yet")
)

// ping sends a line and waits for it.
func (m *mirror) ping(text string) error {
	if err := m.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(m.conn, text+"\n"); err != nil {
		return err
	}
	back, err := m.reader.ReadString('\n')
	if err != nil {
		return err
	}
	if back != text+"\n" {
		return fmt.Errorf("%w: %q, %q", errMirror, text, back)
	}
	return nil
}

// waitTCP waits until a tcp service answers at these addresses.
func waitTCP(t *testing.T, addrs ...string) {
	t.Helper()
	for _, addr := range addrs {
		eventually(t, "an answer at "+addr, func(ctx context.Context) error {
			m, err := tryMirror(ctx, addr)
			if err != nil {
				return err
			}
			defer drop(m.conn)
			return m.ping("hello")
		})
	}
}

func sum(data []byte) string {
	hash := sha256.Sum256(data)
	return hex.EncodeToString(hash[:])
}
