package resource

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// noTraffic is Envoy's default of no_traffic_interval.
const noTraffic = time.Minute

// check reads how endpoints are asked for their health; nil if they are not.
func (d *decoder) check(msgs []*corev3.HealthCheck, cluster string) (*mesh.ActiveCheck, error) {
	if len(msgs) == 0 {
		return nil, nil //nolint:nilnil // nil is no check
	}
	if len(msgs) > 1 { // Envoy does not take them either
		return nil, errors.New("several health_checks")
	}
	msg := msgs[0]
	err := d.only(msg, "timeout interval initial_jitter interval_jitter interval_jitter_percent unhealthy_threshold healthy_threshold"+
		" reuse_connection http_health_check tcp_health_check grpc_health_check no_traffic_interval no_traffic_healthy_interval"+
		" unhealthy_interval unhealthy_edge_interval healthy_edge_interval",
		"event_log_path event_logger event_service tls_options transport_socket_match_criteria alt_port"+
			" - always_log_health_check_failures always_log_health_check_success")
	if err != nil {
		return nil, err
	}
	c := &mesh.ActiveCheck{
		Timeout: duration(msg.GetTimeout(), 0), Interval: duration(msg.GetInterval(), 0),
		InitialJitter: duration(msg.GetInitialJitter(), 0), Jitter: duration(msg.GetIntervalJitter(), 0),
		JitterPercent: min(msg.GetIntervalJitterPercent(), 1000),
		NoReuse:       msg.GetReuseConnection() != nil && !msg.GetReuseConnection().GetValue(),
	}
	if c.Timeout <= 0 || c.Interval <= 0 || msg.GetUnhealthyThreshold() == nil || msg.GetHealthyThreshold() == nil {
		return nil, errors.New("timeout, interval, unhealthy_threshold and healthy_threshold must be there")
	}
	c.UnhealthyAfter, c.HealthyAfter = max(1, msg.GetUnhealthyThreshold().GetValue()), max(1, msg.GetHealthyThreshold().GetValue())
	c.NoTraffic = duration(msg.GetNoTrafficInterval(), noTraffic)
	c.NoTrafficHealthy = duration(msg.GetNoTrafficHealthyInterval(), c.NoTraffic)
	c.UnhealthyInterval = duration(msg.GetUnhealthyInterval(), c.Interval)
	c.UnhealthyEdge = duration(msg.GetUnhealthyEdgeInterval(), c.UnhealthyInterval)
	c.HealthyEdge = duration(msg.GetHealthyEdgeInterval(), c.Interval)
	for _, wait := range []*time.Duration{&c.Interval, &c.NoTraffic, &c.NoTrafficHealthy, &c.UnhealthyInterval, &c.UnhealthyEdge, &c.HealthyEdge} {
		*wait = max(*wait, time.Millisecond)
	}
	switch how := msg.GetHealthChecker().(type) {
	case *corev3.HealthCheck_HttpHealthCheck_:
		c.HTTP, err = d.httpCheck(how.HttpHealthCheck, cluster)
	case *corev3.HealthCheck_TcpHealthCheck_:
		c.TCP, err = d.tcpCheck(how.TcpHealthCheck)
	case *corev3.HealthCheck_GrpcHealthCheck_:
		c.GRPC, err = d.grpcCheck(how.GrpcHealthCheck, cluster)
	default:
		err = errors.New("neither http_health_check nor tcp_health_check nor grpc_health_check")
	}
	return c, err
}

