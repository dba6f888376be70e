package integration_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// twinGateway is a gateway service with two instances side by side, ours and Envoy: each at an address of its own, since
// the ports are those of the config entry.
type twinGateway struct {
	w             *world
	kind, service string
	ready         int            // port of the address that is registered
	admin         map[string]int // ports, by data plane
	process       map[string]*harness.Process
	// onLoopback has both at 127.0.0.1, one after the other.
	onLoopback bool
}

func (g *twinGateway) address(plane string) string {
	if g.onLoopback {
		return "127.0.0.1"
	}
	return planeHost(plane)
}

// planeHost is the address of a data plane.
func planeHost(kind string) string {
	if kind == "envoy" {
		return "127.0.0.3"
	}
	return "127.0.0.1"
}

// gatewayTwins starts both: ours as a user would, by -gateway and -register, or with an edit from the bootstrap file, as
// Envoy always does.
func (w *world) gatewayTwins(t *testing.T, kind, service string, edit func(bootstrap []byte) []byte) *twinGateway {
	t.Helper()
	port := w.ports(t, 3)
	g := &twinGateway{
		w: w, kind: kind, service: service, ready: port,
		admin: map[string]int{"serai": port + 1, "envoy": port + 2}, process: map[string]*harness.Process{},
	}
	for _, plane := range kinds() {
		g.start(t, plane, edit)
	}
	return g
}

// start starts one of both. With an edit ours starts from the bootstrap file too.
func (g *twinGateway) start(t *testing.T, plane string, edit func(bootstrap []byte) []byte) {
	t.Helper()
	w := g.w
	address := g.address(plane) + ":" + port(g.ready)
	args := []string{
		"connect", "-gateway", g.kind, "-register", "-service", g.service, "-proxy-id", g.service + "-" + plane,
		"-address", address, "-admin-bind", local(g.admin[plane]),
	}
	if plane == "serai" && edit == nil {
		var err error
		g.process[plane], err = w.env.Serai(args, w.consul.Environ(w.consul.Token)...)
		must(t, err)
		return
	}
	// Not by -register: consul takes only the first loopback address for one of this machine.
	lan := consulapi.ServiceAddress{Address: g.address(plane), Port: g.ready}
	must(t, w.consul.RegisterService(t.Context(), &consulapi.AgentServiceRegistration{
		Kind: consulapi.ServiceKind(g.kind + "-gateway"), ID: g.service + "-" + plane, Name: g.service, Address: lan.Address, Port: lan.Port,
		TaggedAddresses: map[string]consulapi.ServiceAddress{"lan": lan}, Proxy: &consulapi.AgentServiceConnectProxyConfig{},
	}, w.consul.Token))
	text := w.bootstrapOf(t, w.consul.Token, slices.DeleteFunc(args[1:], func(a string) bool { return a == "-register" })...)
	if edit != nil {
		text = edit(text)
	}
	file := filepath.Join(w.env.Dir(), g.service+"-"+plane+".json")
	must(t, os.WriteFile(file, text, 0o600))
	if plane == "serai" {
		var err error
		g.process[plane], err = w.env.Serai([]string{"connect", "-c", file})
		must(t, err)
		return
	}
	g.process[plane] = startEnvoy(t, w.env, "envoy-"+g.service, file)
}

// planeAt is an address of a data plane.
func planeAt(plane string, p int) string { return planeHost(plane) + ":" + port(p) }

// write writes config entries.
func (w *world) write(t *testing.T, entries ...consulapi.ConfigEntry) {
	t.Helper()
	for _, entry := range entries {
		must(t, w.consul.WriteConfigEntry(t.Context(), entry))
	}
}

func port(p int) string { return strconv.Itoa(p) }

// gatewayCall is a request to a gateway.
type gatewayCall struct {
	port       int
	host, path string
	header     map[string]string
	// tls is nil for plain HTTP.
	tls *tls.Config
}

// gatewayAnswer is what is compared of the answers of both.
type gatewayAnswer struct {
	Status int
	Body   string
	Kept   map[string]string // fields of the response
	Leaf   string            // names in the certificate that was shown
}

// through makes a call through one data plane.
func (c gatewayCall) through(ctx context.Context, plane string) (*gatewayAnswer, error) {
	transport := &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: c.tls,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, planeAt(plane, c.port))
		},
	}
	scheme := "http://"
	if c.tls != nil {
		scheme = "https://"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+c.host+":"+port(c.port)+c.path, nil)
	if err != nil {
		return nil, err
	}
	for name, value := range c.header {
		req.Header.Set(name, value)
	}
	client := &http.Client{
		Transport: transport, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	o := &gatewayAnswer{Status: resp.StatusCode, Body: told(body), Kept: map[string]string{}}
	if resp.StatusCode >= http.StatusBadRequest {
		o.Body = "" // what we say there is our own
	}
	for name := range resp.Header {
		if strings.HasPrefix(name, "X-") && !strings.HasPrefix(name, "X-Envoy") {
			o.Kept[name] = strings.Join(resp.Header.Values(name), ",")
		}
	}
	if resp.TLS != nil {
		leaf := resp.TLS.PeerCertificates[0]
		o.Leaf = strings.Join(leaf.DNSNames, ",")
		for _, uri := range leaf.URIs {
			o.Leaf += " " + uri.Path
		}
	}
	return o, nil
}

// told is a body, of which only that is compared that does not differ from one request to the next.
func told(body []byte) string {
	var s seen
	if json.Unmarshal(body, &s) != nil {
		return string(body)
	}
	var fields []string
	for name, values := range s.Header {
		switch {
		case strings.HasPrefix(name, "X-Envoy"), name == "X-Request-Id", name == "X-Forwarded-For", name == "User-Agent",
			name == "X-Forwarded-Client-Cert", name == "Connection", name == "Accept-Encoding":
		default:
			fields = append(fields, name+": "+strings.Join(values, ","))
		}
	}
	slices.Sort(fields)
	return fmt.Sprintf("%s %s %s %s %q", s.Name, s.Method, s.Host, s.Path, fields)
}

// same makes a call through both until they agree, and want holds of the answer.
func (g *twinGateway) same(t *testing.T, what string, c gatewayCall, want func(*gatewayAnswer) error) {
	t.Helper()
	within(t, 2*patience, what, func(ctx context.Context) error {
		ours, err := c.through(ctx, "serai")
		if err != nil {
			return fmt.Errorf("through ours: %w", err)
		}
		theirs, err := c.through(ctx, "envoy")
		if err != nil {
			return fmt.Errorf("through Envoy: %w", err)
		}
		if diff := cmp.Diff(theirs, ours); diff != "" {
			return fmt.Errorf("-Envoy +ours:\n%s", diff)
		}
		return want(ours)
	})
}

// gatewaySays wants a status and a part of the body.
func gatewaySays(code int, part string) func(*gatewayAnswer) error {
	return func(o *gatewayAnswer) error {
		if o.Status != code || !strings.Contains(o.Body, part) {
			return fmt.Errorf("status %d: %s, want %d and %q", o.Status, o.Body, code, part)
		}
		return nil
	}
}

// gatewayShows wants a certificate that has a name.
func gatewayShows(name string) func(*gatewayAnswer) error {
	return func(o *gatewayAnswer) error {
		if o.Status != http.StatusOK || !strings.Contains(o.Leaf, name) {
			return fmt.Errorf("status %d with a certificate of %q, want 200 and %q", o.Status, o.Leaf, name)
		}
		return nil
	}
}

// atLeast is for counters.
func atLeast(got, want int) error {
	if got < want {
		return fmt.Errorf("%d of %d", got, want)
	}
	return nil
}
