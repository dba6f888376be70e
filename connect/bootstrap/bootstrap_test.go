package bootstrap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serai-net/serai/connect/bootstrap"
	"github.com/serai-net/serai/connect/mesh"
)

// file is what `consul connect envoy -bootstrap` writes, shortened.
const file = `{
  "admin": {"access_log": [], "address": {"socket_address": {"address": "127.0.0.2", "port_value": 19001}}},
  "node": {"cluster": "web", "id": "web1-sidecar-proxy", "metadata": {"namespace": "default", "nodeName": "n"}},
  "layered_runtime": {"layers": []},
  "static_resources": {
    "clusters": [
      {"name": "local_agent", "type": "STATIC",
       "transport_socket": {"name": "tls", "typed_config": {"@type": "x", "common_tls_context": {"validation_context": {"trusted_ca": {"inline_string": "PEM"}}}}},
       "loadAssignment": {"clusterName": "local_agent", "endpoints": [{"lbEndpoints": [{"endpoint": {"address": {"pipe": {"path": "alloc/tmp/consul_grpc.sock"}}}}]}]}},
      {"name": "self_admin"}, {"name": "extra"}
    ],
    "listeners": [
      {"name": "envoy_ready_listener", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 21000}},
       "filter_chains": [{"filters": [{"typedConfig": {"route_config": {"virtual_hosts": [{"routes": [{"match": {"path": "/ready"}}, {"match": {"prefix": "/"}}]}]}}}]}]},
      {"name": "envoy_prometheus_metrics_listener", "address": {"socket_address": {"address": "0.0.0.0", "port_value": 20200}},
       "filter_chains": [{"transport_socket": {"name": "tls"}, "filters": [{"typedConfig": {"route_config": {"virtual_hosts": [{"routes": [{"match": {"path": "/metrics"}}]}]}}}]}]},
      {"name": "mine"}
    ]
  },
  "stats_config": {},
  "dynamic_resources": {"ads_config": {"api_type": "DELTA_GRPC", "grpc_services": {
    "initial_metadata": [{"key": "x-consul-token", "value": "abc"}], "envoy_grpc": {"cluster_name": "local_agent"}}}}
}`

func TestParse(t *testing.T) {
	t.Parallel()
	got, err := bootstrap.Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	want := &bootstrap.Config{
		Node:          bootstrap.Node{ID: "web1-sidecar-proxy", Cluster: "web", Metadata: map[string]any{"namespace": "default", "nodeName": "n"}},
		Server:        mesh.Address{Socket: "alloc/tmp/consul_grpc.sock"},
		TLS:           &bootstrap.TLS{RootsPEM: "PEM"},
		Token:         "abc",
		Admin:         mesh.Address{AddrPort: netip.MustParseAddrPort("127.0.0.2:19001")},
		Static:        bootstrap.Static{Clusters: make([]json.RawMessage, 3), Listeners: make([]json.RawMessage, 3)},
		FlushInterval: 5 * time.Second,
	}
	if text := string(got.Static.Listeners[2]); text != `{"name": "mine"}` {
		t.Errorf("a static listener is %s", text)
	}
	if text := string(got.JSON); strings.Contains(text, "abc") || !strings.Contains(text, "[redacted]") {
		t.Errorf("the token is shown: %s", text)
	}
	got.JSON = nil
	clear(got.Static.Clusters)
	clear(got.Static.Listeners)
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

// What is null is not there.
func TestNullService(t *testing.T) {
	t.Parallel()
	text := strings.Replace(file, `"envoy_grpc": {"cluster_name": "local_agent"}`, `"google_grpc": null`, 1)
	if text == file {
		t.Fatal("the file names no cluster")
	}
	if _, err := bootstrap.Parse([]byte(text)); err != nil {
		t.Error(err)
	}
}

// What the file says and has no effect is told.
func TestIgnored(t *testing.T) {
	t.Parallel()
	text := file
	for _, change := range [][2]string{
		{`"stats_config": {}`, `"stats_config": {}, "overloadManager": {}, "headerPrefix": "x", "cluster_manager": null`},
		{`"admin": {`, `"admin": {"profile_path": "/x", `},
		{`{"layers": []}`, `{"layers": [{"name": "a", "static_layer": {"overload.global_downstream_max_connections": 9, "re2.max_program_size.error_level": 1}}, {"name": "b", "rtds_layer": {}}]}`},
		{`"common_tls_context": {`, `"maxSessionKeys": 3, "common_tls_context": {"alpn_protocols": ["h2"], "tls_certificates": [{}], `},
		{`"lbEndpoints": [{`, `"lbEndpoints": [{"endpoint": {"address": {"pipe": {"path": "alloc/tmp/consul_grpc.sock"}}}}, {`},
	} {
		text = strings.Replace(text, change[0], change[1], 1)
	}
	got, err := bootstrap.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"further endpoints of cluster local_agent: the first is connected to", "TLS to the control plane: max_session_keys", "TLS to the control plane: tls_certificates",
		"header_prefix", "overload_manager", "admin.profile_path", "the runtime key overload.global_downstream_max_connections", `rtds_layer of layer "b" of layered_runtime`,
	}
	if diff := cmp.Diff(want, got.Ignored); diff != "" {
		t.Error(diff)
	}
}

