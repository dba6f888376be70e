package resource

import (
	"cmp"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	otelv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/open_telemetry/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
)

// Types of access loggers.
const (
	fileLogType   = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
	stdoutLogType = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
	stderrLogType = "envoy.extensions.access_loggers.stream.v3.StderrAccessLog"
	otelLogType   = "envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig"
)

// defaultLine is what Envoy writes where nothing is said.
const defaultLine = "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% " +
	"%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" " +
	"\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"

// shortestFlush bounds how often a line is written of what lasts, as Envoy does.
const shortestFlush = time.Millisecond

// logEvery reads how often a line is written of what lasts.
func (d *decoder) logEvery(msg *durationpb.Duration) time.Duration {
	every := duration(msg, 0)
	if msg != nil && every < shortestFlush {
		d.note("access_log_flush_interval of %s is ignored", every)
		return 0
	}
	return every
}

// accessLogs reads access logs. What is not understood of one refuses that log, and
// no traffic.
func (d *decoder) accessLogs(msgs []*accesslogv3.AccessLog) []*mesh.AccessLog {
	var all []*mesh.AccessLog
	for _, msg := range msgs {
		l := &mesh.AccessLog{}
		if err := d.accessLog(msg, l); err != nil {
			l = &mesh.AccessLog{Refusal: reason(err)}
			d.note("an access log is refused: %v", err)
		}
		all = append(all, l)
	}
	return all
}

func (d *decoder) accessLog(msg *accesslogv3.AccessLog, l *mesh.AccessLog) error {
	if err := d.only(msg, "name filter typed_config", ""); err != nil {
		return err
	}
	var err error
	if msg.GetFilter() != nil {
		if l.Filter, err = d.logFilter(msg.GetFilter(), 0); err != nil {
			return err
		}
	}
	switch typ := typeOf(msg.GetTypedConfig()); typ {
	case fileLogType:
		file := &filev3.FileAccessLog{}
		if err := unpack(msg.GetTypedConfig(), file); err != nil {
			return err
		}
		return d.fileLog(file, l)
	case stdoutLogType:
		out := &streamv3.StdoutAccessLog{}
		if err := unpack(msg.GetTypedConfig(), out); err != nil {
			return err
		}
		l.Path = "/dev/stdout"
		return d.logFormat(out.GetLogFormat(), l)
	case stderrLogType:
		out := &streamv3.StderrAccessLog{}
		if err := unpack(msg.GetTypedConfig(), out); err != nil {
			return err
		}
		l.Path = "/dev/stderr"
		return d.logFormat(out.GetLogFormat(), l)
	case otelLogType:
		otel := &otelv3.OpenTelemetryAccessLogConfig{}
		if err := unpack(msg.GetTypedConfig(), otel); err != nil {
			return err
		}
		return d.otelLog(otel, l)
	default:
		return fmt.Errorf("access logger %q is not supported", typ)
	}
}

func (d *decoder) fileLog(msg *filev3.FileAccessLog, l *mesh.AccessLog) error {
	if l.Path = msg.GetPath(); l.Path == "" {
		return errors.New("file access log without a path")
	}
	switch f := msg.GetAccessLogFormat().(type) {
	case nil:
		l.Text = defaultLine
	case *filev3.FileAccessLog_Format:
		if l.Text = f.Format; l.Text == "" {
			l.Text = defaultLine
		}
	case *filev3.FileAccessLog_JsonFormat:
		l.JSON = f.JsonFormat.AsMap()
	case *filev3.FileAccessLog_TypedJsonFormat:
		l.JSON = f.TypedJsonFormat.AsMap()
	case *filev3.FileAccessLog_LogFormat:
		return d.logFormat(f.LogFormat, l)
	default:
		return fmt.Errorf("access_log_format %T is not supported", f)
	}
	return d.tryFormat(l)
}

func (d *decoder) logFormat(msg *corev3.SubstitutionFormatString, l *mesh.AccessLog) error {
	if msg == nil {
		l.Text = defaultLine
		return nil
	}
	err := d.only(msg, "text_format text_format_source json_format omit_empty_values content_type json_format_options", "")
	if err != nil {
		return err
	}
	l.OmitEmpty = msg.GetOmitEmptyValues()
	switch f := msg.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		l.Text = f.TextFormat
	case *corev3.SubstitutionFormatString_TextFormatSource:
		if l.Text, err = d.text(f.TextFormatSource); err != nil {
			return fmt.Errorf("text_format_source: %w", err)
		}
	case *corev3.SubstitutionFormatString_JsonFormat:
		l.JSON = f.JsonFormat.AsMap()
	default:
		return errors.New("log format of unknown kind")
	}
	return d.tryFormat(l)
}

// tryFormat compiles what is written, and notes what of it is never known.
func (d *decoder) tryFormat(l *mesh.AccessLog) error {
	var blanks []string
	if l.JSON != nil {
		j, err := format.CompileJSON(l.JSON)
		if err != nil {
			return err
		}
		blanks = j.Blanks()
	} else {
		t, err := format.Compile(l.Text)
		if err != nil {
			return err
		}
		blanks = t.Blanks()
	}
	for _, name := range blanks {
		d.note("command operator %s: its value is never known here", name)
	}
	return nil
}

