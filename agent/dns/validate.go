package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Validate tells all that is wrong. Each error begins with the position of what
// it is about, if it was read from a file, and says what would be right. It
// reads no file and asks nobody.
func (c *Config) Validate() error {
	p := &problems{}
	c.validateListeners(p)
	c.validateZones(p)
	c.validateForwards(p)
	c.validateBounds(p)
	return errors.Join(p.errs...)
}

// problems collects what is wrong in a configuration.
type problems struct{ errs []error }

// add notes one error; position stands in front, if there is one.
func (p *problems) add(position, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if position != "" {
		text = position + ": " + text
	}
	p.errs = append(p.errs, errors.New(text))
}

// firstAt points at what an error collides with.
func firstAt(position string) string {
	if position == "" {
		return ""
	}
	return "; the first is at " + position
}

func (c *Config) validateListeners(p *problems) {
	if len(c.Listeners) == 0 {
		p.add(c.Pos.At(""), `dns: no listener; add listener "all" { address = "127.0.0.1:8653" }`)
	}
	for i, l := range c.Listeners {
		if !l.Address.IsValid() {
			p.add(l.Pos.At("address"), `listener %q: no address; add address = "127.0.0.1:8653"`, l.Name)
			continue
		}
		for _, other := range c.Listeners[:i] {
			if other.Name == l.Name {
				p.add(l.Pos.At(""), "duplicate listener %q%s", l.Name, firstAt(other.Pos.At("")))
			}
			if reaches(other.Address, l.Address) || reaches(l.Address, other.Address) {
				p.add(l.Pos.At("address"), "listener %q: address %s is taken by listener %q%s; give it another port",
					l.Name, l.Address, other.Name, firstAt(other.Pos.At("address")))
			}
		}
	}
}

// reaches tells whether what is sent to an address of this machine comes to a
// listener.
func reaches(listener, address netip.AddrPort) bool {
	if listener.Port() != address.Port() || listener.Port() == 0 {
		return false
	}
	at, to := listener.Addr().Unmap(), address.Addr().Unmap()
	return at == to || (at.IsUnspecified() && (at.Is6() || to.Is4()))
}

func (c *Config) validateZones(p *problems) {
	defaults := *c
	defaults.setDefaults()
	domain, mesh := defaults.Domain, defaults.Mesh
	if !isZone(domain) {
		p.add(c.Pos.At("domain"), `dns: domain is %q; write a domain name such as "consul"`, domain)
	}
	if !isZone(mesh) {
		p.add(c.Pos.At("mesh"), `dns: mesh is %q; write a domain name such as "mesh"`, mesh)
	}
	if fqdn(domain) == fqdn(mesh) {
		p.add(c.Pos.At("mesh"), "dns: domain and mesh are both %q; give each its own", mesh)
	}
	zones := map[string]string{}
	for _, f := range c.Forwards {
		if !isZone(f.Zone) {
			p.add(f.Pos.At(""), `forward %q: the zone is no domain name; write for example forward "corp.example"`, f.Zone)
			continue
		}
		name := fqdn(f.Zone)
		if first, taken := zones[name]; taken {
			p.add(f.Pos.At(""), "duplicate forward %q%s", f.Zone, firstAt(first))
		}
		zones[name] = f.Pos.At("")
		if inZone(name, fqdn(mesh)) {
			p.add(f.Pos.At(""), "forward %q: names of the mesh are never forwarded; choose another zone, or another name for the mesh by mesh = \"...\"", f.Zone)
		}
	}
}

func (c *Config) validateForwards(p *problems) {
	check := func(position, block string, resolvers []netip.AddrPort) {
		for _, r := range resolvers {
			if !r.IsValid() || r.Port() == 0 || r.Addr().IsUnspecified() {
				p.add(position, `%s: resolver %s cannot be asked; write an address and port such as "1.1.1.1:53"`, block, r)
			}
			for _, l := range c.Listeners {
				if reaches(l.Address, r) && (l.Address.Addr().Unmap() == r.Addr().Unmap() || r.Addr().IsLoopback()) {
					p.add(position, "%s: resolver %s is our own listener %q, so a query would go round for ever", block, r, l.Name)
				}
			}
		}
	}
	check(c.Pos.At("resolvers"), "dns", c.Resolvers)
	if c.Resolvers != nil && len(c.Resolvers) == 0 {
		p.add(c.Pos.At("resolvers"), "dns: resolvers is empty; name one, leave it out for the system's, or say recursion = false")
	}
	if !c.recursion() && len(c.Resolvers) > 0 {
		p.add(c.Pos.At("recursion"), "dns: resolvers are given, and recursion = false says not to ask them; keep one")
	}
	for _, f := range c.Forwards {
		block := fmt.Sprintf("forward %q", f.Zone)
		check(f.Pos.At("resolvers"), block, f.Resolvers)
		if len(f.Resolvers) == 0 {
			p.add(f.Pos.At("resolvers"), `%s: no resolver; add resolvers = ["10.0.0.2:53"]`, block)
		}
	}
}

func (c *Config) validateBounds(p *problems) {
	if c.TTL%time.Second != 0 || c.TTL < 0 || c.TTL > 24*time.Hour {
		p.add(c.Pos.At("ttl"), `dns: ttl is %s; it can be "0s" to "24h", in whole seconds`, c.TTL)
	}
	if c.UDPSize != 0 && (c.UDPSize < minUDPSize || c.UDPSize > maxUDPSize) {
		p.add(c.Pos.At("udp_size"), "dns: udp_size is %d bytes; it can be %d to %d", c.UDPSize, minUDPSize, maxUDPSize)
	}
	if c.ForwardTimeout < 0 || c.ForwardTimeout > forwardDeadline {
		p.add(c.Pos.At("forward_timeout"), "dns: forward_timeout is %s; it can be at most %s, since clients do not wait longer", c.ForwardTimeout, forwardDeadline)
	}
	if c.IdleTimeout < 0 {
		p.add(c.Pos.At("idle_timeout"), `dns: idle_timeout is %s; write for example "10s"`, c.IdleTimeout)
	}
	for _, bound := range []struct {
		name  string
		value int
	}{{"max_queries", c.MaxQueries}, {"max_forwards", c.MaxForwards}, {"max_connections", c.MaxConnections}} {
		if bound.value < 0 || bound.value > 1<<20 {
			p.add(c.Pos.At(bound.name), "dns: %s is %d; it can be 1 to %d", bound.name, bound.value, 1<<20)
		}
	}
}

// isZone tells whether text is a domain name below the root, as people write it.
func isZone(text string) bool {
	text = strings.TrimSuffix(text, ".")
	if text == "" || strings.ContainsAny(text, `*\" `+"\t\n") {
		return false
	}
	_, ok := dns.IsDomainName(text)
	return ok
}

// fqdn is a domain name as questions have it: in lower case, with the last dot.
func fqdn(name string) string { return dns.CanonicalName(name) }
