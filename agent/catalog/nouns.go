package catalog

import (
	"errors"
	"net/netip"
)

// What the Index answers when there is no such thing. Any other error of its
// methods says that Consul could not be asked and nothing is remembered.
var (
	// ErrNoService: the datacenter has no service of that name.
	ErrNoService = errors.New("no such service in the catalog")
	// ErrNoNode: the datacenter has no node of that name.
	ErrNoNode = errors.New("no such node in the catalog")
	// ErrNoDatacenter: Consul knows no datacenter of that name.
	ErrNoDatacenter = errors.New("consul knows no such datacenter")
)

// Node is a node of the catalog.
type Node struct {
	Name, Datacenter string
	// Address is an IP address or a host name.
	Address string
	// Meta is never written to.
	Meta map[string]string
}

// Instance is one instance of a service, as Consul's DNS sees it.
type Instance struct {
	Node Node
	// Service is its name as it was registered, ID the instance's on its node.
	Service, ID string
	// Address is the service's own: an IP address, a host name, or "", which
	// means the node's.
	Address string
	Port    int
	// Tags and Meta are never written to.
	Tags []string
	Meta map[string]string
	// Warning says that a check warns, Critical that one fails, of the instance
	// or of its node.
	Warning, Critical bool
	// PassingWeight and WarningWeight are the weights of its definition.
	PassingWeight, WarningWeight int
}

// Weight is the one that its health gives it.
func (i *Instance) Weight() int {
	if i.Warning {
		return i.WarningWeight
	}
	return i.PassingWeight
}

// Workload is an instance of a service with a sidecar (a connect-proxy).
type Workload struct {
	// Service is the name of the service that the sidecar stands for, ServiceID
	// its instance, "" if the sidecar stands for all of its node.
	Service, ServiceID string
	// Node has the sidecar, ProxyID is the sidecar's ID on it.
	Node, ProxyID string
	// Address is the sidecar's own, or its node's; invalid if that is a name.
	Address netip.Addr
	// Transparent says that the sidecar takes over all traffic by itself, so
	// that Upstreams need not name what the workload calls.
	Transparent bool
	// Upstreams are the listeners that its sidecar has for what it calls, in
	// the order of the definition. Never written to.
	Upstreams []LocalUpstream
}

// LocalUpstream is where a sidecar listens for what the workload calls.
type LocalUpstream struct {
	// Destination is the service's name. Prepared says that it is a prepared
	// query's instead. Datacenter "" is the workload's own; Peer is a cluster
	// peer, "" for none.
	Destination, Datacenter, Peer string
	Prepared                      bool
	// Address and Port are where the sidecar listens: 127.0.0.1 unless the
	// definition says otherwise. With a Socket both are zero.
	Address netip.Addr
	Port    int
	Socket  string
}

// Decision is whether a service may call another.
type Decision struct {
	// Allowed is false where nothing is known: this fails closed. What the
	// intention decides by L7 permissions or JWTs counts as allowed, since a
	// single request may be.
	Allowed bool
	// Known says that the intentions of the source, or else the default, were
	// learnt from Consul.
	Known bool
	// Reason is for people, in lower case: `the intention web -> api denies`.
	Reason string
}

// Settings are what the local agent says of itself.
type Settings struct {
	// Datacenter and Node are the agent's own.
	Datacenter, Node string
	// OnlyPassing leaves instances with a warning out of DNS answers.
	OnlyPassing bool
	// NodeMetaTXT adds a node's metadata as TXT records to the additional
	// section of answers that name it.
	NodeMetaTXT bool
	// UDPAnswerLimit is the most records of an answer by UDP to who does not
	// take more than 512 bytes, RecordLimit that of addresses in any answer; 0
	// means no limit. Truncate marks an answer that UDPAnswerLimit has cut.
	UDPAnswerLimit, RecordLimit int
	Truncate                    bool
	// SOA has the times of Consul's zone, in seconds.
	SOA SOA
}

// SOA are times of a zone, in seconds (RFC 1035 section 3.3.13).
type SOA struct{ Refresh, Retry, Expire, Minttl uint32 }
