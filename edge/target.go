package edge

import (
	"crypto/sha256"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// parseAddress reads one of Upstream.Addresses: it gives an address, or the
// name (with port) that is to be looked up, or says what is wrong.
func parseAddress(text string) (address mesh.Address, name, problem string) {
	const example = `; write for example "10.0.0.1:8080"`
	if path, ok := strings.CutPrefix(text, "unix://"); ok {
		if path == "" {
			return address, "", `names no socket; write "unix:///run/app.sock"`
		}
		return mesh.Address{Socket: path}, "", ""
	}
	if strings.Contains(text, "://") {
		return address, "", "has a scheme" + example
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return address, "", "has no port" + example
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return address, "", "has a port that is not 1 to 65535" + example
	}
	if addrPort, err := netip.ParseAddrPort(text); err == nil {
		return mesh.Address{AddrPort: addrPort}, "", ""
	}
	if checkHost(host) != "" || strings.HasPrefix(host, "*") {
		return address, "", "has no valid host" + example
	}
	return address, text, ""
}

// clusterName names the plain cluster of a route; "" for a mesh service. Upstreams of one name share their
// connections and what is known of their endpoints' health, so that all in which they may differ is in it.
func (u *Upstream) clusterName() string {
	name := "catalog/" + u.Catalog
	switch {
	case u.Service != "":
		return ""
	case u.Catalog == "":
		name = staticName(u.Addresses)
	}
	if u.Tag != "" {
		name += "/tag=" + u.Tag
	}
	if u.Datacenter != "" {
		name += "/dc=" + u.Datacenter
	}
	if u.protocol() != mesh.HTTP1 {
		name += "/protocol=" + u.Protocol // routes that differ in it share no cluster
	}
	if u.ConnectTimeout != 0 {
		name += "/connect_timeout=" + u.ConnectTimeout.String() // nor in this
	}
	if u.ProxyProtocol != "" {
		name += "/proxy_protocol=" + u.ProxyProtocol
	}
	if settings := u.settings(); settings != "" {
		name += "/settings=" + settings
	}
	return name
}

// proxyProtocols are the values of Upstream.ProxyProtocol and what they mean.
func proxyProtocols() map[string]int { return map[string]int{"": 0, "v1": 1, "v2": 2} }

// staticName names fixed addresses: by the first, and if there are more by their number and hash. It is looked up by
// each request, and written in logs.
func staticName(addresses []string) string {
	name := "static/" + addresses[0]
	if len(addresses) == 1 {
		return name
	}
	hash := sha256.Sum256([]byte(strings.Join(addresses, ",")))
	return fmt.Sprintf("%s+%d~%x", name, len(addresses)-1, hash[:8])
}

// protocol is what a plain cluster speaks.
func (u *Upstream) protocol() mesh.Protocol {
	if u.Protocol == protocolHTTP2 {
		return mesh.HTTP2
	}
	return mesh.HTTP1
}

// The values of Upstream.Protocol.
const (
	protocolHTTP  = "http"
	protocolHTTP2 = "http2"
)

// cluster is the plain cluster that clusterName names; the Upstream is valid.
func (u *Upstream) cluster(name string) *mesh.Cluster {
	c := &mesh.Cluster{Name: name, Kind: mesh.ClusterEDS, ConnectTimeout: u.ConnectTimeout, Protocol: u.protocol()}
	c.ProxyProtocol = proxyProtocols()[u.ProxyProtocol]
	u.apply(c)
	if u.Catalog != "" {
		return c
	}
	c.Kind = mesh.ClusterStatic
	c.Endpoints = &mesh.EndpointSet{Name: name}
	for _, text := range u.Addresses {
		address, host, _ := parseAddress(text)
		if host != "" {
			c.Kind = mesh.ClusterStrictDNS
		}
		if name, err := mesh.ParseDNSName(text); err == nil { // it was validated
			c.Names = append(c.Names, name)
		}
		c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, mesh.Endpoint{Address: address, Weight: 1})
	}
	if c.Kind == mesh.ClusterStrictDNS {
		c.Endpoints = nil
	} else {
		c.Names = nil
	}
	return c
}

// meshService is a service of the mesh as routes name it.
type meshService struct {
	// Name of the service, Datacenter "" for the agent's own.
	Name, Datacenter string
}

// socketPath is the local_bind_socket_path of the edge's upstream for s: the
// outbound listener in xDS is recognised by it. Nobody ever creates it.
func (s meshService) socketPath() string {
	if s.Datacenter == "" {
		return socketFolder + s.Name + ".sock"
	}
	return socketFolder + s.Datacenter + "/" + s.Name + ".sock"
}

// String names the service for people.
func (s meshService) String() string {
	if s.Datacenter == "" {
		return strconv.Quote(s.Name)
	}
	return strconv.Quote(s.Name) + " in datacenter " + strconv.Quote(s.Datacenter)
}
