package upstream

import (
	"cmp"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Envoy's defaults for connections, requests and those pending, and for retries.
const (
	defaultLimit   = 1024
	defaultRetries = 3
)

// config is a compiled cluster definition.
type config struct {
	*mesh.Cluster
	metadata *wire.Metadata // for who logs
	secure   *security      // nil for plain connections
	refusal  string
	// asks is Check, and the same as before as long as it is equal to that.
	asks *mesh.ActiveCheck
	// behind says why secure is not what the definition says; "" if it is.
	behind string
}

// scheme is that of its connections.
func (c *config) scheme() string {
	if c.secure != nil {
		return "https"
	}
	return "http"
}

func (c *config) endpointName() string {
	if c.EndpointName != "" {
		return c.EndpointName
	}
	return c.Name
}

// usedName is the name of the set of endpoints that c uses; "" for none, and for a nil c.
func (c *config) usedName() string {
	if c == nil || c.Kind != mesh.ClusterEDS {
		return ""
	}
	return c.endpointName()
}

func (c *config) connectTimeout() time.Duration {
	if c.ConnectTimeout > 0 {
		return c.ConnectTimeout
	}
	return 5 * time.Second
}

// idleSince is the time before which a connection must have been used not to be
// closed at now, oldest that before which it must not have been made.
func (c *config) idleSince(now time.Time) (idle, oldest time.Time) {
	timeout := cmp.Or(c.Pool.IdleTimeout, idleTimeout)
	if timeout > 0 {
		idle = now.Add(-timeout)
	}
	if age := c.Pool.MaxAge; age > 0 {
		oldest = now.Add(-age)
	}
	return idle, oldest
}

// isHTTP2 tells whether req is sent by HTTP/2.
func (c *config) isHTTP2(req *wire.Request) bool {
	return c.Protocol == mesh.HTTP2 || c.Protocol == mesh.FollowDownstream && req.Proto == 2
}

// negotiates tells whether TLS agrees on the protocol.
func (c *config) negotiates() bool { return c.Protocol == mesh.Negotiated }

// forHTTP1 is for a connection that is made for a request of HTTP/1, or for one of which
// it is not known yet by what it is sent.
func (c *config) forHTTP1() *tls.Config {
	if c.negotiates() {
		return c.secure.by(eitherTLS)
	}
	return c.secure.by(http1TLS)
}

// forHTTP2 is for a connection that is to be one of HTTP/2.
func (c *config) forHTTP2() *tls.Config {
	if c.negotiates() {
		return c.secure.by(eitherTLS)
	}
	return c.secure.by(http2TLS)
}

func limit(value uint32, has bool) int64 {
	if has {
		return int64(value)
	}
	return defaultLimit
}

// check returns the fault of a cluster that is not understood.
func (c *config) check() error {
	if c.refusal == "" {
		return nil
	}
	return &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagNoCluster, Text: "upstream not available",
		Err: fmt.Errorf("cluster %q is not understood: %s", c.Name, c.refusal),
	}
}

// named tells whether the endpoints come from DNS.
func (c *config) named() bool {
	return c.Kind == mesh.ClusterStrictDNS || c.Kind == mesh.ClusterLogicalDNS
}

// sameNames tells whether what was looked up for c is good for other, too.
func (c *config) sameNames(other *config) bool {
	return c.named() && c.Kind == other.Kind && c.DNS.Family == other.DNS.Family &&
		slices.EqualFunc(c.Names, other.Names, func(a, b mesh.DNSName) bool { return a.Equal(&b) })
}

// samePeers tells whether connections made for c may be used for other: to whom
// they go is decided when they are made. Our leaf and the roots may change
// under a connection, as in a rotation; a list of whom is revoked may not.
func (c *config) samePeers(other *config) bool {
	if c.ProxyProtocol != other.ProxyProtocol || c.Pool.Bind != other.Pool.Bind {
		return false // one begins as the other side does not expect it, or from elsewhere
	}
	a, b := c.TLS, other.TLS
	if a == nil || b == nil {
		return a == b
	}
	return a.AutoSNI == b.AutoSNI && a.AutoSAN == b.AutoSAN && a.NameHeader == b.NameHeader && c.Protocol == other.Protocol &&
		a.ServerName == b.ServerName && a.HostSNI == b.HostSNI && a.VerifySNI == b.VerifySNI && a.AnyPeer == b.AnyPeer &&
		slices.Equal(a.URIs, b.URIs) && slices.Equal(a.DNSNames, b.DNSNames) && slices.Equal(a.Names, b.Names) &&
		a.Chains == b.Chains && slices.Equal(a.Pins.Certificates, b.Pins.Certificates) && slices.Equal(a.Pins.Keys, b.Pins.Keys)
}
