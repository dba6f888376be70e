package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// Addresses and ports of a court, which are the same in each.
const (
	apiAddr, plainAddr   = "10.99.0.3", "10.99.0.4"
	appPort, plainPort   = 8080, 8081
	webPublic, apiPublic = 21001, 21000
	webAdmin, apiAdmin   = 19001, 19000
	apiOutbound          = 15002
	namedPort            = 8083
	gatewayPort          = 21002
	gatewayAdmin         = 19002
	functionPort         = 9191
	proxyUID             = "1234"
	insideAddr           = "192.0.2.1" // as the court is seen from outside
)

// trustFile has what the machine trusts, for who asks; Envoy does not where Consul names nobody.
const trustFile = "/run/netns/ca.pem"

// court is a namespace with a Consul, an application api with its sidecar, and the sidecar of web, both transparent.
// Whoever calls from within the court is web. Traffic is redirected by our own command.
//
//	web ── OUTPUT ──▶ web's sidecar ══ mTLS ══ api's sidecar ── api
//	outside ── PREROUTING ──▶ api's sidecar
type court struct {
	env    *harness.Env
	space  *harness.Namespace
	consul *harness.Consul
	by     string // "serai" or "envoy": what the sidecars are
	tokens map[string]string
	app    atomic.Int64 // requests that api got
	number int          // of commands
	// public signs certificates that the machine trusts.
	public *signingCA
}

// newCourt makes all but the sidecars and the redirect.
func newCourt(t *testing.T, by string) *court {
	t.Helper()
	c := &court{env: harness.ForTest(t), by: by, tokens: map[string]string{}, public: newOutsideCA(t)}
	var err error
	c.space, err = c.env.Namespace(t.Context())
	must(t, err)
	c.run(t, "/bin/sh", "-c", `set -e
ip addr add `+apiAddr+`/24 dev eth0
ip addr add `+plainAddr+`/24 dev eth0
ip netns add outside
ip link add inside type veth peer name out netns outside
ip addr add `+insideAddr+`/24 dev inside
ip link set inside up
ip netns exec outside ip addr add 192.0.2.2/24 dev out
ip netns exec outside ip link set out up
ip netns exec outside ip link set lo up
echo nameserver 127.0.0.1 >/run/netns/resolv.conf
mount --bind /run/netns/resolv.conf /etc/resolv.conf
printf '127.0.0.1 localhost\n`+plainAddr+` `+lambdaHost+`\n' >/run/netns/hosts
mount --bind /run/netns/hosts /etc/hosts
echo "$0" >`+trustFile, c.public.pem())
	c.consul, err = c.env.Consul(t.Context(), harness.ConsulConfig{Namespace: c.space})
	must(t, err)
	must(t, c.consul.Protocol(t.Context(), "api", "http"))
	for _, service := range []string{"web", "api"} {
		c.tokens[service], err = c.consul.ServiceToken(t.Context(), service)
		must(t, err)
	}
	// Names are looked up with the agent's own token.
	_, err = c.consul.API.Agent().UpdateDefaultACLToken(c.consul.Token, nil)
	must(t, err)
	c.serve(t, fmt.Sprintf("0.0.0.0:%d", appPort), func(w http.ResponseWriter, r *http.Request) {
		c.app.Add(1)
		fmt.Fprintf(w, "api, asked by %q", who(r))
	})
	return c
}

// who is the service that a sidecar says has asked; "" if nobody says.
func who(r *http.Request) string {
	_, uri, _ := strings.Cut(r.Header.Get("X-Forwarded-Client-Cert"), "URI=spiffe://")
	uri, _, _ = strings.Cut(uri, ";")
	uri, _, _ = strings.Cut(uri, ",")
	// The last one is the peer's, in either order of the keys.
	return uri[strings.LastIndexByte(uri, '/')+1:]
}

// serve serves HTTP in the court.
func (c *court) serve(t *testing.T, address string, handler http.HandlerFunc) {
	t.Helper()
	l, err := c.space.Listen(t.Context(), "tcp", address)
	must(t, err)
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	t.Cleanup(func() { drop(server) })
	go func() { _ = server.Serve(l) }()
}

// run runs a command in the court and returns what it wrote.
func (c *court) run(t *testing.T, path string, args ...string) string {
	t.Helper()
	out, err := c.try(t, path, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, out)
	}
	return out
}

func (c *court) try(t *testing.T, path string, args ...string) (string, error) {
	t.Helper()
	c.number++
	env := []string{}
	if c.consul != nil {
		env = c.consul.Environ(c.consul.Token)
	}
	p, err := c.env.Start(harness.Command{
		Name: fmt.Sprintf("%s-%d", filepath.Base(path), c.number), Path: path, Args: args, Namespace: c.space, Env: env,
	})
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	err = p.Wait(ctx)
	return p.Log(), err
}

// seraiBinary is our own.
func seraiBinary(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	return filepath.Join(root, "bin", "serai")
}

