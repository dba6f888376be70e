package redirect_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/agent/redirect"
)

// commands are what rules would run, without what all have in common.
func commands(t *testing.T, r redirect.Rules) []string {
	t.Helper()
	all, err := r.Commands()
	if err != nil {
		t.Fatal(err)
	}
	for i := range all {
		all[i] = strings.TrimPrefix(all[i], "iptables -w -t nat ")
	}
	return all
}

func TestCommands(t *testing.T) {
	t.Parallel()
	got := commands(t, redirect.Rules{
		ProxyUID: "101", Inbound: 20000, Outbound: 15002, ExcludeInboundPorts: []int{9102}, ExcludeOutboundPorts: []int{5432},
		ExcludeOutboundCIDRs: []string{"10.0.0.0/8", "2001:db8::/32"}, ExcludeUIDs: []string{"102"},
	})
	for _, want := range []string{
		"-A CONSUL_PROXY_REDIRECT -p tcp -j REDIRECT --to-port 15002",
		"-A CONSUL_PROXY_IN_REDIRECT -p tcp -j REDIRECT --to-port 20000",
		"-A CONSUL_PROXY_OUTPUT -m owner --uid-owner 101 -j RETURN",
		"-I CONSUL_PROXY_OUTPUT -m owner --uid-owner 102 -j RETURN",
		"-I CONSUL_PROXY_OUTPUT -p tcp --dport 5432 -j RETURN",
		"-I CONSUL_PROXY_OUTPUT -d 10.0.0.0/8 -j RETURN",
		"-I CONSUL_PROXY_INBOUND -p tcp --dport 9102 -j RETURN",
	} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("missing: %s", want)
		}
	}
	if all := strings.Join(got, "\n"); strings.Contains(all, "2001:db8") || strings.Contains(all, "ip6tables") || strings.Contains(all, "--dport 53 ") {
		t.Errorf("IPv6 or DNS, which were not asked for:\n%s", all)
	}
}

func TestDualStack(t *testing.T) {
	t.Parallel()
	r := redirect.Rules{ProxyUID: "101", Inbound: 20000, DualStack: true, ExcludeOutboundCIDRs: []string{"10.0.0.0/8", "2001:db8::/32"}, NetNS: "/run/netns/x", DNSAddress: "::1"}
	got, err := r.Commands()
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, command := range got {
		inside, ok := strings.CutPrefix(command, "nsenter --net=/run/netns/x -- ")
		if !ok {
			t.Errorf("not in the namespace: %s", command)
		}
		count[strings.Fields(inside)[0]]++
		if strings.HasPrefix(inside, "iptables") && strings.Contains(inside, "2001:db8") || strings.HasPrefix(inside, "ip6tables") && strings.Contains(inside, "10.0.0.0/8") {
			t.Errorf("the other family's network: %s", inside)
		}
	}
	if count["iptables"] == 0 || count["ip6tables"] == 0 || len(count) != 2 {
		t.Errorf("%v", count)
	}
}

func TestDNS(t *testing.T) {
	t.Parallel()
	dns := func(address string, port int) (found []string) {
		for _, command := range commands(t, redirect.Rules{ProxyUID: "101", Inbound: 1, DNSAddress: address, DNSPort: port}) {
			if strings.Contains(command, "udp") {
				found = append(found, command)
			}
		}
		return found
	}
	if diff := cmp.Diff([]string{
		"-A CONSUL_DNS_REDIRECT -p udp --dport 53 -j DNAT --to-destination 10.0.0.1",
		"-A OUTPUT -p udp --dport 53 -j CONSUL_DNS_REDIRECT",
	}, dns("10.0.0.1", 0)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{
		"-A CONSUL_DNS_REDIRECT -p udp -d 127.0.0.1 --dport 53 -j DNAT --to-destination 127.0.0.1:8600",
		"-A OUTPUT -p udp -d 127.0.0.1 --dport 53 -j CONSUL_DNS_REDIRECT",
	}, dns("", 8600)); diff != "" {
		t.Error(diff)
	}
}

// What iptables would refuse in the middle is refused before.
func TestRefused(t *testing.T) {
	t.Parallel()
	good := redirect.Rules{ProxyUID: "101", Inbound: 20000}
	for want, change := range map[string]func(*redirect.Rules){
		"the proxy's user must be given": func(r *redirect.Rules) { r.ProxyUID = "" },
		`"-j" is no user`:                func(r *redirect.Rules) { r.ExcludeUIDs = []string{"-j"} },
		"0 is no port":                   func(r *redirect.Rules) { r.Inbound = 0 },
		"65536 is no port":               func(r *redirect.Rules) { r.ExcludeOutboundPorts = []int{65536} },
		"-1 is no port":                  func(r *redirect.Rules) { r.Outbound = -1 },
		"address of DNS":                 func(r *redirect.Rules) { r.DNSAddress = "consul" },
		"not of the family":              func(r *redirect.Rules) { r.DNSAddress = "::1" },
		"neither a network":              func(r *redirect.Rules) { r.ExcludeOutboundCIDRs = []string{"10.0.0.0/99"} },
	} {
		r := good
		change(&r)
		if _, err := r.Commands(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// Whoever gives up in the middle leaves nothing, the command included that was cut off.
func TestGivenUp(t *testing.T) {
	dir := t.TempDir()
	log, hangs := filepath.Join(dir, "log"), filepath.Join(dir, "hangs")
	script := "#!/bin/sh\necho \"$@\" >>" + log + "\nif [ \"$2 $3\" = \"-t nat\" ] && [ $(wc -l <" + log + ") = 3 ]; then touch " + hangs + "; exec sleep 60; fi\n"
	if err := os.WriteFile(filepath.Join(dir, "iptables"), []byte(script), 0o700); err != nil { //nolint:gosec // a program
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	applied := make(chan error, 1)
	go func() { applied <- (&redirect.Rules{ProxyUID: "101", Inbound: 20000}).Apply(ctx) }()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(time.Millisecond) {
		if _, err := os.Stat(hangs); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not come so far")
		}
	}
	cancel()
	if err := <-applied; err == nil {
		t.Error("no error")
	}
	text, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if len(lines) != 6 {
		t.Fatalf("%d commands:\n%s", len(lines), text)
	}
	for i := range 3 {
		back := strings.NewReplacer(" -N ", " -X ", " -A ", " -D ", " -I ", " -D ").Replace(lines[2-i])
		if lines[3+i] != back {
			t.Errorf("%q is taken back by %q", lines[2-i], lines[3+i])
		}
	}
}
