package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/serai-net/serai/agent/config"
	"github.com/serai-net/serai/agent/dns"
)

// defaultDNS is where the DNS interface listens if nothing else is said. Consul's
// own is at port 8600.
const defaultDNS = "127.0.0.1:8653"

func dnsCommand() *cli.Command {
	return &cli.Command{
		Name:  "dns",
		Usage: "run the DNS interface",
		Description: "It answers NAME.mesh with the address where the asking workload's own sidecar listens\n" +
			"for NAME, if an intention allows the call; NAME.service.consul from Consul's catalog;\n" +
			"and passes all other names on to resolvers.\n\n" +
			"Examples:\n\n" +
			"  serai dns -workload web              # everybody who asks at " + defaultDNS + " is web\n" +
			"  serai dns -listen 127.0.0.1:5353 -resolver 1.1.1.1\n" +
			"  serai dns -config dns.hcl\n" +
			"  dig @127.0.0.1 -p 8653 api.mesh SRV",
		Flags: configFlags(
			&cli.StringSliceFlag{Name: "listen", Usage: "`address` and port to answer at, without a configuration; may be repeated (default: " + defaultDNS + ")"},
			&cli.StringFlag{Name: "workload", Usage: "`name` of the service, or ID of the sidecar, that asks there (default: found by the address that asks)"},
			&cli.StringSliceFlag{Name: "resolver", Usage: "`address` to ask for other names; may be repeated (default: those of /etc/resolv.conf)"},
		),
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			paths := c.StringSlice("config")
			if len(paths) == 0 {
				return runLoaded(c, func() (*config.Config, error) { return dnsConfig(c) })
			}
			for _, name := range []string{"listen", "workload", "resolver"} {
				if c.IsSet(name) {
					return &usageError{command: "dns", err: fmt.Errorf("-%s is for trying without a file: say it in the block dns { } of the configuration", name)}
				}
			}
			return runAgent(c, paths)
		},
	}
}

// dnsConfig makes a configuration of flags.
func dnsConfig(c *cli.Context) (*config.Config, error) {
	own := &dns.Config{}
	listen := c.StringSlice("listen")
	if len(listen) == 0 {
		listen = []string{defaultDNS}
	}
	for _, text := range listen {
		address, err := dnsAddress("listen", text)
		if err != nil {
			return nil, err
		}
		own.Listeners = append(own.Listeners, dns.Listener{Name: text, Address: address, Workload: c.String("workload")})
	}
	for _, text := range c.StringSlice("resolver") {
		address, err := dnsAddress("resolver", text)
		if err != nil {
			return nil, err
		}
		own.Resolvers = append(own.Resolvers, address)
	}
	if err := own.Validate(); err != nil {
		return nil, &usageError{command: "dns", err: err}
	}
	return &config.Config{DNS: own}, nil
}

// dnsAddress reads an IP address and port. A resolver's port is 53 if it has
// none.
func dnsAddress(flag, text string) (netip.AddrPort, error) {
	if rest, ok := strings.CutPrefix(text, "localhost:"); ok {
		text = "127.0.0.1:" + rest
	}
	if address, err := netip.ParseAddrPort(text); err == nil {
		return address, nil
	}
	if address, err := netip.ParseAddr(text); err == nil && flag == "resolver" {
		return netip.AddrPortFrom(address, 53), nil
	}
	return netip.AddrPort{}, &usageError{command: "dns", err: fmt.Errorf("-%s %q: %w", flag, text, errDNSAddress)}
}

// errDNSAddress: what stands after the flag cannot be bound or asked.
var errDNSAddress = errors.New("write an IP address and port, such as " + defaultDNS)
