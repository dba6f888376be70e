package stack_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

const xfcc = "x-forwarded-client-cert"

// direct is a chain that answers by itself.
func direct() *mesh.HTTP {
	return &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Direct = &mesh.DirectResponse{Status: 200} })}
}

// forwarded is the field as it leaves a chain.
func forwarded(t *testing.T, f mesh.ForwardClientCert, peer *wire.Peer, came ...string) []string {
	t.Helper()
	h := direct()
	h.ClientCert = f
	req := request("GET", "/")
	for _, value := range came {
		req.Header.Add(xfcc, value)
	}
	do(t, compile(t, h, clusters(t, nil)), peer, req)
	var all []string
	for value := range req.Header.Values(xfcc) {
		all = append(all, value)
	}
	return all
}

func TestForwardClientCert(t *testing.T) {
	t.Parallel()
	peer := web(t)
	sum := sha256.Sum256(peer.Certificate.Raw)
	hash := "Hash=" + hex.EncodeToString(sum[:])
	uri := ";URI=" + identity
	came := []string{"By=x;URI=y", "By=z"}
	uriOnly := func(mode mesh.ForwardMode) mesh.ForwardClientCert {
		return mesh.ForwardClientCert{Mode: mode, URI: true}
	}
	tests := []struct {
		name string
		f    mesh.ForwardClientCert
		peer *wire.Peer
		came []string
		want []string
	}{
		{"default", mesh.ForwardClientCert{}, peer, came, nil},
		{"sanitize", uriOnly(mesh.ForwardSanitize), peer, came, nil},
		{"forward", uriOnly(mesh.ForwardOnly), peer, came, came},
		{"forward without mTLS", uriOnly(mesh.ForwardOnly), &wire.Peer{}, came, nil},
		{"always without mTLS", uriOnly(mesh.ForwardAlways), &wire.Peer{}, came, came},
		{"set", uriOnly(mesh.ForwardSanitizeSet), peer, came, []string{hash + uri}},
		{"set without mTLS", uriOnly(mesh.ForwardSanitizeSet), &wire.Peer{}, came, nil},
		{"append", uriOnly(mesh.ForwardAppend), peer, came, []string{"By=x;URI=y,By=z," + hash + uri}},
		{"append to nothing", uriOnly(mesh.ForwardAppend), peer, nil, []string{hash + uri}},
		{"append without mTLS", uriOnly(mesh.ForwardAppend), &wire.Peer{TLS: true}, came, nil},
		{"no details", mesh.ForwardClientCert{Mode: mesh.ForwardAppend}, peer, nil, []string{hash}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, forwarded(t, tt.f, tt.peer, tt.came...)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

// all is what Consul asks for.
func all(mode mesh.ForwardMode) mesh.ForwardClientCert {
	return mesh.ForwardClientCert{Mode: mode, Subject: true, Cert: true, Chain: true, DNS: true, URI: true}
}

func TestClientCertElement(t *testing.T) {
	t.Parallel()
	peer := &wire.Peer{Certificate: certificate(t, func(c *x509.Certificate) {
		c.DNSNames, c.Subject = []string{"a.example", "b.example"}, pkix.Name{CommonName: "web", Organization: []string{`"A" & B`}}
	})}
	got := forwarded(t, all(mesh.ForwardSanitizeSet), peer)
	if len(got) != 1 {
		t.Fatal(got)
	}
	var keys []string
	values := map[string]string{}
	for part := range strings.SplitSeq(got[0], ";") {
		key, value, _ := strings.Cut(part, "=")
		keys = append(keys, key)
		values[key] = strings.Trim(value, `"`)
	}
	if diff := cmp.Diff([]string{"Hash", "Cert", "Chain", "Subject", "URI", "DNS", "DNS"}, keys); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	// As Envoy writes it: a space is %20, which is read by both kinds of decoder.
	text, err := url.PathUnescape(values["Cert"])
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(text))
	if block == nil || string(block.Bytes) != string(peer.Certificate.Raw) {
		t.Errorf("Cert is %q", text)
	}
	if values["Chain"] != values["Cert"] || values["URI"] != identity {
		t.Errorf("%v", values)
	}
	if want := `Subject="CN=web,O=\"A\" & B"`; !strings.Contains(got[0], want) {
		t.Errorf("%s is not in %s", want, got[0])
	}
}

// A certificate must not bring an identity that is not its URI: Consul's
// patterns for peered services look for ";URI=" wherever it stands.
func TestClientCertCannotPose(t *testing.T) {
	t.Parallel()
	const victim = "spiffe://td.consul/ns/default/dc/dc1/svc/victim"
	pattern, err := match.Regex(`^[^,]+;URI=` + victim + `(?:,.*)?$`)
	if err != nil {
		t.Fatal(err)
	}
	uri := func(path string) func(c *x509.Certificate) {
		return func(c *x509.Certificate) { c.URIs = []*url.URL{{Scheme: "spiffe", Host: "evil.consul", Path: path}} }
	}
	for name, change := range map[string]func(c *x509.Certificate){
		"subject": func(c *x509.Certificate) {
			uri("/x")(c)
			c.Subject = pkix.Name{CommonName: "x;URI=" + victim, Organization: []string{"o"}}
		},
		"subject with a quote": func(c *x509.Certificate) {
			uri("/x")(c)
			c.Subject = pkix.Name{CommonName: `x";URI=` + victim + `,`}
		},
		"subject with a backslash": func(c *x509.Certificate) {
			uri("/x")(c)
			c.Subject = pkix.Name{CommonName: `x\`}
		},
		"uri":           uri("/x;URI=" + victim),
		"uri and comma": uri("/x;URI=" + victim + ",x"),
		"dns": func(c *x509.Certificate) {
			uri("/x")(c)
			c.DNSNames = []string{"x;URI=" + victim}
		},
	} {
		for _, mode := range []mesh.ForwardMode{mesh.ForwardSanitizeSet, mesh.ForwardAppend} {
			got := forwarded(t, all(mode), &wire.Peer{Certificate: certificate(t, change)})
			if len(got) != 1 || pattern.Match(got[0]) {
				t.Errorf("%s: poses as another: %q", name, got)
			}
		}
	}
	honest := &wire.Peer{Certificate: certificate(t, func(c *x509.Certificate) {
		c.Subject, c.URIs = pkix.Name{}, []*url.URL{{Scheme: "spiffe", Host: "td.consul", Path: "/ns/default/dc/dc1/svc/victim"}}
	})}
	if got := forwarded(t, all(mesh.ForwardSanitizeSet), honest); !pattern.Match(got[0]) {
		t.Errorf("the pattern does not find whom it is for: %q", got)
	}
}

// What is remembered of a certificate is its own.
func TestClientCertMany(t *testing.T) {
	t.Parallel()
	h := direct()
	h.ClientCert = mesh.ForwardClientCert{Mode: mesh.ForwardSanitizeSet, DNS: true}
	service := compile(t, h, clusters(t, nil))
	var peers []*wire.Peer
	for i := range 300 {
		peers = append(peers, &wire.Peer{Certificate: certificate(t, func(c *x509.Certificate) { c.DNSNames = []string{fmt.Sprint("h", i)} })})
	}
	for range 2 {
		for i, peer := range peers {
			req := request("GET", "/")
			do(t, service, peer, req)
			if got := req.Header.Get(xfcc); !strings.HasSuffix(got, fmt.Sprint(";DNS=h", i)) {
				t.Fatalf("peer %d: %q", i, got)
			}
		}
	}
}

func BenchmarkClientCert(b *testing.B) {
	h := direct()
	h.ClientCert = all(mesh.ForwardAppend)
	service, err := stack.HTTP(h, nil, upstream.NewSet(nil))
	if err != nil {
		b.Fatal(err)
	}
	x, req := exchange(web(b)), request("GET", "/")
	b.ReportAllocs()
	for b.Loop() {
		req.Header.Reset()
		if _, err := service.Serve(x, req); err != nil {
			b.Fatal(err)
		}
	}
}
