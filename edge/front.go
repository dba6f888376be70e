package edge

import (
	"log/slog"
	"net/netip"
	"sync/atomic"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/cert"
)

// front is the runtime of one listener. It lives on over configurations that do
// not change its shape, and with it its connections.
type front struct {
	shape shape
	spec  *listen.Spec
	codec telemetry.Codec
	// certificate is nil for plain HTTP.
	certificate *cert.Listener

	// service is loaded once for each exchange.
	service atomic.Pointer[wire.Service]
}

// shape is what cannot be changed under a living connection.
type shape struct {
	name       string
	address    netip.AddrPort
	tls, proxy string
	codec      mesh.Codec
}

func shapeOf(l *Listener) shape {
	s := shape{name: l.Name, address: l.Address, tls: l.TLS.identity(), proxy: l.ProxyProtocol.identity(), codec: mesh.Codec{
		MaxHeaderBytes: l.MaxHeaderSize, IdleTimeout: l.IdleTimeout, HeaderTimeout: l.HeaderTimeout,
		RequestTimeout: l.RequestTimeout, MaxAge: l.MaxConnectionAge,
		HTTP2:     mesh.HTTP2Options{MaxStreams: l.MaxConcurrentStreams},
		HTTP1Only: l.TLS.withoutHTTP2(),
		Connect:   true, // which the router refuses but for routes that have it
	}}
	if s.codec.IdleTimeout == 0 {
		s.codec.IdleTimeout = defaultIdleTimeout
	}
	return s
}

// newFront reads the listener's certificates, if it has any; it binds nothing.
func newFront(l *Listener, log *slog.Logger) (*front, error) {
	s := shapeOf(l)
	f := &front{shape: s}
	chain := &listen.Chain{Name: s.name}
	if l.TLS != nil {
		secured, err := cert.OpenListener(l.TLS.config(), nil, log)
		if err != nil {
			return nil, err
		}
		chain.TLS, f.certificate = secured.Config, secured
	}
	server := stack.NewServer(s.codec, func() wire.Service { return *f.service.Load() }, log)
	chain.Handler, f.codec = server, telemetry.Codec{Listener: s.name, Stats: server.Stats}
	f.spec = &listen.Spec{
		Name: s.name, Address: mesh.Address{AddrPort: s.address}, ProxyHeader: l.ProxyProtocol.header(), Chains: listen.Single(chain),
	}
	return f, nil
}
