package integration_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"debug/elf"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// byBootstrap starts our sidecar of an instance by the name of Envoy, with the file that `consul connect envoy` writes.
func (w *world) byBootstrap(t *testing.T, i *instance, change func(string) string) {
	t.Helper()
	file := filepath.Join(w.env.Dir(), i.id+".json")
	must(t, os.WriteFile(file, []byte(change(string(w.bootstrap(t, i)))), 0o600))
	var err error
	i.sidecar, err = w.env.Start(harness.Command{Name: "envoy-" + i.id, Path: asEnvoy(t, w.env), Args: []string{"-c", file, "--concurrency", "1", "--drain-time-s", "1"}})
	must(t, err)
	sidecarReady(t, i)
}

func unchanged(text string) string { return text }

func post(t *testing.T, url string) {
	t.Helper()
	resp, err := http.Post(url, "", nil)
	must(t, err)
	defer drop(resp.Body)
	if resp.StatusCode != http.StatusOK {
		t.Errorf("POST %s: %s", url, resp.Status)
	}
}

// TestAdminActions has an operator fail and pass the health check, set the log's level, drain and end a sidecar.
func TestAdminActions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	api := w.run(t, "api-1", "api")
	sidecarReady(t, api)
	web := w.register(t, "web-1", "web", "api")
	w.byBootstrap(t, web, unchanged)
	w.waitOK(t, web.url("api", "/"))
	base := "http://" + local(web.admin)

	post(t, base+"/healthcheck/fail")
	if got := get(t, base+"/ready"); got.status != http.StatusServiceUnavailable || !strings.HasPrefix(got.body, "DRAINING\n") {
		t.Errorf("/ready after /healthcheck/fail: %d %s", got.status, got.body)
	}
	post(t, base+"/healthcheck/ok")
	waitStatus(t, base+"/ready", http.StatusOK)
	post(t, base+"/logging?level=debug")
	w.waitOK(t, web.url("api", "/"))
	if got := get(t, base+"/server_info"); !strings.Contains(got.body, `"log_level": "debug"`) {
		t.Errorf("/server_info after /logging?level=debug: %s", got.body)
	}

	// Only what others call: our own application still gets through.
	post(t, base+"/drain_listeners?inboundonly")
	eventually(t, "the public listener to be closed", func(ctx context.Context) error { return noListener(ctx, local(web.public)) })
	w.waitOK(t, web.url("api", "/"))
	// Clients are asked to leave before the sockets close, a second later here.
	post(t, base+"/drain_listeners?graceful")
	if got := get(t, base+"/ready"); got.status != http.StatusServiceUnavailable {
		t.Errorf("/ready while draining: %d %s", got.status, got.body)
	}
	eventually(t, "the upstream's listener to be closed", func(ctx context.Context) error { return noListener(ctx, local(web.upstreams["api"])) })
	post(t, base+"/quitquitquit")
	exits(t, web.sidecar, nomadKill)
}

func noListener(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	if err == nil {
		drop(conn)
	}
	return errNotYet
}

// TestTrap4RelativeSocket starts a sidecar as raw_exec does: its working directory is the task's, and the socket of the
// bootstrap is relative to the allocation's root.
func TestTrap4RelativeSocket(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	api := w.register(t, "api-1", "api")
	alloc := filepath.Join(w.env.Dir(), "a", "alloc")
	task := filepath.Join(w.env.Dir(), "a", "task")
	must(t, os.MkdirAll(filepath.Join(alloc, "tmp"), 0o700))
	must(t, os.MkdirAll(task, 0o700))
	forwardUnix(t, filepath.Join(alloc, "tmp", "consul_grpc.sock"), w.consul.GRPCAddr)
	host, port, _ := strings.Cut(w.consul.GRPCAddr, ":")
	text := string(w.bootstrap(t, api))
	begin := strings.Index(text, `"socket_address"`)
	for begin >= 0 && !strings.Contains(text[begin:begin+150], `"port_value": `+port) {
		begin += 1 + strings.Index(text[begin+1:], `"socket_address"`)
	}
	end := begin + strings.Index(text[begin:], "}") + 1
	text = text[:begin] + `"pipe": {"path": "alloc/tmp/consul_grpc.sock"}` + text[end:]
	if strings.Contains(text, `"port_value": `+port) {
		t.Fatalf("%s:%s is still in the bootstrap", host, port)
	}
	file := filepath.Join(task, "envoy_bootstrap.json")
	must(t, os.WriteFile(file, []byte(text), 0o600))
	var err error
	api.sidecar, err = w.env.Start(harness.Command{
		Name: "raw-exec", Path: asEnvoy(t, w.env), Dir: task, Env: []string{"NOMAD_ALLOC_DIR=" + alloc},
		Args: []string{"-c", file, "-l", "info", "--concurrency", "1", "--disable-hot-restart"},
	})
	must(t, err)
	sidecarReady(t, api)
}

