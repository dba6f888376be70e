package integration_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
)

// TestRedirectTraffic: in a namespace of its own, our command makes the same rules as consul connect redirect-traffic
// with the same flags, and if one of them fails none stays.
func TestRedirectTraffic(t *testing.T) {
	t.Parallel()
	c := newCourt(t, "serai")
	consul, err := c.env.Tool("consul")
	must(t, err)
	c.register(t, "web", func(r *consulapi.AgentServiceRegistration) {
		proxy := r.Connect.SidecarService.Proxy
		proxy.TransparentProxy.OutboundListenerPort = 15010
		proxy.Config["envoy_prometheus_bind_addr"] = "0.0.0.0:9102"
		proxy.Config["envoy_stats_bind_addr"] = "0.0.0.0:9103"
		proxy.Expose = consulapi.ExposeConfig{Checks: true, Paths: []consulapi.ExposePath{{Path: "/health", LocalPathPort: 9090, ListenerPort: 9104}}}
		r.Check = &consulapi.AgentServiceCheck{HTTP: "http://127.0.0.1:9090/health", Interval: "1s"}
	})
	eventually(t, "the check is exposed", func(ctx context.Context) error {
		checks, err := c.consul.API.Agent().ChecksWithFilterOpts(`ServiceName == "web"`, (&consulapi.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		for _, check := range checks {
			if check.ExposedPort != 0 {
				return nil
			}
		}
		return fmt.Errorf("no check has a port")
	})
	flags := []string{
		"-proxy-uid", "1234", "-exclude-inbound-port", "22", "-exclude-outbound-port", "5432", "-exclude-outbound-cidr", "10.0.0.0/8",
		"-exclude-uid", "7", "-consul-dns-ip", "10.99.0.2", "-consul-dns-port", "8600",
	}
	for name, more := range map[string][]string{
		"registered": {"-proxy-id", "web-sidecar-proxy"},
		"node":       {"-proxy-id", "web-sidecar-proxy", "-node-name", c.consul.Node},
		"ports":      {"-proxy-inbound-port", "20000", "-proxy-outbound-port", "15011"},
	} {
		theirs := c.rules(t, name+"-consul", consul, slices.Concat([]string{"connect", "redirect-traffic"}, flags, more))
		ours := c.rules(t, name+"-serai", seraiBinary(t), slices.Concat([]string{"redirect-traffic"}, flags, more))
		if diff := cmp.Diff(theirs, ours); diff != "" || len(ours) < 15 {
			t.Errorf("%s: %d rules, -consul +serai:\n%s", name, len(ours), diff)
		}
		if name == "registered" && (!strings.Contains(strings.Join(ours, "\n"), "--dport 9104 ") || !strings.Contains(strings.Join(ours, "\n"), "--to-ports 15010")) {
			t.Errorf("the registration is not heeded:\n%s", strings.Join(ours, "\n"))
		}
	}
	t.Run("none stays", func(t *testing.T) {
		c.run(t, "/bin/ip", "netns", "add", "half")
		out, err := c.try(t, seraiBinary(t), "redirect-traffic", "-proxy-uid", "no-such-user-here", "-proxy-inbound-port", "20000", "-dual-stack=false", "-netns", "/run/netns/half")
		if err == nil || !strings.Contains(out, "no-such-user-here") {
			t.Errorf("%v: %s", err, out)
		}
		if left := c.saved(t, "half"); len(left) != 0 {
			t.Errorf("left: %q", left)
		}
	})
}

// rules are those that a command has made in a network namespace of its own.
func (c *court) rules(t *testing.T, name, path string, args []string) []string {
	t.Helper()
	c.run(t, "/bin/ip", "netns", "add", name)
	c.run(t, path, append(args, "-netns", "/run/netns/"+name)...)
	return c.saved(t, name)
}

func (c *court) saved(t *testing.T, name string) []string {
	t.Helper()
	counters := regexp.MustCompile(`\[\d+:\d+\]`)
	var rules []string
	for line := range strings.Lines(c.run(t, "/bin/ip", "netns", "exec", name, "iptables-save", "-t", "nat")) {
		line = strings.TrimSpace(counters.ReplaceAllString(line, ""))
		if strings.HasPrefix(line, "-A") || strings.HasPrefix(line, ":CONSUL") {
			rules = append(rules, line)
		}
	}
	return rules
}

// TestTransparent: an application calls virtual addresses and names, knows nothing of its sidecar, and is held to
// intentions. With Envoy in our place the same is true.
func TestTransparent(t *testing.T) {
	t.Parallel()
	for _, by := range []string{"serai", "envoy"} {
		t.Run(by, func(t *testing.T) {
			t.Parallel()
			transparent(t, newCourt(t, by))
		})
	}
}

func transparent(t *testing.T, c *court) {
	t.Helper()
	ctx := t.Context()
	_, port, err := net.SplitHostPort(c.consul.DNSAddr)
	must(t, err)
	c.serve(t, fmt.Sprintf("%s:%d", plainAddr, plainPort), func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "plain") })
	plain := fmt.Sprintf("http://%s:%d/", plainAddr, plainPort)
	c.register(t, "web", nil)
	c.register(t, "api", nil)
	must(t, c.consul.Intention(ctx, "web", "api", true))
	c.sidecar(t, "api")
	web := c.sidecar(t, "web")
	c.redirect(t, "-consul-dns-port", port)

	const asked = `api, asked by "web"`
	virtual := "http://" + c.virtual(t, "api") + "/"
	c.answers(t, virtual, asked)
	c.answers(t, "http://"+c.virtual(t, "api")+":8080/any/port", asked)
	if got := c.run(t, "/usr/bin/curl", "-s", "-S", "-m", "20", "--retry", "5", "--retry-all-errors", "http://api.virtual.consul/"); got != asked {
		t.Errorf("by name: %q", got)
	}

	// What is not of the mesh goes on as it was meant, unless that is forbidden.
	c.answers(t, plain, "plain")
	must(t, c.consul.WriteConfigEntry(ctx, &consulapi.MeshConfigEntry{
		TransparentProxy: consulapi.TransparentProxyMeshConfig{MeshDestinationsOnly: true}, AllowEnablingPermissiveMutualTLS: true,
	}))
	c.fails(t, plain)
	c.answers(t, virtual, asked)

	// The sidecar itself, called directly, goes round in no circle.
	for _, address := range []string{"http://127.0.0.1:15001/"} {
		if body, err := c.get(ctx, address); err == nil {
			t.Errorf("%s answers %q", address, body)
		}
	}

	permissive(t, c)
	directly(t, c)
	destinations(t, c)
	function(t, c)

	must(t, c.consul.Intention(ctx, "web", "api", false))
	c.fails(t, virtual)
	if c.by == "serai" && logHas(web, "level=ERROR", "panic") {
		t.Errorf("the sidecar complains:\n%s", web.Log())
	}
}

