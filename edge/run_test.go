package edge_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/edge"
	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/consumer"
)

// running is a gateway that serves.
type running struct {
	*edge.Gateway
	url  string
	stop context.CancelFunc
	done chan error
	out  *buffer
}

// buffer is safe for concurrent use.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

// freeHosts counts the addresses that freeAddress has given.
var freeHosts atomic.Uint32

// freeAddress is one that was free a moment ago, on a host of its own: no other test, nor
// a connection that is made meanwhile, is given its port.
func freeAddress(t *testing.T) netip.AddrPort {
	t.Helper()
	n := freeHosts.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.13.%d.%d:0", n/250, 1+n%250))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return netip.MustParseAddrPort(l.Addr().String())
}

func start(t *testing.T, c edge.Config) *running {
	t.Helper()
	if c.Listeners == nil {
		c.Listeners = []edge.Listener{{Name: "public", Address: freeAddress(t)}}
	}
	r := &running{url: "http://" + c.Listeners[0].Address.String(), done: make(chan error, 1), out: &buffer{}}
	g, err := edge.New(c, edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: r.out})
	if err != nil {
		t.Fatal(err)
	}
	r.Gateway = g
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func() { r.done <- g.Run(ctx) }()
	eventually(t, "the edge is ready", func() bool { return g.Ready() == nil })
	t.Cleanup(func() { stop() })
	return r
}

func eventually(t *testing.T, what string, true func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !true() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not in time: %s", what)
		}
	}
}

func get(t *testing.T, url string, fields ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range fields {
		name, value, _ := strings.Cut(one, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

// server is an upstream, and the configuration of an API that goes to it.
func server(t *testing.T, handler http.HandlerFunc) edge.API {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return edge.API{Name: "a", Routes: []edge.Route{{
		Name: "all", Upstream: &edge.Upstream{Addresses: []string{s.Listener.Addr().String()}},
	}}}
}

func TestRun(t *testing.T) {
	a := server(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s for=%s consumer=%s key=%q", r.Method, r.URL, r.Header.Get("X-Forwarded-For"),
			r.Header.Get("X-Serai-Consumer"), r.Header.Get("X-Api-Key"))
	})
	a.BasePath, a.StripBasePath, a.Authenticate = "/shop", true, &auth.Config{Kind: "api_key"}
	r := start(t, edge.Config{
		APIs:      []edge.API{a},
		Consumers: []consumer.Config{{Name: "acme", Keys: []consumer.KeyConfig{{Name: "k", Key: "secret"}}}},
		AccessLog: &telemetry.AccessLogConfig{Format: "json"},
	})
	for _, row := range []struct {
		path, key string
		status    int
		body      string
	}{
		{"/shop/./x?y=1", "secret", 200, `GET /x?y=1 for=127.0.0.1 consumer=acme key=""`},
		{"/shop", "", 401, "an API key is needed: send it in the header x-api-key\n"},
		{"/other", "secret", 404, "no route for this host, path and method\n"},
		{"/shop/%2e%2e%2fx", "secret", 400, "path has an encoded slash, backslash or NUL\n"},
	} {
		status, body := get(t, r.url+row.path, "x-api-key: "+row.key, "x-serai-consumer: root")
		if status != row.status || body != row.body {
			t.Errorf("%s: %d %q, want %d %q", row.path, status, body, row.status, row.body)
		}
	}
	eventually(t, "four lines are logged", func() bool { return strings.Count(r.out.String(), "\n") == 4 })
	for _, want := range []string{`"status":200,`, `"path":"/shop/./x"`, `"consumer":"acme"`, `"flag":"UNA"`, `"flag":"NR"`, `"flag":"DPE"`} {
		if !strings.Contains(r.out.String(), want) {
			t.Errorf("the access log has no %s:\n%s", want, r.out.String())
		}
	}
	if strings.Contains(r.out.String(), "secret") {
		t.Errorf("the access log has the key:\n%s", r.out.String())
	}
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// A request that is under way when the edge is stopped is answered, and so is
// one that comes within the drain delay.
func TestRunDrains(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	a := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- true
			<-leave
		}
		fmt.Fprint(w, "done")
	})
	delay, timeout := 3*time.Second, time.Minute // for one request; without need
	r := start(t, edge.Config{APIs: []edge.API{a}, DrainDelay: &delay, DrainTimeout: &timeout})
	slow := make(chan string)
	go func() {
		_, body := get(t, r.url+"/slow")
		slow <- body
	}()
	<-entered
	r.stop()
	eventually(t, "the edge says that it drains", func() bool { return r.Ready() != nil })
	if status, body := get(t, r.url+"/quick"); status != 200 || body != "done" {
		t.Errorf("while draining: %d %q", status, body)
	}
	eventually(t, "the listener closes", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	select {
	case err := <-r.done:
		t.Fatalf("Run has not waited for the request: %v", err)
	default:
	}
	leave <- true
	if body := <-slow; body != "done" {
		t.Errorf("the slow one got %q", body)
	}
	if err := <-r.done; err != nil {
		t.Error(err)
	}
}