// forwardUnix forwards what comes to a unix socket, as Nomad does.
func forwardUnix(t *testing.T, path, to string) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	must(t, err)
	serveEach(t, listener, func(conn net.Conn) {
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer drop(up)
		go func() { _, _ = io.Copy(up, conn) }()
		_, _ = io.Copy(conn, up)
	})
}

// TestTrap25VersionOfExtensions: an extension with a constraint on Envoy's version makes Consul look at ours, and end the
// stream where it finds none.
func TestTrap25VersionOfExtensions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "api", Protocol: "http",
		EnvoyExtensions: []consulapi.EnvoyExtension{{
			Name: "builtin/property-override", EnvoyVersion: ">= 1.33.0", Required: true,
			Arguments: map[string]any{"ProxyType": "connect-proxy", "Patches": []map[string]any{{
				"ResourceFilter": map[string]any{"ResourceType": "cluster", "TrafficDirection": "inbound"}, "Op": "add", "Path": "/connect_timeout/seconds", "Value": 7,
			}}},
		}},
	}))
	api := w.register(t, "api-1", "api")
	w.byBootstrap(t, api, unchanged)
	web := w.run(t, "web-1", "web", "api")
	w.waitOK(t, web.url("api", "/"))
	if got := get(t, "http://"+local(api.admin)+"/config_dump?resource=dynamic_active_clusters"); !strings.Contains(got.body, `"connect_timeout": "7s"`) {
		t.Errorf("the extension has done nothing: %s", got.body)
	}
}

// TestTrap26Chroot runs the binary where Nomad's exec driver does: in a chroot with nothing but itself and the
// bootstrap, as nobody.
func TestTrap26Chroot(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	serai, err := filepath.EvalSymlinks(asEnvoy(t, env))
	must(t, err)
	program, err := elf.Open(serai)
	must(t, err)
	defer drop(program)
	for _, p := range program.Progs {
		if p.Type == elf.PT_INTERP {
			t.Error("the binary wants a dynamic linker, which a chroot need not have")
		}
	}
	if os.Getuid() != 0 {
		harness.Skip(t, "only root may chroot")
	}
	root := t.TempDir()
	must(t, os.Chmod(root, 0o755))
	text, err := os.ReadFile(serai)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(root, "envoy"), text, 0o755))
	must(t, os.WriteFile(filepath.Join(root, "bootstrap.json"), []byte(`{"node": {"id": "a"}, "static_resources": {"clusters": [{"name": "local_agent",
	 "load_assignment": {"cluster_name": "local_agent", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": "alloc/tmp/consul_grpc.sock"}}}}]}]}}]}}`), 0o644))
	cmd := exec.CommandContext(t.Context(), "/envoy", "--mode", "validate", "-c", "/bootstrap.json")
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: root, Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
		t.Errorf("%v: %s", err, out)
	}
}

// metricsCA signs certificates for a test.
type metricsCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newMetricsCA(t *testing.T) *metricsCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	must(t, err)
	cert, err := x509.ParseCertificate(der)
	must(t, err)
	return &metricsCA{cert, key}
}

// issue writes a certificate and its key to files.
func (a *metricsCA) issue(t *testing.T, dir, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	must(t, err)
	private, err := x509.MarshalECPrivateKey(key)
	must(t, err)
	certFile, keyFile = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	must(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}), 0o600))
	return certFile, keyFile
}

