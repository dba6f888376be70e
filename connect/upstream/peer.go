package upstream

import (
	"crypto/tls"
	"net"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// endOf is the other end of a new connection, secured by config or plain.
func (c *Cluster) endOf(conn net.Conn, config *tls.Config) *wire.Peer {
	p := &wire.Peer{Addr: wire.AddrPort(conn.RemoteAddr()), Local: wire.AddrPort(conn.LocalAddr()), Number: c.set.connections.Add(1)}
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return p
	}
	state := secured.ConnectionState()
	c.answers.handshakes.Succeeded(&state)
	p.TLS, p.ServerName, p.Version, p.Cipher = true, state.ServerName, state.Version, state.CipherSuite
	if p.Chain = state.PeerCertificates; len(p.Chain) > 0 {
		p.Certificate = p.Chain[0]
	}
	if len(config.Certificates) > 0 {
		p.Ours = config.Certificates[0].Leaf
	}
	return p
}

// become makes h what the control plane says of it.
func (h *Host) become(e *mesh.Endpoint) {
	if h.endpoint.Load() == e {
		return // a new configuration has the endpoints of before
	}
	h.endpoint.Store(e)
	h.metadata.Store(wire.NewMetadata(e.Metadata))
}

// Note tells a try that it is made with h, on a connection that Dial returned; nil if
// there is none.
func (h *Host) Note(a *wire.Attempt, conn net.Conn) {
	a.Endpoint, a.HostName, a.Metadata = h.text, h.Name(), h.metadata.Load()
	if counted, ok := conn.(*countedConn); ok {
		a.Peer = counted.peer
	}
}

// Note tells an exchange that it goes to c.
func (c *Cluster) Note(x *wire.Exchange) {
	x.Cluster, x.Observed, x.ClusterMetadata = c.name, c.Observed(), c.config.Load().metadata
}
