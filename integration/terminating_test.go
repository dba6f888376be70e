package integration_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// external is a service outside of the mesh. Its certificate, if it has one, may change.
type external struct {
	name   string
	port   int
	server *http.Server

	mu   sync.Mutex // guards:
	leaf *tls.Certificate
	// asked are the names in the ClientHello, clients the certificates that were shown.
	asked, clients map[string]bool
}

// outsider starts an external service at a port. clients is who may sign a client's certificate; nil for no matter.
func outsider(t *testing.T, name string, p int, ca *signingCA, mutual bool, names ...string) *external {
	t.Helper()
	e := &external{name: name, port: p, asked: map[string]bool{}, clients: map[string]bool{}}
	listener := listenAt(t, p)
	server := &http.Server{
		ReadHeaderTimeout: patience,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.TLS != nil {
				e.mu.Lock()
				e.asked[r.TLS.ServerName] = true
				for _, c := range r.TLS.PeerCertificates {
					e.clients[c.Subject.CommonName] = true
				}
				e.mu.Unlock()
			}
			fmt.Fprintf(w, "%s host=%s path=%s", e.name, r.Host, r.RequestURI)
		}),
	}
	e.server = server
	t.Cleanup(func() { drop(server) })
	if ca != nil {
		e.turn(t, ca, names...)
		config := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			e.mu.Lock()
			defer e.mu.Unlock()
			return e.leaf, nil
		}}
		if mutual {
			config.ClientAuth, config.ClientCAs = tls.RequireAndVerifyClientCert, ca.pool()
		}
		listener = tls.NewListener(listener, config)
	}
	go server.Serve(listener) //nolint:errcheck // ends with Close
	return e
}

// turn changes the certificate.
func (e *external) turn(t *testing.T, ca *signingCA, names ...string) {
	t.Helper()
	chain, key := ca.leaf(t, names...)
	leaf, err := tls.X509KeyPair(chain, key)
	must(t, err)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.leaf = &leaf
}

func (e *external) saw(names map[string]bool, name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return names[name]
}

// catalogExternal registers an external service with a node of its own.
func (w *world) catalogExternal(t *testing.T, service, id, address string, p int, meta map[string]string) {
	t.Helper()
	_, err := w.consul.API.Catalog().Register(&consulapi.CatalogRegistration{
		Node: "outside-" + id, Address: address, NodeMeta: map[string]string{"external-node": "true"},
		Service: &consulapi.AgentService{ID: id, Service: service, Address: address, Port: p, Meta: meta},
	}, (&consulapi.WriteOptions{}).WithContext(t.Context()))
	must(t, err)
}

