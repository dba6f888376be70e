package trace

import (
	"encoding/binary"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mesh"
)

func keyValue(name, value string) *commonv1.KeyValue {
	return &commonv1.KeyValue{Key: name, Value: &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: value}}}
}

// otlp is spans as an ExportTraceServiceRequest, which is the same on the wire as
// TracesData.
func otlp(p *mesh.TraceProvider, service string, spans []*span) ([]byte, error) {
	resource := &resourcev1.Resource{Attributes: []*commonv1.KeyValue{keyValue("service.name", service)}}
	for _, pair := range p.Resource {
		resource.Attributes = append(resource.Attributes, keyValue(pair.Name, pair.Value))
	}
	scope := &tracev1.ScopeSpans{Scope: &commonv1.InstrumentationScope{Name: "serai"}}
	for _, s := range spans {
		o := &tracev1.Span{
			TraceId: s.Trace[:], SpanId: binary.BigEndian.AppendUint64(nil, s.Span), Name: s.name, Kind: tracev1.Span_SPAN_KIND_SERVER,
			StartTimeUnixNano: uint64(s.begin.UnixNano()),             //nolint:gosec // after 1970
			EndTimeUnixNano:   uint64(s.begin.Add(s.took).UnixNano()), //nolint:gosec // after 1970
			Status:            &tracev1.Status{},
		}
		if s.Parent != 0 {
			o.ParentSpanId = binary.BigEndian.AppendUint64(nil, s.Parent)
		}
		if s.client {
			o.Kind = tracev1.Span_SPAN_KIND_CLIENT
		}
		if s.failed {
			o.Status.Code = tracev1.Status_STATUS_CODE_ERROR
		}
		for _, t := range s.tags {
			o.Attributes = append(o.Attributes, keyValue(t.name, t.value))
		}
		scope.Spans = append(scope.Spans, o)
	}
	return proto.Marshal(&tracev1.TracesData{ResourceSpans: []*tracev1.ResourceSpans{{Resource: resource, ScopeSpans: []*tracev1.ScopeSpans{scope}}}})
}