// What is not done in time is cut off.
func TestRunDrainsInTime(t *testing.T) {
	entered := make(chan bool)
	a := server(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- true
		<-r.Context().Done()
	})
	delay, timeout := time.Duration(0), 200*time.Millisecond
	r := start(t, edge.Config{APIs: []edge.API{a}, DrainDelay: &delay, DrainTimeout: &timeout})
	go func() {
		resp, err := http.Get(r.url)
		if err == nil {
			resp.Body.Close()
		}
	}()
	<-entered
	begin := time.Now()
	r.stop()
	if err := <-r.done; err != nil {
		t.Error(err)
	}
	if d := time.Since(begin); d < timeout || d > time.Minute {
		t.Errorf("it took %s", d)
	}
}

func TestRunTLS(t *testing.T) {
	folder := t.TempDir()
	names := &edge.TLS{CertificateFile: filepath.Join(folder, "c.pem"), KeyFile: filepath.Join(folder, "k.pem")}
	listeners := []edge.Listener{{Name: "secure", Address: freeAddress(t), TLS: names}}
	_, err := edge.New(edge.Config{Listeners: listeners}, edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	if err == nil || !strings.Contains(err.Error(), `listener "secure", tls: certificate`) {
		t.Errorf("without the files: %v", err)
	}
	// httptest has a certificate for example.com; we write it where it is wanted.
	upstream := httptest.NewTLSServer(nil)
	defer upstream.Close()
	writePEM(t, names, upstream.TLS.Certificates[0])
	a := server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Forwarded-Proto")) })
	start(t, edge.Config{Listeners: listeners, APIs: []edge.API{a}})
	transport, ok := upstream.Client().Transport.(*http.Transport)
	if !ok {
		t.Fatal("httptest's client has another transport")
	}
	transport.TLSClientConfig.ServerName = "example.com"
	resp, err := upstream.Client().Get("https://" + listeners[0].Address.String())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "https" {
		t.Errorf("%q, %v", body, err)
	}
}

// TestRunHTTP2 asks over TLS with ALPN, and in clear by prior knowledge, for a route
// to an upstream that speaks HTTP/2 only.
func TestRunHTTP2(t *testing.T) {
	app := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Proto, " ", r.Header.Get("X-Forwarded-Proto"))
	}))
	app.Config.Protocols = new(http.Protocols)
	app.Config.Protocols.SetUnencryptedHTTP2(true)
	app.Start()
	defer app.Close()
	site := httptest.NewTLSServer(nil)
	defer site.Close()
	folder := t.TempDir()
	names := &edge.TLS{CertificateFile: filepath.Join(folder, "c.pem"), KeyFile: filepath.Join(folder, "k.pem")}
	writePEM(t, names, site.TLS.Certificates[0])
	listeners := []edge.Listener{{Name: "secure", Address: freeAddress(t), TLS: names}, {Name: "plain", Address: freeAddress(t)}}
	upstream := &edge.Upstream{Addresses: []string{app.Listener.Addr().String()}, Protocol: "http2"}
	start(t, edge.Config{Listeners: listeners, APIs: []edge.API{{Name: "a", Routes: []edge.Route{{Name: "r", Upstream: upstream}}}}})
	for i, scheme := range []string{"https", "http"} {
		for _, h2 := range []bool{true, false} {
			transport := &http.Transport{Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			transport.Protocols.SetHTTP1(!h2)
			transport.Protocols.SetHTTP2(h2)
			transport.Protocols.SetUnencryptedHTTP2(h2)
			resp, err := (&http.Client{Transport: transport}).Get(scheme + "://" + listeners[i].Address.String())
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(body) != "HTTP/2.0 "+scheme || (resp.ProtoMajor == 2) != h2 {
				t.Errorf("%s, HTTP/2 %t: %s %q, %v", scheme, h2, resp.Proto, body, err)
			}
			transport.CloseIdleConnections()
		}
	}
}

func writePEM(t *testing.T, names *edge.TLS, c tls.Certificate) {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		names.CertificateFile: {Type: "CERTIFICATE", Bytes: c.Certificate[0]},
		names.KeyFile:         {Type: "PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRunTellsOfATakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	g, err := edge.New(edge.Config{Listeners: []edge.Listener{
		{Name: "public", Address: netip.MustParseAddrPort(taken.Addr().String())},
	}}, edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	if err != nil {
		t.Fatal(err)
	}
	err = g.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), `listener "public"`) || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
}