// register registers web, whose calls are redirected, or api.
func (c *court) register(t *testing.T, service string, change func(*consulapi.AgentServiceRegistration)) {
	t.Helper()
	address, port, public, outbound := c.space.Addr.String(), 9090, webPublic, 0
	if service == "api" {
		address, port, public, outbound = apiAddr, appPort, apiPublic, apiOutbound
	}
	r := &consulapi.AgentServiceRegistration{
		ID: service, Name: service, Address: address, Port: port,
		Connect: &consulapi.AgentServiceConnect{SidecarService: &consulapi.AgentServiceRegistration{
			Address: address, Port: public,
			Checks: consulapi.AgentServiceChecks{{Name: "listening", TCP: fmt.Sprintf("127.0.0.1:%d", public), Interval: "1s", Timeout: "1s"}},
			Proxy: &consulapi.AgentServiceConnectProxyConfig{
				Mode: consulapi.ProxyModeTransparent, TransparentProxy: &consulapi.TransparentProxyConfig{OutboundListenerPort: outbound},
				Config: map[string]any{"bind_address": "0.0.0.0"},
			},
		}},
	}
	if change != nil {
		change(r)
	}
	must(t, c.consul.RegisterService(t.Context(), r, c.tokens[service]))
}

// sidecar starts the sidecar of a service as a user of its own.
func (c *court) sidecar(t *testing.T, service string) *harness.Process {
	t.Helper()
	admin := webAdmin
	if service == "api" {
		admin = apiAdmin
	}
	return c.proxy(t, service+"-sidecar-proxy", c.tokens[service], admin)
}

// gateway registers and starts a terminating gateway.
func (c *court) gateway(t *testing.T, name string) {
	t.Helper()
	must(t, c.consul.RegisterService(t.Context(), &consulapi.AgentServiceRegistration{
		Kind: consulapi.ServiceKindTerminatingGateway, ID: name, Name: name, Address: c.space.Addr.String(), Port: gatewayPort,
		Proxy: &consulapi.AgentServiceConnectProxyConfig{},
	}, c.consul.Token))
	c.proxy(t, name, c.consul.Token, gatewayAdmin)
}

// proxy starts a proxy.
func (c *court) proxy(t *testing.T, id, token string, admin int) *harness.Process {
	t.Helper()
	args := []string{"--reuid", proxyUID, "--regid", proxyUID, "--clear-groups"}
	adminAddr := fmt.Sprintf("127.0.0.1:%d", admin)
	if c.by == "serai" {
		args = append(args, seraiBinary(t), "connect", "-proxy-id", id, "-admin-bind", adminAddr)
	} else {
		envoy, err := c.env.Envoy()
		must(t, err)
		consul, err := c.env.Tool("consul")
		must(t, err)
		bootstrap := c.run(t, consul, "connect", "envoy", "-bootstrap", "-proxy-id", id, "-admin-bind", adminAddr,
			"-grpc-addr", c.consul.GRPCAddr, "-token", token, "-ignore-envoy-compatibility")
		args = append(args, envoy, "--config-yaml", bootstrap, "--concurrency", "1", "--disable-hot-restart", "-l", "warning", "--use-dynamic-base-id")
	}
	p, err := c.env.Start(harness.Command{
		Name: id, Path: "/usr/bin/setpriv", Args: args, Namespace: c.space,
		Env: append(c.consul.Environ(token), "SSL_CERT_FILE="+trustFile, "AWS_ACCESS_KEY_ID="+lambdaKey, "AWS_SECRET_ACCESS_KEY="+lambdaSecret),
	})
	must(t, err)
	eventually(t, id+" is ready", func(ctx context.Context) error {
		_, err := c.get(ctx, "http://"+adminAddr+"/ready")
		return err
	})
	return p
}

// redirect redirects what web calls, and what comes from outside to api.
func (c *court) redirect(t *testing.T, more ...string) {
	t.Helper()
	c.run(t, seraiBinary(t), append([]string{
		"redirect-traffic", "-proxy-uid", proxyUID, "-proxy-inbound-port", fmt.Sprint(apiPublic), "-dual-stack=false",
	}, more...)...)
}

// get asks as web does; a status other than 200 is an error.
func (c *court) get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	got, err := fetch(ctx, c.space.Client(), url)
	switch {
	case err != nil:
		return "", err
	case got.status != http.StatusOK:
		return "", fmt.Errorf("status %d: %s", got.status, got.body)
	}
	return got.body, nil
}

// answers waits until a URL answers with a text.
func (c *court) answers(t *testing.T, url, want string) {
	t.Helper()
	eventually(t, url+" answers "+want, func(ctx context.Context) error {
		body, err := c.get(ctx, url)
		if err == nil && body != want {
			err = fmt.Errorf("got %q", body)
		}
		return err
	})
}

// fails waits until a URL is not answered any more.
func (c *court) fails(t *testing.T, url string) {
	t.Helper()
	eventually(t, url+" fails", func(ctx context.Context) error {
		body, err := c.get(ctx, url)
		if err == nil {
			return fmt.Errorf("it answers %q", body)
		}
		return nil
	})
}

// outside asks api's application as somebody on the network does, by its own port.
func (c *court) outside(t *testing.T) (string, error) {
	t.Helper()
	return c.try(t, "/bin/ip", "netns", "exec", "outside", "curl", "-s", "-S", "-m", "3", "-f", "http://"+net.JoinHostPort(insideAddr, fmt.Sprint(appPort))+"/")
}

// virtual is a service's virtual address.
func (c *court) virtual(t *testing.T, service string) string {
	t.Helper()
	var address string
	eventually(t, service+" has a virtual address", func(ctx context.Context) error {
		found, _, err := c.consul.API.Catalog().Service(service+"-sidecar-proxy", "", (&consulapi.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		for _, s := range found {
			if address = s.ServiceTaggedAddresses["consul-virtual"].Address; address != "" {
				return nil
			}
		}
		return fmt.Errorf("%d instances, none with one", len(found))
	})
	return address
}
