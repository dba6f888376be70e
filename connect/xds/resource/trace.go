package resource

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tagv3 "github.com/envoyproxy/go-control-plane/envoy/type/tracing/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
)

// Types of tracers.
const (
	zipkinType  = "envoy.config.trace.v3.ZipkinConfig"
	otelType    = "envoy.config.trace.v3.OpenTelemetryConfig"
	datadogType = "envoy.config.trace.v3.DatadogConfig"
)

// Tracing reads the tracing of a bootstrap file; nil for an empty one. What is not
// understood is a Refusal: nothing is traced then.
func Tracing(text []byte) *mesh.TraceProvider {
	if len(text) == 0 || string(text) == "null" {
		return nil
	}
	msg := &tracev3.Tracing{}
	var tree map[string]any
	reader := json.NewDecoder(bytes.NewReader(text))
	reader.UseNumber()
	if err := reader.Decode(&tree); err != nil {
		return &mesh.TraceProvider{Refusal: "tracing: " + err.Error()}
	}
	listed(tree, msg.ProtoReflect().Descriptor(), 0)
	plain, err := json.Marshal(tree)
	if err == nil {
		err = protojson.Unmarshal(plain, msg)
	}
	if err != nil {
		return &mesh.TraceProvider{Refusal: "tracing: " + told(err)}
	}
	if msg.GetHttp() == nil {
		return nil
	}
	return (&decoder{}).provider(msg.GetHttp())
}

// tracing reads how a chain traces; nil if it does not.
func (d *decoder) tracing(msg *hcmv3.HttpConnectionManager_Tracing) *mesh.Tracing {
	if msg == nil {
		return nil
	}
	t := &mesh.Tracing{
		Client: percent(msg.GetClientSampling()), Random: percent(msg.GetRandomSampling()), Overall: percent(msg.GetOverallSampling()),
		Spawn: msg.GetSpawnUpstreamSpan().GetValue(), Verbose: msg.GetVerbose(), Alone: msg.GetNoContextPropagation(),
		Operation: msg.GetOperation(), UpstreamOperation: msg.GetUpstreamOperation(),
		MaxPath: int(min(msg.GetMaxPathTagLength().GetValue(), 64<<10)),
	}
	err := d.only(msg, "client_sampling random_sampling overall_sampling max_path_tag_length custom_tags provider spawn_upstream_span"+
		" verbose operation upstream_operation no_context_propagation", "")
	if err == nil {
		t.Tags, err = traceTags(msg.GetCustomTags())
	}
	for _, text := range []string{t.Operation, t.UpstreamOperation} {
		if _, bad := format.Compile(text); err == nil && bad != nil {
			err = fmt.Errorf("tracing: operation: %w", bad)
		}
	}
	if msg.GetProvider() != nil {
		t.Provider = d.provider(msg.GetProvider())
	}
	if err != nil {
		t.Provider = &mesh.TraceProvider{Refusal: reason(err)}
	}
	if t.Provider != nil && t.Provider.Refusal != "" {
		d.note("tracing is refused: %s", t.Provider.Refusal)
	}
	return t
}

// percent is a share in millionths; nothing said is all.
func percent(p *typev3.Percent) uint32 {
	if p == nil {
		return 1_000_000
	}
	return uint32(min(max(0, p.GetValue()), 100) * 10_000)
}

func traceTags(msgs []*tagv3.CustomTag) ([]mesh.TraceTag, error) {
	var all []mesh.TraceTag
	for _, msg := range msgs {
		t := mesh.TraceTag{Name: msg.GetTag()}
		switch v := msg.GetType().(type) {
		case *tagv3.CustomTag_Literal_:
			t.Literal = v.Literal.GetValue()
		case *tagv3.CustomTag_Environment_:
			t.Env, t.Default = v.Environment.GetName(), v.Environment.GetDefaultValue()
		case *tagv3.CustomTag_RequestHeader:
			t.Header, t.Default = strings.ToLower(v.RequestHeader.GetName()), v.RequestHeader.GetDefaultValue()
		case *tagv3.CustomTag_Value:
			t.Text = v.Value
			if _, err := format.Compile(t.Text); err != nil {
				return nil, fmt.Errorf("custom tag %s: %w", t.Name, err)
			}
		case *tagv3.CustomTag_Metadata_:
			if v.Metadata.GetKind().GetRequest() == nil {
				return nil, fmt.Errorf("custom tag %s: metadata of another kind than the request's is not supported", t.Name)
			}
			t.Namespace, t.Default = v.Metadata.GetMetadataKey().GetKey(), v.Metadata.GetDefaultValue()
			for _, segment := range v.Metadata.GetMetadataKey().GetPath() {
				t.Path = append(t.Path, segment.GetKey())
			}
		default:
			return nil, fmt.Errorf("custom tag %s of type %T is not supported", t.Name, v)
		}
		all = append(all, t)
	}
	return all, nil
}

