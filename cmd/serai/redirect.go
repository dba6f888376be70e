package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/redirect"
)

// redirectPatience is how long Consul may take to answer.
const redirectPatience = 15 * time.Second

func redirectCommand() *cli.Command {
	return &cli.Command{
		Name:  "redirect-traffic",
		Usage: "redirect an application's traffic to its transparent proxy",
		Description: "It makes the same iptables rules as `consul connect redirect-traffic` and takes the same\n" +
			"flags. It needs root and the command iptables. All rules come into force, or none.\n\n" +
			"Examples:\n\n" +
			"  serai redirect-traffic -proxy-uid 1234 -proxy-id web-1-sidecar-proxy\n" +
			"  serai redirect-traffic -proxy-uid 1234 -proxy-inbound-port 20000 -netns /var/run/netns/web",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "proxy-uid", Usage: "`user` of the proxy, whose own traffic is not redirected; required"},
			&cli.StringFlag{Name: "proxy-id", Usage: "`ID` of the proxy in Consul, which knows its ports and what it exposes"},
			&cli.StringFlag{Name: "node-name", Usage: "`node` at which the proxy is registered, where there is no local agent"},
			&cli.IntFlag{Name: "proxy-inbound-port", Usage: "`port` of the proxy's public listener, without -proxy-id", DefaultText: "none"},
			&cli.IntFlag{Name: "proxy-outbound-port", Value: redirect.DefaultOutboundPort, Usage: "`port` of its outbound listener, without -proxy-id"},
			&cli.StringFlag{Name: "consul-dns-ip", Usage: "`address` of Consul's DNS, to which DNS is redirected"},
			&cli.IntFlag{Name: "consul-dns-port", Usage: "`port` of Consul's DNS; then only what is for its address is redirected", DefaultText: "none"},
			&cli.StringSliceFlag{Name: "exclude-inbound-port", Usage: "`port` that is reached as it is; may be repeated"},
			&cli.StringSliceFlag{Name: "exclude-outbound-port", Usage: "`port` that is called as it is; may be repeated"},
			&cli.StringSliceFlag{Name: "exclude-outbound-cidr", Usage: "`network` that is called as it is; may be repeated"},
			&cli.StringSliceFlag{Name: "exclude-uid", Usage: "`user` whose traffic goes out as it is; may be repeated"},
			&cli.StringFlag{Name: "netns", Usage: "`path` of the network namespace (default: ours)"},
			&cli.BoolFlag{Name: "dual-stack", Usage: "redirect IPv6, too", DefaultText: "if Consul's agent has an IPv6 address"},
			&cli.BoolFlag{Name: "dry-run", Usage: "print the rules and change nothing"},
		}, consulFlags()...),
		Action: runRedirect,
	}
}

func runRedirect(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	rules, err := redirectRules(c)
	if err != nil {
		return err
	}
	if c.Bool("dry-run") {
		commands, err := rules.Commands()
		for _, command := range commands {
			fmt.Println(command)
		}
		return err
	}
	if err := rules.Apply(c.Context); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "serai: traffic is redirected")
	return nil
}

// redirectRules are what flags and Consul say.
func redirectRules(c *cli.Context) (*redirect.Rules, error) {
	wrong := func(text string) error { return &usageError{command: c.Command.Name, err: errors.New(text)} }
	id := c.String("proxy-id")
	switch {
	case c.String("proxy-uid") == "":
		return nil, wrong("-proxy-uid is required")
	case id == "" && !c.IsSet("proxy-inbound-port"):
		return nil, wrong("-proxy-id or -proxy-inbound-port is required")
	case id != "" && (c.IsSet("proxy-inbound-port") || c.IsSet("proxy-outbound-port")):
		return nil, wrong("with -proxy-id Consul knows the ports: leave -proxy-inbound-port and -proxy-outbound-port out")
	case id == "" && c.IsSet("node-name"):
		return nil, wrong("-node-name goes with -proxy-id")
	}
	r := &redirect.Rules{
		ProxyUID: c.String("proxy-uid"), Inbound: c.Int("proxy-inbound-port"), Outbound: c.Int("proxy-outbound-port"),
		DNSAddress: c.String("consul-dns-ip"), DNSPort: c.Int("consul-dns-port"), NetNS: c.String("netns"),
		ExcludeOutboundCIDRs: c.StringSlice("exclude-outbound-cidr"), ExcludeUIDs: c.StringSlice("exclude-uid"),
		DualStack: c.Bool("dual-stack"),
	}
	if err := askForPorts(c, r); err != nil {
		return nil, err
	}
	for flag, ports := range map[string]*[]int{"exclude-inbound-port": &r.ExcludeInboundPorts, "exclude-outbound-port": &r.ExcludeOutboundPorts} {
		for _, text := range c.StringSlice(flag) {
			port, err := strconv.Atoi(text)
			if err != nil {
				return nil, wrong(fmt.Sprintf("-%s: %q is no port", flag, text))
			}
			*ports = append(*ports, port)
		}
	}
	return r, nil
}

// askForPorts fills in what Consul knows, if it is to be asked at all.
func askForPorts(c *cli.Context, r *redirect.Rules) error {
	id := c.String("proxy-id")
	if id == "" && c.IsSet("dual-stack") {
		return nil
	}
	client, err := catalog.NewClient(consulConfig(c, nil))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, redirectPatience)
	defer cancel()
	if id != "" {
		ports, err := catalog.ProxyPortsOf(ctx, client, id, c.String("node-name"))
		if err != nil {
			return err
		}
		r.Inbound, r.Outbound, r.ExcludeInboundPorts = ports.Inbound, ports.Outbound, ports.Exposed
	}
	if c.IsSet("dual-stack") {
		return nil
	}
	if r.DualStack, err = catalog.DualStack(ctx, client); err != nil {
		return fmt.Errorf("%w (or say -dual-stack=false)", err)
	}
	return nil
}
