package resource

import (
	"fmt"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	proxyprotocolv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of listener filters.
const (
	tlsInspectorType  = "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
	httpInspectorType = "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"
	originalDstType   = "envoy.extensions.filters.listener.original_dst.v3.OriginalDst"
	proxyProtocolType = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
)

// listenerFilters reads what is looked at before a chain is chosen.
func (d *decoder) listenerFilters(msg *listenerv3.Listener, l *mesh.Listener) error {
	for _, f := range msg.GetListenerFilters() {
		if err := d.listenerFilter(f, l); err != nil {
			return fmt.Errorf("listener filter %s: %w", f.GetName(), err)
		}
	}
	l.Inspect.Timeout = filtersTimeout(msg.GetListenerFiltersTimeout())
	l.Inspect.Continue = msg.GetContinueOnListenerFiltersTimeout()
	if msg.GetUseOriginalDst().GetValue() {
		l.HandOff, l.Inspect.OriginalDst = true, true
	}
	for _, c := range l.Chains {
		if c.Match.NeedsTLS() && !l.Inspect.TLS {
			d.note("filter chains ask for the ClientHello, so it is read, though tls_inspector is missing")
			l.Inspect.TLS = true
		}
	}
	return nil
}

// filtersTimeout is as in [mesh.Inspect]: here 0 is without end, and nothing the
// default.
func filtersTimeout(d *durationpb.Duration) time.Duration {
	switch {
	case d == nil:
		return 0
	case d.AsDuration() <= 0:
		return -1
	default:
		return d.AsDuration()
	}
}

func (d *decoder) listenerFilter(f *listenerv3.ListenerFilter, l *mesh.Listener) error {
	if err := d.only(f, "name typed_config", ""); err != nil {
		return err
	}
	config := f.GetTypedConfig()
	switch typeOf(config) {
	case tlsInspectorType:
		msg := &tlsinspectorv3.TlsInspector{}
		if err := unpack(config, msg); err != nil {
			return err
		}
		l.Inspect.TLS, l.Inspect.MaxHello = true, int(min(msg.GetMaxClientHelloSize().GetValue(), 1<<20))
		return d.only(msg, "max_client_hello_size", "enable_ja3_fingerprinting enable_ja4_fingerprinting"+
			" - initial_read_buffer_size close_connection_on_client_hello_parsing_errors")
	case httpInspectorType:
		l.Inspect.HTTP = true
		return unpack(config, &httpinspectorv3.HttpInspector{})
	case originalDstType:
		l.Inspect.OriginalDst = true
		return unpack(config, &originaldstv3.OriginalDst{})
	case proxyProtocolType:
		msg := &proxyprotocolv3.ProxyProtocol{}
		if err := unpack(config, msg); err != nil {
			return err
		}
		l.ProxyProtocol = &mesh.ProxyProtocol{Optional: msg.GetAllowRequestsWithoutProxyProtocol()}
		// What a rule keeps of TLVs nothing here could ask for.
		return d.only(msg, "allow_requests_without_proxy_protocol", "rules pass_through_tlvs tlv_location - stat_prefix")
	}
	return fmt.Errorf("type %q is not supported", typeOf(config))
}
