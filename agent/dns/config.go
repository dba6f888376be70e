package dns

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
)

// Config is the DNS interface. Its tags are read by agent/config; its comments
// are the user's reference.
//
//	dns {
//	  listener "all" { address = "127.0.0.1:8653" }
//	  listener "web" {
//	    address  = "127.0.0.1:8654"
//	    workload = "web"
//	  }
//	  forward "corp.example" { resolvers = ["10.0.0.2:53"] }
//	}
type Config struct {
	// Listeners take queries by UDP and TCP; there must be one.
	Listeners []Listener `hcl:"listener,block"`
	// Domain is what names of Consul's catalog end in; "" means "consul".
	Domain string `hcl:"domain,optional"`
	// Mesh is what names of the mesh end in; "" means "mesh".
	Mesh string `hcl:"mesh,optional"`
	// TTL of answers from the mesh and the catalog, in whole seconds; the
	// default 0 keeps clients from using what has gone.
	TTL time.Duration `hcl:"ttl,optional"`
	// Resolvers answer for all other names, the first that works; not given
	// means those of the system (/etc/resolv.conf), without our own listeners.
	Resolvers []netip.AddrPort `hcl:"resolvers,optional"`
	// Recursion false refuses all other names; nil means true.
	Recursion *bool `hcl:"recursion,optional"`
	// Forwards are zones with resolvers of their own.
	Forwards []Forward `hcl:"forward,block"`
	// ForwardTimeout is how long one resolver may take; 0 means 2 s.
	ForwardTimeout time.Duration `hcl:"forward_timeout,optional"`
	// Allow are the networks that may ask; not given means loopback, link-local
	// and private ones (RFC 1918, RFC 4193, RFC 6598). All others are refused.
	Allow []netip.Prefix `hcl:"allow,optional"`
	// UDPSize is the most bytes of a response by UDP to a client that takes so
	// many (EDNS); 0 means 1232, which no usual network fragments.
	UDPSize int `hcl:"udp_size,optional,size"`
	// MaxQueries is how many queries are at work at one time; 0 means 4096. By
	// UDP what is over it is dropped, by TCP the connection is closed.
	MaxQueries int `hcl:"max_queries,optional"`
	// MaxForwards is how many of these may wait for resolvers; 0 means 1024.
	MaxForwards int `hcl:"max_forwards,optional"`
	// MaxConnections is how many TCP connections one listener takes; 0 means
	// 1024. Further ones are closed.
	MaxConnections int `hcl:"max_connections,optional"`
	// IdleTimeout closes TCP connections without a query; 0 means 10 s, and
	// never more than 1 s while half of MaxConnections are taken.
	IdleTimeout time.Duration `hcl:"idle_timeout,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Listener takes queries at one address.
//
//	listener "web" {
//	  address  = "127.0.0.1:8654"
//	  workload = "web"
//	}
type Listener struct {
	// Name tells listeners apart in logs.
	Name string `hcl:"name,label"`
	// Address to listen on, by UDP and TCP.
	Address netip.AddrPort `hcl:"address"`
	// Workload says that everybody who asks here is this one: a service's name,
	// or the ID of a sidecar. "" finds out by the address that asks.
	Workload string `hcl:"workload,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Forward is a zone whose names other resolvers answer. The longest zone that a
// name is in decides. If it is Config.Domain itself, it gets what Serai does
// not know of it, such as prepared queries.
//
//	forward "corp.example" { resolvers = ["10.0.0.2:53", "10.0.0.3:53"] }
type Forward struct {
	// Zone is the domain, without a star.
	Zone string `hcl:"zone,label"`
	// Resolvers are asked in this order.
	Resolvers []netip.AddrPort `hcl:"resolvers"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Positions says where a block (under "") and its arguments (under their names)
// stand, as "file:line". It may be nil.
type Positions map[string]string

// At is where an argument stands, or else the block, or "".
func (p Positions) At(argument string) string {
	return cmp.Or(p[argument], p[""])
}

const (
	defaultDomain = "consul"
	defaultMesh   = "mesh"
	minUDPSize    = 512 // RFC 1035 section 4.2.1
	maxUDPSize    = 4096
)

// setDefaults fills in what Config's comments say.
func (c *Config) setDefaults() {
	c.Domain = cmp.Or(c.Domain, defaultDomain)
	c.Mesh = cmp.Or(c.Mesh, defaultMesh)
	c.ForwardTimeout = cmp.Or(c.ForwardTimeout, 2*time.Second)
	c.UDPSize = cmp.Or(c.UDPSize, 1232)
	c.MaxQueries = cmp.Or(c.MaxQueries, 4096)
	c.MaxForwards = cmp.Or(c.MaxForwards, 1024)
	c.MaxConnections = cmp.Or(c.MaxConnections, 1024)
	c.IdleTimeout = cmp.Or(c.IdleTimeout, 10*time.Second)
	if c.Allow == nil {
		c.Allow = privateNetworks()
	}
}

// recursion tells whether names of the rest of the world are answered.
func (c *Config) recursion() bool { return c.Recursion == nil || *c.Recursion }

func privateNetworks() []netip.Prefix {
	var all []netip.Prefix
	for _, text := range []string{
		"127.0.0.0/8", "::1/128", // loopback
		"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // RFC 1918
		"100.64.0.0/10",               // RFC 6598
		"169.254.0.0/16", "fe80::/10", // link-local
		"fc00::/7", // RFC 4193
	} {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

// Workloads are those that listeners name, each once.
func (c *Config) Workloads() []string {
	var all []string
	for _, l := range c.Listeners {
		if l.Workload != "" && !slices.Contains(all, l.Workload) {
			all = append(all, l.Workload)
		}
	}
	return all
}
