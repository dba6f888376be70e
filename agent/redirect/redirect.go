// Package redirect makes the system redirect an application's traffic to its
// transparent proxy, by iptables.
//
//	outbound  application ── OUTPUT ──▶ proxy:15001      but not the proxy's own user
//	inbound   network ── PREROUTING ──▶ proxy:Inbound    but not ports that are exposed
//	DNS       application:53 ──▶ Consul's DNS
//
// Which rules these are is Consul's business: they come from its own library, so
// that they are the same as those of consul connect redirect-traffic, and of its CNI
// plugin. This package is the wall around it. It applies them all or none.
package redirect

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/sdk/iptables"
)

// DefaultOutboundPort is where a proxy listens for what its application calls.
const DefaultOutboundPort = iptables.DefaultTProxyOutboundPort

// Rules say what is redirected where.
type Rules struct {
	// ProxyUID is the user, by number or name, whose own traffic goes out as it is:
	// the proxy's.
	ProxyUID string
	// Inbound and Outbound are the proxy's ports; Outbound 0 means 15001.
	Inbound, Outbound int
	// DNSAddress and DNSPort are Consul's DNS. With only an address all of DNS goes
	// there; with a port (the address then is 127.0.0.1 by default) only what is
	// meant for that address. Neither leaves DNS alone.
	DNSAddress string
	DNSPort    int
	// What goes on as it is.
	ExcludeInboundPorts, ExcludeOutboundPorts []int
	ExcludeOutboundCIDRs, ExcludeUIDs         []string
	// NetNS is the path of the network namespace; "" means ours.
	NetNS string
	// DualStack redirects IPv6, too.
	DualStack bool
}

// Commands are what Apply would run, in order.
func (r *Rules) Commands() ([]string, error) {
	commands, err := r.commands()
	var all []string
	for _, c := range commands {
		all = append(all, strings.Join(c, " "))
	}
	return all, err
}

// Apply puts the rules in force. If one of them cannot be, those before it are taken
// back.
func (r *Rules) Apply(ctx context.Context) error {
	commands, err := r.commands()
	if err != nil {
		return err
	}
	for i, command := range commands {
		if err := run(ctx, command); err != nil {
			// Also when ctx has ended: nothing half may stay.
			after := context.WithoutCancel(ctx)
			if ctx.Err() != nil { // it may have been killed before or after it took effect
				run(after, reverse(command)) //nolint:errcheck // as said
			}
			return errors.Join(err, undo(after, commands[:i]))
		}
	}
	return nil
}

func run(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	said, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	text := strings.TrimSpace(string(said))
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install iptables", err)
	case strings.Contains(text, "Chain already exists"):
		text += " (traffic is redirected already)"
	}
	return fmt.Errorf("%s: %w: %s", strings.Join(command, " "), err, text)
}

// undo takes commands back, the last one first.
func undo(ctx context.Context, commands [][]string) error {
	var errs []error
	for _, command := range slices.Backward(commands) {
		errs = append(errs, run(ctx, reverse(command)))
	}
	return errors.Join(errs...)
}

// reverse is the command that takes a command back.
func reverse(command []string) []string {
	back := slices.Clone(command)
	for i, word := range back {
		switch word {
		case "-N":
			back[i] = "-X"
		case "-A", "-I":
			back[i] = "-D"
		}
	}
	return back
}

// commands makes the rules. It checks what the library does not, so that no rule
// fails when others are in force.
func (r *Rules) commands() ([][]string, error) {
	if err := r.validate(); err != nil {
		return nil, err
	}
	list := &recorder{netns: r.NetNS}
	config := iptables.Config{
		ConsulDNSIP: r.DNSAddress, ConsulDNSPort: r.DNSPort, ProxyUserID: r.ProxyUID,
		ProxyInboundPort: r.Inbound, ProxyOutboundPort: r.Outbound,
		ExcludeInboundPorts: texts(r.ExcludeInboundPorts), ExcludeOutboundPorts: texts(r.ExcludeOutboundPorts),
		ExcludeOutboundCIDRs: r.cidrs(false), ExcludeUIDs: r.ExcludeUIDs, IptablesProvider: list,
	}
	if err := iptables.SetupWithAdditionalRules(config, nil, r.DualStack); err != nil {
		return nil, err
	}
	commands := list.commands
	if r.DualStack {
		list.commands, config.ExcludeOutboundCIDRs = nil, r.cidrs(true)
		if err := iptables.SetupWithAdditionalRulesIPv6(config, nil, true); err != nil {
			return nil, err
		}
		commands = append(commands, list.commands...)
	}
	return commands, nil
}

// cidrs are the excluded networks of one family: a rule of one family with a
// network of the other is none.
func (r *Rules) cidrs(v6 bool) []string {
	var all []string
	for _, text := range r.ExcludeOutboundCIDRs {
		if strings.Contains(text, ":") == v6 {
			all = append(all, text)
		}
	}
	return all
}

func (r *Rules) validate() error {
	if r.ProxyUID == "" {
		return errors.New("the proxy's user must be given: or its own connections would come back to it")
	}
	ports := append([]int{r.Inbound}, r.ExcludeInboundPorts...)
	ports = append(ports, r.ExcludeOutboundPorts...)
	for _, port := range ports {
		if port < 1 || port > 65535 {
			return fmt.Errorf("%d is no port", port)
		}
	}
	for _, port := range []int{r.Outbound, r.DNSPort} {
		if port < 0 || port > 65535 {
			return fmt.Errorf("%d is no port", port)
		}
	}
	if r.DNSAddress != "" {
		addr, err := netip.ParseAddr(r.DNSAddress)
		if err != nil {
			return fmt.Errorf("address of DNS: %w", err)
		}
		if addr.Is6() != r.DualStack {
			return fmt.Errorf("address of DNS: %s is not of the family that is redirected", addr)
		}
	}
	for _, text := range r.ExcludeOutboundCIDRs {
		if _, err := netip.ParsePrefix(text); err == nil {
			continue
		}
		if _, err := netip.ParseAddr(text); err != nil {
			return fmt.Errorf("%q is neither a network nor an address", text)
		}
	}
	for _, uid := range append([]string{r.ProxyUID}, r.ExcludeUIDs...) {
		if uid == "" || strings.HasPrefix(uid, "-") || strings.ContainsAny(uid, " \t\n") {
			return fmt.Errorf("%q is no user", uid)
		}
	}
	return nil
}

func texts(ports []int) []string {
	var all []string
	for _, port := range ports {
		all = append(all, strconv.Itoa(port))
	}
	return all
}

// recorder takes the library's rules as an [iptables.Provider] that runs none.
type recorder struct {
	netns    string
	commands [][]string
}

var _ iptables.Provider = (*recorder)(nil)

// AddRule implements [iptables.Provider]. Two that run at once wait for each other.
func (r *recorder) AddRule(name string, args ...string) {
	command := append([]string{name, "-w"}, args...)
	if r.netns != "" {
		command = append([]string{"nsenter", "--net=" + r.netns, "--"}, command...)
	}
	r.commands = append(r.commands, command)
}

// ApplyRules implements [iptables.Provider].
func (r *recorder) ApplyRules(string) error { return nil }

// Rules implements [iptables.Provider].
func (r *recorder) Rules() []string { return nil }

// ClearAllRules implements [iptables.Provider].
func (r *recorder) ClearAllRules() { r.commands = nil }