// permissive: what comes to the application's own port without TLS is let in only if mutual TLS is permissive.
func permissive(t *testing.T, c *court) {
	t.Helper()
	if got, err := c.outside(t); err == nil {
		t.Errorf("from outside without TLS: %q", got)
	}
	must(t, c.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "api", Protocol: "http", MutualTLSMode: consulapi.MutualTLSModePermissive,
	}))
	eventually(t, "api answers outside", func(context.Context) error {
		got, err := c.outside(t)
		if err == nil && got != `api, asked by ""` {
			t.Fatalf("%q", got)
		}
		return err
	})
	must(t, c.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "api", Protocol: "http", MutualTLSMode: consulapi.MutualTLSModeStrict,
	}))
	eventually(t, "api does not answer outside", func(context.Context) error {
		got, err := c.outside(t)
		if err == nil {
			return fmt.Errorf("it answers %q", got)
		}
		return nil
	})
}

// function: an upstream that is a function of AWS Lambda, by Consul's extension, is invoked with a signature by the
// credentials of the sidecar's environment.
func function(t *testing.T, c *court) {
	t.Helper()
	aws := &lambda{answer: "of the function"}
	chain, key := c.public.leaf(t, lambdaHost, "*.amazonaws.com")
	leaf, err := tls.X509KeyPair(chain, key)
	must(t, err)
	listener, err := c.space.Listen(t.Context(), "tcp", plainAddr+":443")
	must(t, err)
	server := &http.Server{Handler: aws, ReadHeaderTimeout: 10 * time.Second}
	t.Cleanup(func() { drop(server) })
	go func() {
		_ = server.Serve(tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{leaf}}))
	}() //nolint:gosec // as it comes
	must(t, c.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "function", Protocol: "http", EnvoyExtensions: []consulapi.EnvoyExtension{{
			Name: "builtin/aws/lambda", Required: true, Arguments: map[string]any{"ARN": lambdaARN, "PayloadPassthrough": true},
		}},
	}))
	c.register(t, "web", func(r *consulapi.AgentServiceRegistration) {
		r.Connect.SidecarService.Proxy.Upstreams = []consulapi.Upstream{{DestinationName: "function", LocalBindPort: functionPort}}
	})
	eventually(t, "the function answers", func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+local(functionPort)+"/any?path", strings.NewReader("hello"))
		if err != nil {
			return err
		}
		got, err := send(c.space.Client(), req)
		if err == nil && (got.status != http.StatusOK || got.body != "of the function") {
			err = fmt.Errorf("status %d: %s", got.status, got.body)
		}
		return err
	})
	aws.mu.Lock()
	defer aws.mu.Unlock()
	want := &invocation{Path: "/2015-03-31/functions/" + lambdaARN + "/invocations", Method: http.MethodPost, Kind: "RequestResponse", Host: "127.0.0.1", Raw: "hello"}
	if diff := cmp.Diff(want, aws.got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// directly: an instance that may be dialed directly is reached at its own address, by mTLS.
func directly(t *testing.T, c *court) {
	t.Helper()
	instance := fmt.Sprintf("http://%s:%d/", apiAddr, appPort)
	c.fails(t, instance) // MeshDestinationsOnly
	c.register(t, "api", func(r *consulapi.AgentServiceRegistration) {
		r.Connect.SidecarService.Proxy.TransparentProxy.DialedDirectly = true
	})
	// The port that is dialed is the sidecar's own: nothing redirects within one machine.
	c.answers(t, fmt.Sprintf("http://%s:%d/", apiAddr, apiPublic), `api, asked by "web"`)
}

// destinations: what is outside of the mesh, but known to it by a service-defaults entry, is reached through a
// terminating gateway, under intentions: by its address if it speaks TCP, by its name if it speaks HTTP.
func destinations(t *testing.T, c *court) {
	t.Helper()
	ctx := t.Context()
	plain := fmt.Sprintf("http://%s:%d/", plainAddr, plainPort)
	c.fails(t, plain) // MeshDestinationsOnly
	must(t, c.consul.WriteConfigEntry(ctx, &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "legacy", Protocol: "tcp",
		Destination: &consulapi.DestinationConfig{Addresses: []string{plainAddr}, Port: plainPort},
	}))
	must(t, c.consul.WriteConfigEntry(ctx, &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "named", Protocol: "http",
		Destination: &consulapi.DestinationConfig{Addresses: []string{"localhost"}, Port: namedPort},
	}))
	must(t, c.consul.WriteConfigEntry(ctx, &consulapi.TerminatingGatewayConfigEntry{
		Kind: consulapi.TerminatingGateway, Name: "leaving", Services: []consulapi.LinkedService{{Name: "legacy"}, {Name: "named"}},
	}))
	c.serve(t, fmt.Sprintf("127.0.0.1:%d", namedPort), func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "named for %s", r.Host) })
	c.gateway(t, "leaving")
	c.fails(t, plain) // no intention yet
	must(t, c.consul.Intention(ctx, "web", "legacy", true))
	must(t, c.consul.Intention(ctx, "web", "named", true))
	c.answers(t, plain, "plain")
	// Names are the Host field's: the address is any that has a way out.
	byName := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://198.51.100.1:%d/", namedPort), nil)
		if err != nil {
			return err
		}
		req.Host = "localhost"
		resp, err := c.space.Client().Do(req)
		if err != nil {
			return err
		}
		defer drop(resp.Body)
		body, err := io.ReadAll(resp.Body)
		if err == nil && !strings.HasPrefix(string(body), "named for ") {
			err = fmt.Errorf("status %d: %s", resp.StatusCode, body)
		}
		return err
	}
	eventually(t, "a destination by its name", byName)
	must(t, c.consul.Intention(ctx, "web", "legacy", false))
	c.fails(t, plain)
}