// Roots may stand in a file.
func TestRootsOfFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(path, []byte("ROOTS"), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := bootstrap.Parse([]byte(strings.Replace(file, `"inline_string": "PEM"`, `"filename": "`+path+`"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if got.TLS.RootsPEM != "ROOTS" {
		t.Errorf("got %q", got.TLS.RootsPEM)
	}
}

// What is secret is not shown, however it is spelt and however deep it stands.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	text := strings.Replace(file, `{"name": "mine"}`, `{"name": "mine", "filter_chains": {"transport_socket": {"typed_config": {
		"common_tls_context": {"tls_certificates": [{"private_key": {"inline_string": "SECRET1"}, "certificate_chain": {"inline_string": "shown"}}]},
		"sessionTicketKeys": {"keys": [{"inlineBytes": "SECRET2"}, {"inline_bytes": "SECRET3"}]}}}}}`, 1)
	text = strings.Replace(text, `"static_resources": {`, `"static_resources": {"secrets": [{"name": "s", "generic_secret": {"secret": {"inline_string": "SECRET4"}}}, {"secretAccessKey": "SECRET6"}],`, 1)
	text = strings.Replace(text, "x-consul-token", "X-Consul-Token", 1)
	text = strings.Replace(text, `"abc"`, `"SECRET5"`, 1)
	got, err := bootstrap.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if shown := string(got.JSON); strings.Contains(shown, "SECRET") || !strings.Contains(shown, "shown") {
		t.Errorf("shown: %s", shown)
	}
}

func TestParseSpellings(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		`{"node":{"id":"a"},"staticResources":{"clusters":[{"name":"local_agent","load_assignment":{"endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socketAddress":{"address":"::1","portValue":8502}}}}]}]}}]}}`,
		`{"node":{"id":"a"},"static_resources":{"clusters":[{"name":"x","loadAssignment":{"endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socket_address":{"address":"::1","port_value":8502}}}}]}]}}]},
		 "dynamicResources":{"adsConfig":{"grpcServices":[{"envoyGrpc":{"clusterName":"x"}}]}}}`,
	} {
		got, err := bootstrap.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if got.Server.String() != "[::1]:8502" {
			t.Errorf("got %s", got.Server)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	tests := []struct{ text, want string }{
		{"", "empty: did `consul connect envoy -bootstrap` fail?"},
		{"{\n  \"node\": {,", "line 2, column 12: not JSON"},
		{"[]", "not a JSON object"},
		{`{"node":{"id":1}}`, "node.id: a JSON number is not what belongs there"},
		{`{}`, "node.id is missing"},
		{`{"node":{"id":"a"}}`, `no cluster "local_agent"`},
		{`{"node":{"id":"a"},"static_resources":{"clusters":[{"name":"local_agent"}]}}`, `"local_agent" has no endpoint`},
		{strings.Replace(file, `"pipe": {"path": "alloc/tmp/consul_grpc.sock"}`, `"socket_address": {"address": "localhost"}`, 1), `"localhost" is no IP address`},
		{strings.Replace(file, `"inline_string": "PEM"`, `"filename": "/no/such"`, 1), "trusted_ca: open /no/such"},
		{strings.Replace(file, `{"inline_string": "PEM"}`, `{}`, 1), "trusted_ca has neither inline_string nor filename"},
		{strings.Replace(file, `"trusted_ca":`, `"verify_certificate_hash": ["x"], "trusted_ca":`, 1), "validation_context.verify_certificate_hash is not supported"},
		{strings.Replace(file, `"trusted_ca":`, `"matchTypedSubjectAltNames": [{"sanType": "DNS", "matcher": {"prefix": "x"}}], "trusted_ca":`, 1), "only exact names of type DNS, URI or IP_ADDRESS"},
		{strings.Replace(file, `"common_tls_context":`, `"auto_sni_san_validation": true, "common_tls_context":`, 1), "auto_sni_san_validation is not supported"},
		{strings.Replace(file, `"envoy_grpc": {"cluster_name": "local_agent"}`, `"google_grpc": {"target_uri": "x"}`, 1), "google_grpc is not supported"},
		{strings.Replace(file, `"admin": {`, `"admin": {"allow_paths": [{"exact": "/ready"}], `, 1), "admin.allow_paths is not supported"},
	}
	for _, tt := range tests {
		if _, err := bootstrap.Parse([]byte(tt.text)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.40q: got error %v, want %q", tt.text, err, tt.want)
		}
	}
}

func read(path string) (*bootstrap.Config, error) { return bootstrap.Source{Path: path}.Read() }

func TestRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := read(filepath.Join(dir, "none")); err == nil || !strings.Contains(err.Error(), "no such file; write one with") {
		t.Errorf("missing file: got %v", err)
	}
	if _, err := read(dir); err == nil || !strings.Contains(err.Error(), "not readable") {
		t.Errorf("directory: got %v", err)
	}
	if os.Getuid() != 0 {
		secret := filepath.Join(dir, "secret")
		if err := os.WriteFile(secret, nil, 0o000); err != nil {
			t.Fatal(err)
		}
		if _, err := read(secret); err == nil || !strings.Contains(err.Error(), "change its mode") {
			t.Errorf("no permission: got %v", err)
		}
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	written := make(chan error, 1)
	go func() { written <- os.WriteFile(fifo, []byte(file), 0o600) }()
	config, err := read(fifo)
	if err != nil {
		t.Fatal(err)
	}
	if err := <-written; err != nil || config.Node.ID != "web1-sidecar-proxy" {
		t.Errorf("fifo: got %v, %v", config.Node, err)
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	env := func(string) string { return dir }
	none := func(string) string { return "" }
	tests := []struct {
		socket string
		getenv func(string) string
		want   string
	}{
		{"alloc/tmp/consul_grpc.sock", env, filepath.Join(dir, "tmp/consul_grpc.sock")},
		{"alloc/tmp/consul_grpc.sock", none, "alloc/tmp/consul_grpc.sock"},
		{"/run/consul.sock", env, "/run/consul.sock"},
		{"bootstrap_test.go", env, "bootstrap_test.go"}, // it is there
	}
	for _, tt := range tests {
		config := &bootstrap.Config{Server: mesh.Address{Socket: tt.socket}}
		if got := config.Target(tt.getenv).String(); got != tt.want {
			t.Errorf("%s: got %s, want %s", tt.socket, got, tt.want)
		}
	}
}

func TestTLSVerifiesTheChainAndWhatNamesAreAskedFor(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.EnableHTTP2 = true
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	own := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	other := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	named := func(typ, exact string) []bootstrap.Name { return []bootstrap.Name{{Type: typ, Exact: exact}} }
	for _, row := range []struct {
		roots string
		names []bootstrap.Name
		want  bool
	}{
		{own, nil, true},
		{other, nil, false},
		{own, named("DNS", "example.com"), true},
		{own, append(named("DNS", "other.example"), named("IP_ADDRESS", "127.0.0.1")...), true},
		{own, named("DNS", "other.example"), false},
		{own, named("IP_ADDRESS", "127.0.0.2"), false},
		{own, named("URI", "spiffe://x"), false},
		{other, named("DNS", "example.com"), false},
	} {
		want := row.want
		config, err := (&bootstrap.TLS{RootsPEM: row.roots, ServerName: "another.name", Names: row.names}).Config()
		if err != nil {
			t.Fatal(err)
		}
		conn, err := (&tls.Dialer{Config: config}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if got := err == nil; got != want {
			t.Errorf("got %v, want %v", err, want)
		}
		if conn != nil {
			conn.Close()
		}
	}
	if _, err := (&bootstrap.TLS{RootsPEM: "x"}).Config(); err == nil {
		t.Error("no certificate: no error")
	}
}

func FuzzBootstrap(f *testing.F) {
	f.Add([]byte(file))
	f.Add([]byte(`{"node":{"id":"a"},"static_resources":{"listeners":[null],"clusters":[null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := bootstrap.Parse(data)
		if (config == nil) == (err == nil) {
			t.Errorf("got %v and %v", config, err)
		}
	})
}
