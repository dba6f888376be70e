package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/proxy"
)

// gatewayFlags are those of gateways, with the names that they have for `consul connect envoy`.
func gatewayFlags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "register", Usage: "register the gateway with the agent first"},
		&cli.StringFlag{Name: "service", Usage: "`name` of the gateway's service (default: KIND-gateway)"},
		&cli.StringFlag{Name: "address", Usage: "`host[:port]` at which a gateway that registers is reached (default port: 8443)"},
		&cli.StringFlag{Name: "wan-address", Usage: "`host[:port]` at which other datacenters reach it"},
		&cli.StringSliceFlag{Name: "bind-address", Usage: "`name=ip:port` to listen at, in place of those above; may be given several times"},
		&cli.BoolFlag{Name: "expose-servers", Usage: "let other datacenters reach the Consul servers through this mesh gateway"},
		&cli.StringFlag{Name: "deregister-after-critical", Value: "6h", Usage: "`time` after which Consul forgets a registered gateway that is critical"},
		&cli.StringFlag{Name: "envoy-ready-bind-address", Usage: "`address` at which /ready is served as well; for an ingress gateway that of -address without it"},
		&cli.IntFlag{Name: "envoy-ready-bind-port", Usage: "`port` of it", DefaultText: "none"},
	}
}

func gatewayOf(c *cli.Context) (catalog.Gateway, error) {
	g := catalog.Gateway{
		Kind: c.String("gateway"), Service: c.String("service"), ID: c.String("proxy-id"),
		Address: c.String("address"), WAN: c.String("wan-address"),
		ExposeServers: c.Bool("expose-servers"), DeregisterAfter: c.String("deregister-after-critical"),
	}
	for _, text := range c.StringSlice("bind-address") {
		name, address, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return g, fmt.Errorf("-bind-address %q: write it as name=ip:port", text)
		}
		if g.Bind == nil {
			g.Bind = map[string]string{}
		}
		g.Bind[name] = address
	}
	return g, nil
}

// defaultAdmin is where `consul connect envoy` has the admin interface.
const defaultAdmin = "127.0.0.1:19000"

// serveReady adds the listener that answers health checks, where the flags ask for
// one: Consul writes it into the bootstrap file of an ingress gateway, whose other
// listeners stand elsewhere than the check looks.
func serveReady(c *cli.Context, config *proxy.Config) error {
	var address string
	var port int
	var err error
	switch {
	case c.String("envoy-ready-bind-address") != "" && c.Int("envoy-ready-bind-port") != 0:
		address, port = c.String("envoy-ready-bind-address"), c.Int("envoy-ready-bind-port")
	case c.String("gateway") == "ingress":
		if address, port, err = catalog.GatewayAddress(c.String("address")); err != nil {
			return err
		}
		address = cmp.Or(address, "127.0.0.1")
	default:
		return nil
	}
	config.Admin = cmp.Or(config.Admin, defaultAdmin)
	host, portText, err := net.SplitHostPort(config.Admin)
	if err != nil {
		return fmt.Errorf("-admin-bind %q: %w", config.Admin, err)
	}
	adminPort, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return fmt.Errorf("-admin-bind %q: %w", config.Admin, err)
	}
	config.XDS.Static.Clusters = append(config.XDS.Static.Clusters, json.RawMessage(fmt.Sprintf(
		`{"name":"self_admin","type":"STATIC","connectTimeout":"5s","loadAssignment":{"clusterName":"self_admin","endpoints":[{"lbEndpoints":[`+
			`{"endpoint":{"address":{"socketAddress":{"address":%q,"portValue":%d}}}}]}]}}`, cmp.Or(host, "127.0.0.1"), adminPort)))
	config.XDS.Static.Listeners = append(config.XDS.Static.Listeners, json.RawMessage(fmt.Sprintf(
		`{"name":"envoy_ready_listener","address":{"socketAddress":{"address":%q,"portValue":%d}},"filterChains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typedConfig":{`+
			`"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","statPrefix":"envoy_ready","codecType":"HTTP1",`+
			`"routeConfig":{"name":"self_admin_route","virtualHosts":[{"name":"self_admin","domains":["*"],"routes":[{"match":{"path":"/ready"},"route":{"cluster":"self_admin"}},`+
			`{"match":{"prefix":"/"},"directResponse":{"status":404}}]}]},"httpFilters":[{"name":"envoy.filters.http.router","typedConfig":{`+
			`"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`, address, port)))
	return nil
}
