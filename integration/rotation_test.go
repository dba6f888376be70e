package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestRotation rotates root and leaves under load: no request fails, and no connection notices.
func TestRotation(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http", "native": "http"})
	w.allow(t, "edge", "api", "native")
	w.allow(t, "web", "api", "db", "native")
	sidecars := []*instance{w.run(t, "api-1", "api"), w.run(t, "api-2", "api"), w.run(t, "db-1", "db")}
	web := w.run(t, "web-1", "web", "api", "db", "native")
	sidecars = append(sidecars, web)
	peer := w.native(t)
	g := w.edge(t, mesh("api", "native"))
	w.waitOK(t, g.url("/api"), g.url("/native"), web.url("api", "/"), web.url("native", "/"))
	waitTCP(t, local(web.upstreams["db"]))
	old := activeRoot(t, w)
	eventually(t, "all leaves to be of the first root", slowly(func(ctx context.Context) error {
		return allOf(ctx, old, sidecars, peer, g, web)
	}))

	dials := &counter{}
	loads := map[string]*harness.Load{
		"edge to api":                   load(t, g.url("/api")),
		"web to api":                    load(t, web.url("api", "/")),
		"a client on one connection":    loadBy(t, strictOver(t, dials), g.url("/api"), 1),
		"edge to a native service":      load(t, g.url("/native")),
		"a caller with new connections": loadBy(t, closing(t), g.url("/api"), 1),
	}
	talk := stream(t, local(web.upstreams["db"]))

	begin := time.Now()
	id, err := w.consul.RotateCA(t.Context())
	must(t, err)
	root := activeRoot(t, w)
	if root.Equal(old) {
		t.Fatalf("the root is still the old one, not %s", id)
	}
	within(t, 2*time.Minute, "all leaves to be of the new root", slowly(func(ctx context.Context) error {
		return allOf(ctx, root, sidecars, peer, g, web)
	}))
	t.Logf("all leaves were of the new root %v after the rotation began", time.Since(begin).Round(time.Second))
	pause(t, 3*time.Second)
	talk.end(t)
	clean(t, loads)
	if n := dials.n.Load(); n != 1 {
		t.Errorf("the client on one connection needed %d", n)
	}
}

// allOf tells whether the sidecars and, as clients, the edge and web use leaves of a root.
func allOf(ctx context.Context, root *x509.Certificate, sidecars []*instance, peer *nativePeer, g *gate, web *instance) error {
	for _, i := range sidecars {
		leaf, err := servedLeaf(ctx, local(i.public))
		if err != nil {
			return fmt.Errorf("sidecar of %s: %w", i.id, err)
		}
		if err := leaf.CheckSignatureFrom(root); err != nil {
			return fmt.Errorf("leaf of the sidecar of %s: %w", i.id, err)
		}
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for service, url := range map[string]string{"edge": g.url("/native"), "web": web.url("native", "/")} {
		got, err := fetch(ctx, client, url)
		if err != nil {
			return fmt.Errorf("%s asks the native service: %w", service, err)
		}
		if got.status != http.StatusOK {
			return fmt.Errorf("%s asks the native service: status %d: %s", service, got.status, got.body)
		}
		seen := peer.caller(service)
		if seen == nil {
			return fmt.Errorf("%s has not called the native service", service)
		}
		if err := seen.CheckSignatureFrom(root); err != nil {
			return fmt.Errorf("leaf of %s as a client: %w", service, err)
		}
	}
	return nil
}

// slowly is for waits that are long, and whose questions cost something.
func slowly(f func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		err := f(ctx)
		if err != nil {
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		return err
	}
}

var errNoLeaf = errors.New("no certificate was served")

// servedLeaf is the certificate that a sidecar shows.
func servedLeaf(ctx context.Context, addr string) (*x509.Certificate, error) {
	var leaf *x509.Certificate
	dialer := tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, // to look at it, whatever it is
		VerifyConnection: func(state tls.ConnectionState) error {
			leaf = state.PeerCertificates[0]
			return nil
		},
	}}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err == nil {
		drop(conn)
	}
	if leaf == nil {
		return nil, errors.Join(errNoLeaf, err)
	}
	return leaf, nil
}

// activeRoot is the certificate of the active root.
func activeRoot(t *testing.T, w *world) *x509.Certificate {
	t.Helper()
	roots, _, err := w.consul.API.Agent().ConnectCARoots((&consulapi.QueryOptions{}).WithContext(t.Context()))
	must(t, err)
	for _, root := range roots.Roots {
		if root.ID != roots.ActiveRootID {
			continue
		}
		block, _ := pem.Decode([]byte(root.RootCertPEM))
		cert, err := x509.ParseCertificate(block.Bytes)
		must(t, err)
		return cert
	}
	t.Fatal("there is no active root")
	return nil
}

// nativePeer is an instance of the service "native", which speaks mTLS itself (Connect native), and looks who calls. It
// keeps no connection, so that each request shows the caller's leaf of that moment.
type nativePeer struct {
	// mu guards:
	mu      sync.Mutex
	callers map[string]*x509.Certificate // the last of each service
}

func (p *nativePeer) saw(cert *x509.Certificate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, id := range cert.URIs {
		p.callers[path.Base(id.Path)] = cert
	}
}

func (p *nativePeer) caller(service string) *x509.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.callers[service]
}

func (w *world) native(t *testing.T) *nativePeer {
	t.Helper()
	port := w.ports(t, 1)
	token := w.token(t, "native")
	must(t, w.consul.RegisterService(t.Context(), &consulapi.AgentServiceRegistration{
		ID: "native-1", Name: "native", Address: "127.0.0.1", Port: port,
		Connect: &consulapi.AgentServiceConnect{Native: true},
	}, token))
	client, err := w.consul.Client(token)
	must(t, err)
	leaf, _, err := client.Agent().ConnectCALeaf("native", (&consulapi.QueryOptions{}).WithContext(t.Context()))
	must(t, err)
	cert, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	must(t, err)

	peer := &nativePeer{callers: map[string]*x509.Certificate{}}
	listener := listenAt(t, port)
	server := &http.Server{
		ReadHeaderTimeout: 10 * time.Second,
		Handler:           http.HandlerFunc((&app{name: "native-1"}).hello),
		TLSConfig: &tls.Config{
			MinVersion:             tls.VersionTLS12,
			Certificates:           []tls.Certificate{cert},
			ClientAuth:             tls.RequireAnyClientCert,
			SessionTicketsDisabled: true,
			VerifyConnection: func(state tls.ConnectionState) error {
				peer.saw(state.PeerCertificates[0])
				return nil
			},
		},
	}
	server.SetKeepAlivesEnabled(false)
	t.Cleanup(func() { drop(server) })
	go func() { _ = server.ServeTLS(listener, "", "") }()
	return peer
}

// counter counts the connections of a client.
type counter struct{ n atomic.Int64 }

func (c *counter) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	c.n.Add(1)
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, address)
}

// closing is a client that uses each connection once.
func closing(t *testing.T) *http.Client {
	t.Helper()
	client := strict(t)
	client.Transport = once{&http.Transport{DisableKeepAlives: true}}
	return client
}