func (d *decoder) otelLog(msg *otelv3.OpenTelemetryAccessLogConfig, l *mesh.AccessLog) error {
	err := d.only(msg, "common_config grpc_service http_service log_name buffer_flush_interval buffer_size_bytes disable_builtin_labels resource_attributes body attributes stat_prefix", "")
	if err != nil {
		return err
	}
	o := &mesh.LogOTLP{NoBuiltin: msg.GetDisableBuiltinLabels(), StatPrefix: msg.GetStatPrefix()}
	if o.Resource, err = attributes(msg.GetResourceAttributes()); err != nil {
		return err
	}
	if o.Attributes, err = attributes(msg.GetAttributes()); err != nil {
		return err
	}
	if msg.GetBody() != nil {
		if o.Body, err = anyValue(msg.GetBody(), 0); err != nil {
			return err
		}
	}
	service, flush, size := (*corev3.GrpcService)(nil), time.Duration(0), uint32(0)
	if c := msg.GetCommonConfig(); c != nil {
		err := d.only(c, "log_name grpc_service transport_api_version buffer_flush_interval buffer_size_bytes",
			"filter_state_objects_to_log grpc_stream_retry_policy custom_tags")
		if err != nil {
			return err
		}
		o.Name, service = c.GetLogName(), c.GetGrpcService()
		flush, size = duration(c.GetBufferFlushInterval(), 0), c.GetBufferSizeBytes().GetValue()
	}
	if msg.GetGrpcService() != nil {
		service = msg.GetGrpcService()
	}
	o.Name = cmp.Or(msg.GetLogName(), o.Name)
	flush, size = duration(msg.GetBufferFlushInterval(), flush), max(size, msg.GetBufferSizeBytes().GetValue())
	if o.Flush, o.Size = flush, int(min(size, 1<<20)); flush > 0 {
		o.Flush = max(flush, shortestFlush)
	}
	l.OTLP = o
	if web := msg.GetHttpService(); web != nil {
		o.Cluster, o.Authority, o.HTTP, o.Metadata, err = d.httpCluster(web)
		return err
	}
	if o.Cluster, o.Authority, o.Metadata, err = d.grpcCluster(service); err != nil {
		return err
	}
	return nil
}

// httpCluster reads where a service of HTTP is that a cluster stands for.
func (d *decoder) httpCluster(msg *corev3.HttpService) (cluster, authority, path string, header []mesh.Pair, err error) {
	if err := d.only(msg, "http_uri request_headers_to_add", ""); err != nil {
		return "", "", "", nil, err
	}
	uri, err := url.Parse(msg.GetHttpUri().GetUri())
	if err != nil {
		return "", "", "", nil, fmt.Errorf("http_uri: %w", err)
	}
	if msg.GetHttpUri().GetCluster() == "" {
		return "", "", "", nil, errors.New("http_service without a cluster")
	}
	for _, h := range msg.GetRequestHeadersToAdd() {
		header = append(header, mesh.Pair{Name: strings.ToLower(h.GetHeader().GetKey()), Value: h.GetHeader().GetValue()})
	}
	return msg.GetHttpUri().GetCluster(), uri.Host, cmp.Or(uri.RequestURI(), "/"), header, nil
}

// grpcCluster reads where a service of gRPC is that a cluster stands for.
func (d *decoder) grpcCluster(msg *corev3.GrpcService) (cluster, authority string, metadata []mesh.Pair, err error) {
	if err := d.only(msg, "envoy_grpc initial_metadata timeout", "retry_policy"); err != nil {
		return "", "", nil, err
	}
	to := msg.GetEnvoyGrpc()
	if to.GetClusterName() == "" {
		return "", "", nil, errors.New("grpc_service without a cluster")
	}
	if err := d.only(to, "cluster_name authority", "retry_policy max_receive_message_length skip_envoy_headers"); err != nil {
		return "", "", nil, err
	}
	for _, m := range msg.GetInitialMetadata() {
		metadata = append(metadata, mesh.Pair{Name: m.GetKey(), Value: m.GetValue()})
	}
	return to.GetClusterName(), to.GetAuthority(), metadata, nil
}

func attributes(list *commonv1.KeyValueList) ([]mesh.Attribute, error) {
	var all []mesh.Attribute
	for _, kv := range list.GetValues() {
		value, err := anyValue(kv.GetValue(), 0)
		if err != nil {
			return nil, fmt.Errorf("attribute %s: %w", kv.GetKey(), err)
		}
		all = append(all, mesh.Attribute{Name: kv.GetKey(), Value: value})
	}
	return all, nil
}

// anyValue reads a value of OTLP. Strings are texts with command operators.
func anyValue(v *commonv1.AnyValue, depth int) (any, error) {
	if depth > 16 {
		return nil, errors.New("nested too deep")
	}
	switch v := v.GetValue().(type) {
	case nil:
		return nil, nil //nolint:nilnil // null
	case *commonv1.AnyValue_StringValue:
		_, err := format.Compile(v.StringValue)
		return v.StringValue, err
	case *commonv1.AnyValue_BoolValue:
		return v.BoolValue, nil
	case *commonv1.AnyValue_IntValue:
		return v.IntValue, nil
	case *commonv1.AnyValue_DoubleValue:
		return v.DoubleValue, nil
	case *commonv1.AnyValue_ArrayValue:
		all := []any{}
		for _, one := range v.ArrayValue.GetValues() {
			value, err := anyValue(one, depth+1)
			if err != nil {
				return nil, err
			}
			all = append(all, value)
		}
		return all, nil
	case *commonv1.AnyValue_KvlistValue:
		all := map[string]any{}
		for _, kv := range v.KvlistValue.GetValues() {
			value, err := anyValue(kv.GetValue(), depth+1)
			if err != nil {
				return nil, err
			}
			all[kv.GetKey()] = value
		}
		return all, nil
	default:
		return nil, fmt.Errorf("a value %T is not supported", v)
	}
}
