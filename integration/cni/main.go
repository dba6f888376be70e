// Command cni stands in for consul-cni, the CNI plugin that Nomad wants for its transparent_proxy block, where that is
// not to be had. It does what Nomad asks of it: it redirects the traffic of an allocation's network namespace to the
// proxy in it, as CONSUL_IPTABLES_CONFIG says. The rules are those of Consul's own library in both.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/serai-net/serai/agent/redirect"
)

// stands is the version of consul-cni that Nomad reads, and for whose CNI_ARGS this is.
const stands = "CNI plugin of Serai's tests, for consul-cni v1.4.2"

// wanted is what Nomad says.
type wanted struct {
	ConsulDNSIP                               string
	ConsulDNSPort                             int
	ProxyUserID                               string
	ProxyInboundPort, ProxyOutboundPort       int
	ExcludeInboundPorts, ExcludeOutboundPorts []string
	ExcludeOutboundCIDRs, ExcludeUIDs         []string
	NetNS                                     string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Getenv, os.Stdin, os.Stdout); err != nil {
		// The form in which CNI wants errors.
		_ = json.NewEncoder(os.Stdout).Encode(map[string]any{"cniVersion": "0.4.0", "code": 999, "msg": err.Error()})
		os.Exit(1)
	}
}

func run(ctx context.Context, getenv func(string) string, in io.Reader, out io.Writer) error {
	switch command := getenv("CNI_COMMAND"); command {
	case "":
		_, err := fmt.Fprintln(out, stands)
		return err
	case "VERSION":
		return json.NewEncoder(out).Encode(map[string]any{"cniVersion": "0.4.0", "supportedVersions": []string{"0.3.1", "0.4.0"}})
	case "CHECK", "DEL":
		return nil // the rules go with the namespace
	case "ADD":
	default:
		return fmt.Errorf("CNI_COMMAND %q is not known", command)
	}
	var config struct {
		Before json.RawMessage `json:"prevResult"`
	}
	if err := json.NewDecoder(in).Decode(&config); err != nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	if config.Before == nil {
		return errors.New("there is no prevResult: this plugin goes after one that makes an interface")
	}
	if text := argument(getenv("CNI_ARGS"), "CONSUL_IPTABLES_CONFIG"); text != "" {
		if err := apply(ctx, text); err != nil {
			return err
		}
	}
	_, err := out.Write(config.Before)
	return err
}

// argument is a value of CNI_ARGS; empty if it is not there, as in allocations without a transparent proxy.
func argument(args, name string) string {
	for arg := range strings.SplitSeq(args, ";") {
		if key, value, ok := strings.Cut(arg, "="); ok && key == name {
			return value
		}
	}
	return ""
}

func apply(ctx context.Context, text string) error {
	var w wanted
	if err := json.Unmarshal([]byte(text), &w); err != nil {
		return fmt.Errorf("read CONSUL_IPTABLES_CONFIG: %w", err)
	}
	rules := redirect.Rules{
		ProxyUID: w.ProxyUserID, Inbound: w.ProxyInboundPort, Outbound: w.ProxyOutboundPort,
		DNSAddress: w.ConsulDNSIP, DNSPort: w.ConsulDNSPort,
		ExcludeOutboundCIDRs: w.ExcludeOutboundCIDRs, ExcludeUIDs: w.ExcludeUIDs, NetNS: w.NetNS,
	}
	var err error
	if rules.ExcludeInboundPorts, err = numbers(w.ExcludeInboundPorts); err != nil {
		return err
	}
	if rules.ExcludeOutboundPorts, err = numbers(w.ExcludeOutboundPorts); err != nil {
		return err
	}
	return rules.Apply(ctx)
}

func numbers(texts []string) ([]int, error) {
	var ports []int
	for _, text := range texts {
		port, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("a port: %w", err)
		}
		ports = append(ports, port)
	}
	return ports, nil
}
