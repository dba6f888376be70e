package resource

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/proxy_protocol/v3"

	"github.com/serai-net/serai/connect/mesh"
)

const upstreamProxyType = "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport"

// upstreamSocket reads what lies between a cluster and its connections: TLS, a
// header of the PROXY protocol, both or neither.
func (d *decoder) upstreamSocket(socket *corev3.TransportSocket, c *mesh.Cluster) (err error) {
	if typeOf(socket.GetTypedConfig()) == upstreamProxyType {
		msg := &proxyv3.ProxyProtocolUpstreamTransport{}
		if err := unpack(socket.GetTypedConfig(), msg); err != nil {
			return err
		}
		// tlv_as_pool_key changes nothing: no connection is shared.
		if err := d.only(msg, "config transport_socket", "- allow_unspecified_address tlv_as_pool_key"); err != nil {
			return err
		}
		if c.ProxyProtocol, err = d.proxyVersion(msg.GetConfig()); err != nil {
			return fmt.Errorf("proxy protocol: %w", err)
		}
		if socket = msg.GetTransportSocket(); typeOf(socket.GetTypedConfig()) == upstreamProxyType {
			return errors.New("proxy protocol: twice")
		}
	}
	c.TLS, err = d.upstreamTLS(socket)
	return err
}

func (d *decoder) proxyVersion(msg *corev3.ProxyProtocolConfig) (int, error) {
	if msg == nil {
		return 1, nil
	}
	if err := d.only(msg, "version", "pass_through_tlvs"); err != nil {
		return 0, err
	}
	switch v := msg.GetVersion(); v {
	case corev3.ProxyProtocolConfig_V1:
		return 1, nil
	case corev3.ProxyProtocolConfig_V2:
		return 2, nil
	default:
		return 0, fmt.Errorf("version %d is not known", v)
	}
}