// TestPrometheusWithTLS serves metrics with TLS, by the static secrets that `consul connect envoy
// -prometheus-ca-file ...` writes.
func TestPrometheusWithTLS(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	prometheus := w.ports(t, 1)
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal, Config: map[string]any{"envoy_prometheus_bind_addr": local(prometheus)},
	}))
	api := w.register(t, "api-1", "api")
	ca := newMetricsCA(t)
	dir := w.env.Dir()
	caFile := filepath.Join(dir, "ca.pem")
	must(t, os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw}), 0o600))
	certFile, keyFile := ca.issue(t, dir, "server")
	clientCert, clientKey := ca.issue(t, dir, "client")
	consul, err := w.env.Tool("consul")
	must(t, err)
	api.sidecar, err = w.env.Start(harness.Command{
		Name: "consul-connect-envoy", Path: consul,
		Args: []string{
			"connect", "envoy", "-sidecar-for", api.id, "-envoy-binary", asEnvoy(t, w.env), "-http-addr", w.consul.HTTPAddr, "-grpc-addr", w.consul.GRPCAddr,
			"-token", w.token(t, "api"), "-admin-bind", local(api.admin), "-prometheus-scrape-path", "/scrape",
			"-prometheus-ca-file", caFile, "-prometheus-cert-file", certFile, "-prometheus-key-file", keyFile,
		},
	})
	must(t, err)
	sidecarReady(t, api)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	client := func(certificates ...tls.Certificate) *http.Client {
		return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{
			RootCAs: pool, ServerName: "server", Certificates: certificates,
		}}}
	}
	own, err := tls.LoadX509KeyPair(clientCert, clientKey)
	must(t, err)
	url := "https://" + local(prometheus) + "/scrape"
	eventually(t, "metrics with TLS", func(ctx context.Context) error {
		got, err := fetch(ctx, client(own), url)
		if err == nil && (got.status != http.StatusOK || !strings.Contains(got.body, "envoy_server_live")) {
			err = fmt.Errorf("status %d: %.300s", got.status, got.body)
		}
		return err
	})
	// Consul asks for no certificate, but one that is shown must be good.
	stranger, strangerKey := newMetricsCA(t).issue(t, t.TempDir(), "stranger")
	bad, err := tls.LoadX509KeyPair(stranger, strangerKey)
	must(t, err)
	offer := client()
	transport, ok := offer.Transport.(*http.Transport)
	if !ok {
		t.Fatal("no transport")
	}
	transport.TLSClientConfig.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &bad, nil }
	if got, err := fetch(t.Context(), offer, url); err == nil {
		t.Errorf("metrics for a stranger's certificate: status %d", got.status)
	}
	// A new certificate in the same file is served soon.
	before := serial(t, url, client(own))
	ca.issue(t, dir, "server")
	eventually(t, "the new certificate", func(context.Context) error {
		if serial(t, url, client(own)) == before {
			return errNotYet
		}
		return nil
	})
}

func serial(t *testing.T, url string, client *http.Client) string {
	t.Helper()
	resp, err := client.Get(url)
	if err != nil {
		return ""
	}
	defer drop(resp.Body)
	return resp.TLS.PeerCertificates[0].SerialNumber.String()
}

// bootstrapTemplate is a bootstrap for a sidecar by Consul at an address, with a listener that answers 418.
func bootstrapTemplate(consul string, listener int) string {
	host, port, _ := strings.Cut(consul, ":")
	return fmt.Sprintf(`{
  "admin": {"address": {"socket_address": {"address": "{{ .AdminBindAddress }}", "port_value": {{ .AdminBindPort }}}}},
  "node": {"cluster": "{{ .ProxyCluster }}", "id": "{{ .ProxyID }}"},
  "static_resources": {
    "clusters": [{"name": "{{ .LocalAgentClusterName }}", "type": "STATIC", "http2_protocol_options": {}, "load_assignment": {"cluster_name": "a", "endpoints":
      [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "%s", "port_value": %s}}}}]}]}}],
    "listeners": [{"name": "mine", "address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}, "filter_chains": [{"filters": [{
      "name": "envoy.filters.network.http_connection_manager", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", "stat_prefix": "mine",
        "route_config": {"virtual_hosts": [{"name": "a", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": {"status": 418}}]}]},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}]
  },
  "dynamic_resources": {"lds_config": {"ads": {}}, "cds_config": {"ads": {}}, "ads_config": {"api_type": "DELTA_GRPC", "transport_api_version": "V3",
    "grpc_services": {"initial_metadata": [{"key": "x-consul-token", "value": "{{ .Token }}"}], "envoy_grpc": {"cluster_name": "{{ .LocalAgentClusterName }}"}}}}
}`, host, port, listener)
}

// TestBootstrapTemplate starts a sidecar with a bootstrap that is the user's from the first to the last byte
// (envoy_bootstrap_json_tpl).
func TestBootstrapTemplate(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	api := w.register(t, "api-1", "api")
	ports := w.ports(t, 1)
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{Kind: consulapi.ServiceDefaults, Name: "api", Protocol: "tcp"}))
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal,
		Config: map[string]any{"envoy_bootstrap_json_tpl": bootstrapTemplate(w.consul.GRPCAddr, ports)},
	}))
	eventually(t, "Consul to use the template", func(context.Context) error {
		if text := w.bootstrap(t, api); !bytes.Contains(text, []byte("418")) {
			return fmt.Errorf("it writes %.500s", text)
		}
		return nil
	})
	w.byBootstrap(t, api, unchanged)
	if got := get(t, "http://"+local(ports)+"/"); got.status != http.StatusTeapot {
		t.Errorf("the static listener of the template: status %d", got.status)
	}
	listens(t, api)
}