// TestTerminatingGateway_Trap21: sidecars of both kinds call services outside of the mesh through a terminating gateway
// of both kinds: a plain one, one with TLS (CA, our certificate, SNI), one by its host name, and the subsets of one; with
// a chain and a leaf for each, chosen by server name. What does not ask for any is let in and closed, as Consul's check
// does. Intentions are held to, and files change.
func TestTerminatingGateway_Trap21(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "plain": "http", "secure": "http", "named": "http", "parts": "http"})
	ca, dir := newOutsideCA(t), t.TempDir()
	caFile := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(caFile, []byte(ca.pem()), 0o600))
	clientDir := filepath.Join(dir, "client")
	must(t, os.Mkdir(clientDir, 0o700))
	chain, key := ca.write(t, clientDir, "gateway-one")
	ports := w.ports(t, 6)
	outsider(t, "plain", ports, nil, false)
	secure := outsider(t, "secure", ports+1, ca, true, "secure.example")
	outsider(t, "named", ports+2, nil, false)
	outsider(t, "v1", ports+3, nil, false)
	outsider(t, "v2", ports+4, nil, false)
	w.catalogExternal(t, "plain", "plain-1", "127.0.0.1", ports, nil)
	w.catalogExternal(t, "secure", "secure-1", "127.0.0.1", ports+1, nil)
	w.catalogExternal(t, "named", "named-1", "localhost", ports+2, nil)
	w.catalogExternal(t, "parts", "parts-1", "127.0.0.1", ports+3, map[string]string{"version": "1"})
	w.catalogExternal(t, "parts", "parts-2", "127.0.0.1", ports+4, map[string]string{"version": "2"})
	w.write(t,
		&consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "parts", DefaultSubset: "v1",
			Subsets: map[string]consulapi.ServiceResolverSubset{
				// A Consul server, unlike a client agent, asks the gateway too whether it is in the subset.
				"v1": {Filter: `Service.Meta.version == 1 or Service.Kind == "terminating-gateway"`},
				"v2": {Filter: `Service.Meta.version == 2 or Service.Kind == "terminating-gateway"`},
			},
		},
		&consulapi.ServiceRouterConfigEntry{
			Kind: consulapi.ServiceRouter, Name: "parts", Routes: []consulapi.ServiceRoute{{
				Match:       &consulapi.ServiceRouteMatch{HTTP: &consulapi.ServiceRouteHTTPMatch{PathPrefix: "/two"}},
				Destination: &consulapi.ServiceRouteDestination{ServiceSubset: "v2"},
			}},
		},
		&consulapi.TerminatingGatewayConfigEntry{Kind: consulapi.TerminatingGateway, Name: "leave", Services: []consulapi.LinkedService{
			{Name: "plain"},
			{Name: "named"},
			{Name: "parts"},
			{Name: "secure", CAFile: caFile, CertFile: chain, KeyFile: key, SNI: "secure.example"},
		}},
	)
	web := map[string]*instance{}
	for _, kind := range kinds() {
		web[kind] = w.start(t, kind, w.register(t, "web-"+kind, "web", "plain", "secure", "named", "parts"))
	}
	for _, kind := range kinds() {
		t.Run(kind+" as gateway", func(t *testing.T) {
			g := w.leaveBy(t, kind)
			defer g.end(t)
			w.allow(t, "web", "plain", "secure", "named", "parts")
			for _, i := range web {
				says := func(service, path string, parts ...string) {
					t.Helper()
					eventually(t, i.id+" to come to "+service+path, func(ctx context.Context) error {
						got, err := fetch(ctx, strict(t), i.url(service, path))
						if err != nil {
							return err
						}
						for _, part := range parts {
							if got.status != http.StatusOK || !strings.Contains(got.body, part) {
								return fmt.Errorf("status %d: %s, want %q", got.status, got.body, part)
							}
						}
						return nil
					})
				}
				says("plain", "/a?b=c", "plain host=", "path=/a?b=c")
				says("secure", "/", "secure host=")
				says("named", "/", "named host=localhost ")
				says("parts", "/", "v1 ")
				says("parts", "/two", "v2 ")
				must(t, w.consul.Intention(t.Context(), "web", "plain", false))
				waitStatus(t, i.url("plain", "/"), http.StatusForbidden)
				says("secure", "/", "secure host=")
				w.allow(t, "web", "plain")
				says("plain", "/", "plain host=")
			}
			if !secure.saw(secure.asked, "secure.example") || !secure.saw(secure.clients, "cn.gateway-one") {
				t.Errorf("the service was asked for %v by %v", secure.asked, secure.clients)
			}
			bare(t, g.port)
			g.rotates(t, web["serai"], secure, ca, clientDir)
		})
	}
}

// bare is what Consul's check does: it connects, and says nothing.
func bare(t *testing.T, p int) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", local(p))
	if err != nil {
		t.Errorf("a connection that says nothing: %v", err)
		return
	}
	drop(conn)
	// A name that nobody serves gets no answer of anybody.
	if conn, err := (&tls.Dialer{Config: &tls.Config{ServerName: "nobody.example", InsecureSkipVerify: true}}).DialContext(t.Context(), "tcp", local(p)); err == nil {
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		if n, err := conn.Read(make([]byte, 1)); err == nil {
			t.Errorf("%d bytes for a name that nobody serves", n)
		}
		drop(conn)
	}
}

// leaving is a terminating gateway.
type leaving struct {
	*gateway
	kind string
}

// leaveBy starts the gateway "leave", ours by its flags.
func (w *world) leaveBy(t *testing.T, kind string) *leaving {
	t.Helper()
	p := w.ports(t, 2)
	g := &leaving{&gateway{w: w, port: p, admin: p + 1}, kind}
	twin := &twinGateway{w: w, kind: "terminating", service: "leave", ready: p, onLoopback: true, admin: map[string]int{kind: p + 1}, process: map[string]*harness.Process{}}
	twin.start(t, kind, nil)
	g.process = twin.process[kind]
	waitStatus(t, "http://"+local(g.admin)+"/ready", http.StatusOK)
	return g
}

// end stops it and takes it out of Consul.
func (g *leaving) end(t *testing.T) {
	t.Helper()
	must(t, g.process.Stop(t.Context()))
	must(t, g.w.consul.DeregisterService(t.Context(), "leave-"+g.kind))
}

// rotates changes the gateway's certificate in its files. Envoy reads them only when Consul sends the cluster again.
func (g *leaving) rotates(t *testing.T, web *instance, secure *external, ca *signingCA, dir string) {
	t.Helper()
	if g.kind != "serai" {
		return
	}
	ca.write(t, dir, "gateway-two")
	// Connections outlive the change; now each is good for one request.
	secure.server.SetKeepAlivesEnabled(false)
	defer secure.server.SetKeepAlivesEnabled(true)
	eventually(t, "the new certificate to be shown", func(ctx context.Context) error {
		if _, err := fetch(ctx, strict(t), web.url("secure", "/")); err != nil {
			return err
		}
		if !secure.saw(secure.clients, "cn.gateway-two") {
			return errors.New("only the old one was")
		}
		return nil
	})
	ca.write(t, dir, "gateway-one")
}
