package integration_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// testHostNetwork: an ingress, a terminating and a mesh gateway in the host's network, each with one port number for three
// listeners.
func (w *nomadWorld) testHostNetwork(ctx context.Context, t *testing.T) {
	t.Helper()
	host := w.Namespace.Addr.String()
	entry := hostPort(host, entryPort)
	w.gets(ctx, t, entry, "shop", "/echo?status=203", http.StatusNonAuthoritativeInfo)
	if got := w.gets(ctx, t, "gate", "outside", "/", http.StatusOK); got != "outside of the mesh" {
		t.Errorf("by the terminating gateway: %q", got)
	}
	w.testMeshGateway(ctx, t, hostPort(host, betweenPort))
	// It serves at all addresses, and yet its own two listeners are found at theirs.
	w.testMeshGateway(ctx, t, hostPort("127.0.0.3", betweenPort))
	for _, port := range []int{entryPort, leavePort, betweenPort} {
		w.testSaid(ctx, t, hostPort("127.0.0.2", port))
	}
	got, err := fetch(ctx, w.Namespace.Client(), "http://"+hostPort("127.0.0.1", entryPort)+"/ready")
	must(t, err)
	wantStatus(t, got, http.StatusOK)
	w.testDrain(ctx, t, entry)
}

// outside is a service that only Consul's catalog knows, and lets the terminating gateway stand for it: its token comes by
// workload identity, which by itself allows what its own name says.
func (w *nomadWorld) outside(ctx context.Context, t *testing.T) {
	t.Helper()
	l, err := w.Namespace.Listen(ctx, "tcp", hostPort(w.Namespace.Addr.String(), outsidePort))
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: 10 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, "outside of the mesh")
	})}
	t.Cleanup(func() { drop(server) })
	go func() { _ = server.Serve(l) }()
	write := (&consulapi.WriteOptions{}).WithContext(ctx)
	_, err = w.Consul.API.Catalog().Register(&consulapi.CatalogRegistration{
		Node: "elsewhere", Address: w.Namespace.Addr.String(), SkipNodeUpdate: false,
		Service: &consulapi.AgentService{ID: "outside", Service: "outside", Address: w.Namespace.Addr.String(), Port: outsidePort},
	}, write)
	must(t, err)
	policy, _, err := w.Consul.API.ACL().PolicyCreate(&consulapi.ACLPolicy{Name: "leave", Rules: `service "outside" { policy = "write" }`}, write)
	must(t, err)
	role, _, err := w.Consul.API.ACL().RoleCreate(&consulapi.ACLRole{Name: "leave", Policies: []*consulapi.ACLLink{{ID: policy.ID}}}, write)
	must(t, err)
	_, _, err = w.Consul.API.ACL().BindingRuleCreate(&consulapi.ACLBindingRule{
		AuthMethod: "nomad-workloads", BindType: consulapi.BindingRuleBindTypeRole, BindName: role.Name, Selector: `value.nomad_service == "leave"`,
	}, write)
	must(t, err)
}

// testMeshGateway calls shop as a sidecar of another datacenter does: by the server name of its cluster, with a certificate
// of the mesh, which the gateway does not see.
func (w *nomadWorld) testMeshGateway(ctx context.Context, t *testing.T, address string) {
	t.Helper()
	query := (&consulapi.QueryOptions{}).WithContext(ctx)
	leaf, _, err := w.Consul.API.Agent().ConnectCALeaf("entry", query)
	must(t, err)
	pair, err := tls.X509KeyPair([]byte(leaf.CertPEM), []byte(leaf.PrivateKeyPEM))
	must(t, err)
	roots, _, err := w.Consul.API.Agent().ConnectCARoots(query)
	must(t, err)
	config := &tls.Config{
		Certificates: []tls.Certificate{pair}, ServerName: "shop.default.dc1.internal." + roots.TrustDomain, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, // names of the mesh are URIs; what is asked here is who answers at all
	}
	must(t, harness.Until(ctx, "shop by the mesh gateway at "+address, func(ctx context.Context) error {
		raw, err := w.Namespace.DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		conn := tls.Client(raw, config)
		defer drop(conn)
		if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
			return err
		}
		if err := conn.HandshakeContext(ctx); err != nil {
			return err
		}
		if names := conn.ConnectionState().PeerCertificates[0].URIs; len(names) != 1 || !strings.HasSuffix(names[0].Path, "/svc/shop") {
			return fmt.Errorf("%v has answered", names)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://shop/echo?status=203", http.NoBody)
		if err != nil {
			return err
		}
		if err := req.Write(conn); err != nil {
			return err
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusNonAuthoritativeInfo {
			return fmt.Errorf("status %d", resp.StatusCode)
		}
		return nil
	}))
}

// testSaid: what the clients say of sidecars is in force.
func (w *nomadWorld) testSaid(ctx context.Context, t *testing.T, admin string) {
	t.Helper()
	got, err := fetch(ctx, w.Namespace.Client(), "http://"+admin+"/server_info")
	must(t, err)
	var info struct {
		Options struct {
			Concurrency int    `json:"concurrency"`
			LogLevel    string `json:"log_level"`
		} `json:"command_line_options"`
	}
	must(t, json.Unmarshal([]byte(got.body), &info))
	if info.Options.Concurrency != nomadThreads || info.Options.LogLevel != nomadLogLevel {
		t.Errorf("%s: %+v", admin, info.Options)
	}
}

// testDrain stops the gateway while it has requests under way, which are answered.
func (w *nomadWorld) testDrain(ctx context.Context, t *testing.T, entry string) {
	t.Helper()
	const requests = 20
	answers := make(chan error, requests)
	for range requests {
		go func() {
			got, err := fetch(ctx, w.Namespace.Client(), "http://"+entry+"/echo?status=203&delay=2s")
			if err == nil && got.status != http.StatusNonAuthoritativeInfo {
				err = fmt.Errorf("status %d: %s", got.status, got.body)
			}
			answers <- err
		}()
	}
	must(t, harness.Until(ctx, "requests to be under way", func(ctx context.Context) error {
		got, err := fetch(ctx, w.Namespace.Client(), "http://"+hostPort("127.0.0.2", entryPort)+"/stats?filter=^http.*downstream_rq_active$")
		if err == nil && !strings.Contains(got.body, fmt.Sprintf(".downstream_rq_active: %d\n", requests)) {
			err = fmt.Errorf("it says %q", got.body)
		}
		return err
	}))
	for _, alloc := range running(ctx, t, w.API, "host") {
		if alloc.TaskGroup == "entry" {
			w.stop(ctx, t, alloc, "connect-ingress-entry")
		}
	}
	for range requests {
		if err := <-answers; err != nil {
			t.Errorf("a request was lost: %v", err)
		}
	}
}
