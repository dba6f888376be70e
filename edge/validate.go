package edge

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/serai-net/serai/edge/consumer"
)

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

// join notes an error, or several joined, that have their positions.
func (p *problems) join(err error) {
	if err != nil {
		p.errs = append(p.errs, err)
	}
}

// Validate tells all that is wrong. Each error begins with the position of what
// it is about, if it was read from a file, and says what would be right. It
// reads no file and asks nobody.
func (c *Config) Validate() error {
	p := &problems{}
	c.validateNames(p)
	c.validateListeners(p)
	c.validatePlugins(p)
	consumers, err := consumer.NewStore(c.Consumers)
	p.join(err)
	if c.AccessLog != nil {
		p.join(c.AccessLog.Validate())
	}
	names := map[string]string{}
	for i := range c.APIs {
		a := &c.APIs[i]
		if other, taken := names[a.Name]; taken {
			p.add(a.Pos.At(""), "duplicate api %q%s", a.Name, firstAt(other))
			continue
		}
		names[a.Name] = a.Pos.At("")
		a.validate(p, c, consumers)
	}
	if len(p.errs) == 0 {
		_, err := compileRoutes(c)
		p.join(err)
	}
	return errors.Join(p.errs...)
}

func (c *Config) validateNames(p *problems) {
	if c.Service != "" && !isServiceName(c.Service) {
		p.add(c.Pos.At("service"), "edge: service is %q; a Consul service name has letters, digits, \"-\", \"_\" and \".\"", c.Service)
	}
	if strings.ContainsAny(c.ID, "/ \t\n") {
		p.add(c.Pos.At("id"), "edge: id is %q; it must have no slash and no space", c.ID)
	}
	delay, timeout := c.drain()
	if delay > timeout {
		p.add(c.Pos.At("drain_delay"), "edge: drain_delay is %s and drain_timeout %s; "+
			"the timeout counts from the same moment and must be longer", delay, timeout)
	}
}

func (c *Config) validateListeners(p *problems) {
	if len(c.Listeners) == 0 {
		p.add(c.Pos.At(""), `edge: no listener; add listener "public" { address = "0.0.0.0:8080" }`)
	}
	for i := range c.Listeners {
		l := &c.Listeners[i]
		for j := range i {
			other := &c.Listeners[j]
			if other.Name == l.Name {
				p.add(l.Pos.At(""), "duplicate listener %q%s", l.Name, firstAt(other.Pos.At("")))
			}
			if sameSocket(other.Address, l.Address) {
				p.add(l.Pos.At("address"), "listener %q: address %s is taken by listener %q%s; give it another port",
					l.Name, l.Address, other.Name, firstAt(other.Pos.At("address")))
			}
		}
		if !l.Address.IsValid() {
			p.add(l.Pos.At("address"), "listener %q: no address; add address = \"0.0.0.0:8080\"", l.Name)
		}
		l.validateSecure(p)
		if l.MaxConcurrentStreams < 0 || l.MaxConcurrentStreams > 1<<16 {
			p.add(l.Pos.At("max_concurrent_streams"), "listener %q: max_concurrent_streams is %d; it can be 1 to 65536", l.Name, l.MaxConcurrentStreams)
		}
		if l.MaxHeaderSize != 0 && (l.MaxHeaderSize < 1<<10 || l.MaxHeaderSize > 1<<20) {
			p.add(l.Pos.At("max_header_size"), "listener %q: max_header_size is %d bytes; it can be \"1KiB\" to \"1MiB\"",
				l.Name, l.MaxHeaderSize)
		}
	}
}

// sameSocket tells whether two addresses cannot be bound both.
func sameSocket(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() || a.Port() == 0 {
		return false
	}
	return a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}

// firstAt says where the other one of two stands.
func firstAt(position string) string {
	if position == "" {
		return ""
	}
	return "; the first is at " + position
}

// quoted lists names for an error, at most five of them.
func quoted(names []string) string {
	if len(names) == 0 {
		return "there is none"
	}
	slices.Sort(names)
	more := ""
	if len(names) > 5 {
		names, more = names[:5], ", ..."
	}
	text := make([]string, len(names))
	for i, name := range names {
		text[i] = fmt.Sprintf("%q", name)
	}
	return "there is " + strings.Join(text, ", ") + more
}

// isServiceName checks what may be the name of a Consul service or datacenter.
func isServiceName(name string) bool {
	for i := range len(name) {
		if c := name[i]; !isUnreserved(c) || c == '~' {
			return false
		}
	}
	return name != "" && name != "." && name != ".."
}
