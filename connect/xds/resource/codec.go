package resource

import (
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// httpIdle is Envoy's default for a connection without a request.
	httpIdle = time.Hour
	// maxStreams is Envoy's default for one connection of HTTP/2.
	maxStreams = 1024
	// maxWindow bounds what a control plane may let a connection make us hold.
	maxWindow = 64 << 20
	// upgradeConnect is what tunnels are called among protocols.
	upgradeConnect = "connect"
)

// codec reads how connections are served.
func (d *decoder) codec(msg *hcmv3.HttpConnectionManager, h *mesh.HTTP) error {
	c := &h.Codec
	c.IdleTimeout = httpIdle
	c.HeaderTimeout, c.RequestTimeout = endless(msg.GetRequestHeadersTimeout()), endless(msg.GetRequestTimeout())
	if common := msg.GetCommonHttpProtocolOptions(); common != nil {
		err := d.only(common, "headers_with_underscores_action idle_timeout max_connection_duration max_headers_count"+
			" max_stream_duration max_requests_per_connection",
			"max_response_headers_kb max_connection_duration_jitter")
		if err != nil {
			return err
		}
		if idle := common.GetIdleTimeout(); idle != nil {
			c.IdleTimeout = endless(idle)
		}
		h.MaxRequests = common.GetMaxRequestsPerConnection().GetValue()
		c.MaxHeaders = number(common.GetMaxHeadersCount(), 1<<16)
		c.MaxAge, h.MaxStreamDuration = duration(common.GetMaxConnectionDuration(), 0), duration(common.GetMaxStreamDuration(), 0)
	}
	if err := d.http1Options(msg.GetHttpProtocolOptions(), h); err != nil {
		return err
	}
	options, err := d.http2Options(msg.GetHttp2ProtocolOptions())
	if options.MaxStreams == 0 {
		options.MaxStreams = maxStreams
	}
	c.HTTP2 = options
	return err
}

// http1Options reads what only HTTP/1 has. What they loosen is not loosened.
func (d *decoder) http1Options(msg *corev3.Http1ProtocolOptions, h *mesh.HTTP) error {
	if msg == nil {
		return nil
	}
	err := d.only(msg, "default_host_for_http_10",
		"header_key_format send_fully_qualified_url allow_chunked_length allow_custom_methods ignore_http_11_upgrade"+
			" - allow_absolute_url accept_http_10 enable_trailers override_stream_error_on_invalid_http_message use_balsa_parser")
	if err != nil {
		return err
	}
	if host := msg.GetDefaultHostForHttp_10(); msg.GetAcceptHttp_10() {
		h.DefaultHost = strings.ToLower(host)
	}
	return nil
}

// http1Upstream reads what is said of HTTP/1 to a cluster: requests go as they came, and
// responses are taken strictly.
func (d *decoder) http1Upstream(msg *corev3.Http1ProtocolOptions) error {
	return d.only(msg, "", "header_key_format send_fully_qualified_url allow_chunked_length allow_custom_methods ignore_http_11_upgrade"+
		" - allow_absolute_url accept_http_10 default_host_for_http_10 enable_trailers override_stream_error_on_invalid_http_message use_balsa_parser")
}

// http2Options reads what only HTTP/2 has, of a listener or a cluster. Bounds against
// floods are our own, and a malformed message ends its stream only.
func (d *decoder) http2Options(msg *corev3.Http2ProtocolOptions) (mesh.HTTP2Options, error) {
	o := mesh.HTTP2Options{}
	if msg == nil {
		return o, nil
	}
	err := d.only(msg, "max_concurrent_streams initial_stream_window_size initial_connection_window_size connection_keepalive",
		"allow_metadata max_metadata_size max_outbound_frames max_outbound_control_frames"+
			" max_consecutive_inbound_frames_with_empty_payload max_inbound_priority_frames_per_stream"+
			" max_inbound_window_update_frames_per_data_frame_sent"+
			" - hpack_table_size allow_connect stream_error_on_invalid_http_messaging"+
			" override_stream_error_on_invalid_http_message use_oghttp2_codec enable_huffman_encoding")
	if err != nil {
		return o, err
	}
	o.MaxStreams = number(msg.GetMaxConcurrentStreams(), 1<<16)
	o.StreamWindow = number(msg.GetInitialStreamWindowSize(), maxWindow)
	o.ConnWindow = number(msg.GetInitialConnectionWindowSize(), maxWindow)
	ping := msg.GetConnectionKeepalive()
	if ping == nil {
		return o, nil
	}
	if err := d.only(ping, "interval timeout", "connection_idle_interval - interval_jitter"); err != nil {
		return o, err
	}
	if interval := ping.GetInterval(); interval != nil {
		o.PingInterval = endless(interval)
	}
	if o.PingTimeout = duration(ping.GetTimeout(), 0); o.PingTimeout == 0 {
		return o, fmt.Errorf("connection_keepalive without a timeout")
	}
	return o, nil
}

// endless reads a duration of which 0 means for ever, and none the codec's own.
func endless(d *durationpb.Duration) time.Duration {
	if d != nil && duration(d, 0) == 0 {
		return -1
	}
	return duration(d, 0)
}

// number reads one that is bounded by most; 0 for none.
func number(v *wrapperspb.UInt32Value, most uint32) int { return int(min(v.GetValue(), most)) }