func (d *decoder) provider(msg *tracev3.Tracing_Http) *mesh.TraceProvider {
	p, err := d.traceProvider(msg)
	if err != nil {
		return &mesh.TraceProvider{Refusal: "tracing: " + reason(err)}
	}
	return p
}

func (d *decoder) traceProvider(msg *tracev3.Tracing_Http) (*mesh.TraceProvider, error) {
	switch typ := typeOf(msg.GetTypedConfig()); typ {
	case zipkinType:
		zipkin := &tracev3.ZipkinConfig{}
		if err := unpack(msg.GetTypedConfig(), zipkin); err != nil {
			return nil, err
		}
		return d.zipkin(zipkin)
	case otelType:
		otel := &tracev3.OpenTelemetryConfig{}
		if err := unpack(msg.GetTypedConfig(), otel); err != nil {
			return nil, err
		}
		return d.openTelemetry(otel)
	case datadogType:
		dog := &tracev3.DatadogConfig{}
		if err := unpack(msg.GetTypedConfig(), dog); err != nil {
			return nil, err
		}
		if err := d.only(dog, "collector_cluster service_name collector_hostname", "remote_config polling_interval"); err != nil {
			return nil, err
		}
		if dog.GetCollectorCluster() == "" {
			return nil, errors.New("a collector without a cluster")
		}
		return &mesh.TraceProvider{
			Kind: mesh.Datadog, Cluster: dog.GetCollectorCluster(), Authority: dog.GetCollectorHostname(), Service: dog.GetServiceName(),
		}, nil
	default:
		return nil, fmt.Errorf("tracer %q is not supported", typ)
	}
}

func (d *decoder) zipkin(msg *tracev3.ZipkinConfig) (*mesh.TraceProvider, error) {
	err := d.only(msg, "collector_cluster collector_endpoint trace_id_128bit shared_span_context collector_endpoint_version collector_hostname"+
		" split_spans_for_request trace_context_option collector_service", "timestamp_trace_ids")
	if err != nil {
		return nil, err
	}
	p := &mesh.TraceProvider{
		Kind: mesh.Zipkin, Cluster: msg.GetCollectorCluster(), Path: msg.GetCollectorEndpoint(), Authority: msg.GetCollectorHostname(),
		Wide: msg.GetTraceId_128Bit(),
		// Of a split request each side has a span of its own, as without sharing.
		Alone: msg.GetSharedSpanContext() != nil && !msg.GetSharedSpanContext().GetValue() || msg.GetSplitSpansForRequest(),
	}
	switch version := msg.GetCollectorEndpointVersion(); version {
	case tracev3.ZipkinConfig_HTTP_JSON:
	case tracev3.ZipkinConfig_HTTP_PROTO:
		p.Protobuf = true
	default:
		return nil, fmt.Errorf("collector_endpoint_version %s is not supported", version)
	}
	switch option := msg.GetTraceContextOption(); option {
	case tracev3.ZipkinConfig_USE_B3:
	case tracev3.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION:
		p.W3C = true
	default:
		return nil, fmt.Errorf("trace_context_option %s is not supported", option)
	}
	if service := msg.GetCollectorService(); service != nil {
		if p.Cluster, p.Authority, p.Path, p.Metadata, err = d.httpCluster(service); err != nil {
			return nil, err
		}
	}
	if p.Cluster == "" || p.Path == "" {
		return nil, errors.New("a collector without a cluster or an endpoint")
	}
	return p, nil
}

func (d *decoder) openTelemetry(msg *tracev3.OpenTelemetryConfig) (*mesh.TraceProvider, error) {
	err := d.only(msg, "grpc_service http_service service_name resource_detectors sampler",
		"max_cache_size set_telemetry_sdk_resource_attributes set_service_name_resource_attribute set_instrumentation_scope")
	if err != nil {
		return nil, err
	}
	p := &mesh.TraceProvider{Kind: mesh.OpenTelemetry, Service: msg.GetServiceName()}
	for _, detector := range msg.GetResourceDetectors() {
		d.note("resource detector %s is ignored", detector.GetName())
	}
	if sampler := msg.GetSampler(); sampler != nil && !strings.HasSuffix(typeOf(sampler.GetTypedConfig()), ".AlwaysOnSamplerConfig") {
		return nil, fmt.Errorf("sampler %s is not supported", sampler.GetName())
	} else if sampler != nil {
		p.AlwaysOn = true
	}
	if web := msg.GetHttpService(); web != nil {
		p.Cluster, p.Authority, p.Path, p.Metadata, err = d.httpCluster(web)
		return p, err
	}
	p.GRPC = true
	p.Cluster, p.Authority, p.Metadata, err = d.grpcCluster(msg.GetGrpcService())
	return p, err
}