func (d *decoder) httpCheck(msg *corev3.HealthCheck_HttpHealthCheck, cluster string) (*mesh.HTTPCheck, error) {
	err := d.only(msg, "host path receive request_headers_to_add request_headers_to_remove expected_statuses retriable_statuses"+
		" codec_client_type service_name_matcher method", "- response_buffer_size")
	if err != nil {
		return nil, err
	}
	c := &mesh.HTTPCheck{Host: msg.GetHost(), Path: msg.GetPath(), Remove: lowerAll(msg.GetRequestHeadersToRemove())}
	if c.Host == "" {
		c.Host = cluster
	}
	if !strings.HasPrefix(c.Path, "/") {
		return nil, fmt.Errorf("path %q does not begin with a slash", c.Path)
	}
	switch method := msg.GetMethod(); method {
	case corev3.RequestMethod_METHOD_UNSPECIFIED, corev3.RequestMethod_GET:
	case corev3.RequestMethod_CONNECT:
		return nil, errors.New("method CONNECT") // Envoy does not take it either
	default:
		c.Method = method.String()
	}
	switch codec := msg.GetCodecClientType(); codec {
	case typev3.CodecClientType_HTTP1:
	case typev3.CodecClientType_HTTP2:
		c.HTTP2 = true
	default:
		return nil, fmt.Errorf("codec_client_type %s is not supported", codec)
	}
	if c.Add, err = d.checkHeaders(msg.GetRequestHeadersToAdd()); err != nil {
		return nil, err
	}
	if c.Receive, err = payloads(msg.GetReceive()); err != nil {
		return nil, err
	}
	if c.Expected, err = statuses(msg.GetExpectedStatuses()); err != nil {
		return nil, err
	}
	if len(c.Expected) == 0 {
		c.Expected = []mesh.StatusRange{{From: 200, To: 201}}
	}
	if c.Retriable, err = statuses(msg.GetRetriableStatuses()); err != nil {
		return nil, err
	}
	if name := msg.GetServiceNameMatcher(); name != nil {
		m, err := stringMatch(name)
		if err != nil {
			return nil, fmt.Errorf("service_name_matcher: %w", err)
		}
		c.Service = &m
	}
	return c, nil
}

func (d *decoder) tcpCheck(msg *corev3.HealthCheck_TcpHealthCheck) (*mesh.TCPCheck, error) {
	if err := d.only(msg, "send receive", ""); err != nil {
		return nil, err
	}
	c := &mesh.TCPCheck{}
	var err error
	if send := msg.GetSend(); send != nil {
		if c.Send, err = payload(send); err != nil {
			return nil, err
		}
	}
	c.Receive, err = payloads(msg.GetReceive())
	return c, err
}

func (d *decoder) grpcCheck(msg *corev3.HealthCheck_GrpcHealthCheck, cluster string) (*mesh.GRPCCheck, error) {
	if err := d.only(msg, "service_name authority initial_metadata", ""); err != nil {
		return nil, err
	}
	c := &mesh.GRPCCheck{Service: msg.GetServiceName(), Authority: msg.GetAuthority()}
	if c.Authority == "" {
		c.Authority = cluster
	}
	var err error
	c.Metadata, err = d.checkHeaders(msg.GetInitialMetadata())
	return c, err
}

// checkHeaders reads fields whose values are text.
func (d *decoder) checkHeaders(msgs []*corev3.HeaderValueOption) ([]mesh.HeaderValue, error) {
	var out []mesh.HeaderValue
	for _, msg := range msgs {
		if err := d.only(msg, "header append_action append", ""); err != nil {
			return nil, err
		}
		plain, err := d.plainHeaders([]*corev3.HeaderValue{msg.GetHeader()})
		if err != nil {
			return nil, err
		}
		plain[0].Append = mesh.AppendOrAdd
		if msg.GetAppendAction() != corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD || msg.GetAppend() != nil && !msg.GetAppend().GetValue() {
			plain[0].Append = mesh.OverwriteOrAdd
		}
		out = append(out, plain...)
	}
	return out, nil
}

func payloads(msgs []*corev3.HealthCheck_Payload) ([][]byte, error) {
	var out [][]byte
	for _, msg := range msgs {
		p, err := payload(msg)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func payload(msg *corev3.HealthCheck_Payload) ([]byte, error) {
	p := msg.GetBinary()
	if text := msg.GetText(); text != "" {
		var err error
		if p, err = hex.DecodeString(text); err != nil {
			return nil, fmt.Errorf("payload: %w", err)
		}
	}
	if len(p) == 0 {
		return nil, errors.New("an empty payload")
	}
	return p, nil
}

func statuses(msgs []*typev3.Int64Range) ([]mesh.StatusRange, error) {
	var out []mesh.StatusRange
	for _, msg := range msgs {
		if msg.GetStart() < 100 || msg.GetEnd() > 600 || msg.GetStart() >= msg.GetEnd() {
			return nil, fmt.Errorf("statuses from %d to %d", msg.GetStart(), msg.GetEnd())
		}
		out = append(out, mesh.StatusRange{From: int(msg.GetStart()), To: int(msg.GetEnd())})
	}
	return out, nil
}
