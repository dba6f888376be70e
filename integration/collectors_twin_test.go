package integration_test

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	collectedv1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/serai-net/serai/integration/harness"
)

// toldSpan is a span as any collector has it. Identifiers are in hexadecimal.
type toldSpan struct {
	Trace, ID, Parent, Name, Kind, Service string
	Failed                                 bool
	Tags                                   map[string]string
}

// collectors receive spans in each protocol, and decode them strictly.
type collectors struct {
	web  *httptest.Server
	grpc string

	mu     sync.Mutex
	spans  map[string][]toldSpan // by protocol
	broken []string
}

func newCollectors(t *testing.T) *collectors {
	t.Helper()
	c := &collectors{spans: map[string][]toldSpan{}}
	decoders := map[string]func([]byte) ([]toldSpan, error){
		"/api/v2/spans application/x-protobuf": zipkinProtoSpans(t),
		"/v1/traces application/x-protobuf": func(body []byte) ([]toldSpan, error) {
			data := &collectedv1.TracesData{}
			if err := proto.Unmarshal(body, data); err != nil {
				return nil, err
			}
			return otlpSpans(data), nil
		},
		"/v0.4/traces application/msgpack": datadogSpans,
	}
	c.web = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		decode := decoders[r.URL.Path+" "+r.Header.Get("Content-Type")]
		if err != nil || decode == nil { // Envoy's library for Datadog asks for more than we are
			w.WriteHeader(http.StatusNotFound)
			return
		}
		spans, err := decode(body)
		c.keep(r.URL.Path, spans, err)
		_, _ = io.WriteString(w, "{}")
	}))
	t.Cleanup(c.web.Close)
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.trace.v1.TraceService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			data := &collectedv1.TracesData{}
			err := decode(data)
			c.keep("grpc", otlpSpans(data), err)
			return &emptypb.Empty{}, err
		}}},
	}, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	c.grpc = l.Addr().String()
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return c
}

func (c *collectors) keep(protocol string, spans []toldSpan, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		c.broken = append(c.broken, protocol+": "+err.Error())
	}
	c.spans[protocol] = append(c.spans[protocol], spans...)
}

func (c *collectors) find(t *testing.T, protocol, url string) toldSpan {
	t.Helper()
	var found toldSpan
	eventually(t, "a span of "+url+" by "+protocol, func(context.Context) error {
		c.mu.Lock()
		defer c.mu.Unlock()
		i := slices.IndexFunc(c.spans[protocol], func(s toldSpan) bool { return s.Tags["http.url"] == url })
		if i < 0 {
			return fmt.Errorf("not among %v; broken: %q", c.spans[protocol], c.broken)
		}
		found = c.spans[protocol][i]
		return nil
	})
	return found
}

func otlpSpans(data *collectedv1.TracesData) []toldSpan {
	var all []toldSpan
	for _, r := range data.GetResourceSpans() {
		service := ""
		for _, a := range r.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				service = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range r.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				tags := map[string]string{}
				for _, a := range s.GetAttributes() {
					tags[a.GetKey()] = a.GetValue().GetStringValue()
				}
				all = append(all, toldSpan{
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()), Name: s.GetName(),
					Kind: s.GetKind().String(), Service: service, Failed: s.GetStatus().GetCode() == collectedv1.Status_STATUS_CODE_ERROR, Tags: tags,
				})
			}
		}
	}
	return all
}

// zipkinSchema is Zipkin's own definition (openzipkin/zipkin-api, zipkin.proto), as far as spans of proxies need it.
const zipkinSchema = `name: "zipkin.proto" package: "zipkin.proto3" syntax: "proto3"
message_type { name: "Span"
	field { name: "trace_id" number: 1 type: TYPE_BYTES label: LABEL_OPTIONAL } field { name: "parent_id" number: 2 type: TYPE_BYTES label: LABEL_OPTIONAL }
	field { name: "id" number: 3 type: TYPE_BYTES label: LABEL_OPTIONAL } field { name: "kind" number: 4 type: TYPE_ENUM type_name: ".zipkin.proto3.Span.Kind" label: LABEL_OPTIONAL }
	field { name: "name" number: 5 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "timestamp" number: 6 type: TYPE_FIXED64 label: LABEL_OPTIONAL }
	field { name: "duration" number: 7 type: TYPE_UINT64 label: LABEL_OPTIONAL }
	field { name: "local_endpoint" number: 8 type: TYPE_MESSAGE type_name: ".zipkin.proto3.Endpoint" label: LABEL_OPTIONAL }
	field { name: "annotations" number: 10 type: TYPE_MESSAGE type_name: ".zipkin.proto3.Annotation" label: LABEL_REPEATED }
	field { name: "tags" number: 11 type: TYPE_MESSAGE type_name: ".zipkin.proto3.Span.TagsEntry" label: LABEL_REPEATED }
	field { name: "shared" number: 13 type: TYPE_BOOL label: LABEL_OPTIONAL }
	nested_type { name: "TagsEntry" options { map_entry: true } field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
	enum_type { name: "Kind" value { name: "SPAN_KIND_UNSPECIFIED" number: 0 } value { name: "CLIENT" number: 1 } value { name: "SERVER" number: 2 } } }
message_type { name: "Endpoint" field { name: "service_name" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL } field { name: "ipv4" number: 2 type: TYPE_BYTES label: LABEL_OPTIONAL }
	field { name: "ipv6" number: 3 type: TYPE_BYTES label: LABEL_OPTIONAL } field { name: "port" number: 4 type: TYPE_INT32 label: LABEL_OPTIONAL } }
message_type { name: "Annotation" field { name: "timestamp" number: 1 type: TYPE_FIXED64 label: LABEL_OPTIONAL } field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
message_type { name: "ListOfSpans" field { name: "spans" number: 1 type: TYPE_MESSAGE type_name: ".zipkin.proto3.Span" label: LABEL_REPEATED } }`

func zipkinProtoSpans(t *testing.T) func(body []byte) ([]toldSpan, error) {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	must(t, prototext.Unmarshal([]byte(zipkinSchema), file))
	schema, err := protodesc.NewFile(file, &protoregistry.Files{})
	must(t, err)
	return func(body []byte) ([]toldSpan, error) {
		list := dynamicpb.NewMessage(schema.Messages().ByName("ListOfSpans"))
		if err := proto.Unmarshal(body, list); err != nil {
			return nil, err
		}
		text, err := protojson.Marshal(list)
		if err != nil {
			return nil, err
		}
		var read struct {
			Spans []struct {
				TraceID             []byte `json:"traceId"`
				ID, ParentID        []byte
				Kind, Name          string
				Timestamp, Duration string
				LocalEndpoint       struct {
					ServiceName string
					IPv4        []byte
				}
				Tags map[string]string
			}
		}
		if err := json.Unmarshal(text, &read); err != nil {
			return nil, err
		}
		var all []toldSpan
		for _, s := range read.Spans {
			if len(s.Timestamp) != 16 || s.Duration == "" || len(s.LocalEndpoint.IPv4) != 4 {
				return nil, fmt.Errorf("a span at %q for %q us of %v", s.Timestamp, s.Duration, s.LocalEndpoint)
			}
			all = append(all, toldSpan{
				Trace: hex.EncodeToString(s.TraceID), ID: hex.EncodeToString(s.ID), Parent: hex.EncodeToString(s.ParentID), Name: s.Name, Kind: s.Kind,
				Service: s.LocalEndpoint.ServiceName, Tags: s.Tags,
			})
		}
		return all, nil
	}
}

// unpacked decodes one value of MessagePack, as far as agents of Datadog are told in it, and returns what is behind it.
func unpacked(b []byte) (value any, rest []byte, err error) {
	if len(b) == 0 {
		return nil, nil, io.ErrUnexpectedEOF
	}
	lead, b := b[0], b[1:]
	// sizes of numbers and lengths in bytes
	sizes := map[byte]int{0xca: 4, 0xcb: 8, 0xcc: 1, 0xcd: 2, 0xce: 4, 0xcf: 8, 0xd0: 1, 0xd1: 2, 0xd2: 4, 0xd3: 8, 0xd9: 1, 0xda: 2, 0xdb: 4, 0xdc: 2, 0xdd: 4, 0xde: 2, 0xdf: 4}
	n := uint64(0)
	if size := sizes[lead]; len(b) < size {
		return nil, nil, io.ErrUnexpectedEOF
	} else if size > 0 {
		n = binary.BigEndian.Uint64(append(make([]byte, 8-size), b[:size]...))
		b = b[size:]
	}
	switch {
	case lead < 0x80:
		return uint64(lead), b, nil
	case lead == 0xc0:
		return nil, b, nil
	case lead == 0xc2 || lead == 0xc3:
		return lead == 0xc3, b, nil
	case lead == 0xcb:
		return math.Float64frombits(n), b, nil
	case lead >= 0xcc && lead <= 0xcf || lead >= 0xd0 && lead <= 0xd3:
		return n, b, nil // nothing negative is told
	case lead>>5 == 5 || lead >= 0xd9 && lead <= 0xdb:
		if lead>>5 == 5 {
			n = uint64(lead & 0x1f)
		}
		if uint64(len(b)) < n {
			return nil, nil, io.ErrUnexpectedEOF
		}
		return string(b[:n]), b[n:], nil
	case lead>>4 == 9 || lead == 0xdc || lead == 0xdd:
		if lead>>4 == 9 {
			n = uint64(lead & 0xf)
		}
		list := []any{}
		for range n {
			if value, b, err = unpacked(b); err != nil {
				return nil, nil, err
			}
			list = append(list, value)
		}
		return list, b, nil
	case lead>>4 == 8 || lead == 0xde || lead == 0xdf:
		if lead>>4 == 8 {
			n = uint64(lead & 0xf)
		}
		members := map[string]any{}
		for range n {
			var name any
			if name, b, err = unpacked(b); err != nil {
				return nil, nil, err
			}
			if value, b, err = unpacked(b); err != nil {
				return nil, nil, err
			}
			members[fmt.Sprint(name)] = value
		}
		return members, b, nil
	}
	return nil, nil, fmt.Errorf("a value that begins with %#x", lead)
}

func datadogSpans(body []byte) ([]toldSpan, error) {
	value, rest, err := unpacked(body)
	traces, ok := value.([]any)
	if err != nil || len(rest) > 0 || !ok {
		return nil, errors.Join(err, fmt.Errorf("%d bytes more", len(rest)))
	}
	hexed := func(v any) string {
		n, _ := v.(uint64)
		return fmt.Sprintf("%016x", n)
	}
	var all []toldSpan
	for _, trace := range traces {
		spans, _ := trace.([]any)
		for _, span := range spans {
			s, _ := span.(map[string]any)
			meta, _ := s["meta"].(map[string]any)
			tags := map[string]string{}
			for name, value := range meta {
				tags[name] = fmt.Sprint(value)
			}
			metrics, _ := s["metrics"].(map[string]any)
			start, _ := s["start"].(uint64)
			if priority, _ := metrics["_sampling_priority_v1"].(float64); priority < 1 || len(strconv.FormatUint(start, 10)) != 19 {
				return nil, fmt.Errorf("a span of priority %v at %v", metrics, s["start"])
			}
			failed, _ := s["error"].(uint64)
			parent := strings.TrimPrefix(hexed(s["parent_id"]), strings.Repeat("0", 16))
			all = append(all, toldSpan{
				Trace: tags["_dd.p.tid"] + hexed(s["trace_id"]), ID: hexed(s["span_id"]), Parent: parent, Failed: failed == 1, Kind: fmt.Sprint(s["type"]),
				Name: fmt.Sprint(s["name"], " ", s["resource"]), Service: fmt.Sprint(s["service"]), Tags: tags,
			})
		}
	}
	return all, nil
}

// TestCollectorsAsEnvoy has both trace the same requests to collectors of each protocol, which really decode them.
func TestCollectorsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/fail") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(app.Close)
	const conf = `{"random_sampling":{"value":100},"provider":{"name":"p","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.%s}}}`
	protocols := []struct {
		name, config string
		fields       []string // a caller's span
		trace, span  string   // and who that is
	}{
		{
			"/api/v2/spans", `ZipkinConfig","collector_cluster":"web","collector_endpoint":"/api/v2/spans","collector_endpoint_version":"HTTP_PROTO","trace_id_128bit":true,"shared_span_context":false`,
			[]string{"b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1"},
			"80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1",
		},
		{
			"grpc", `OpenTelemetryConfig","service_name":"shop","grpc_service":{"envoy_grpc":{"cluster_name":"grpc"},"timeout":"1s"}`,
			[]string{"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
			"4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7",
		},
		{
			"/v1/traces", `OpenTelemetryConfig","service_name":"shop","http_service":{"http_uri":{"uri":"http://collector.example/v1/traces","cluster":"web","timeout":"1s"}}`,
			[]string{"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
			"4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7",
		},
		{
			"/v0.4/traces", `DatadogConfig","service_name":"shop","collector_cluster":"web"`,
			[]string{"x-datadog-trace-id: 7", "x-datadog-parent-id: 9", "x-datadog-sampling-priority: 1", "x-datadog-tags: _dd.p.tid=640cfd8d00000000"},
			"640cfd8d000000000000000000000007", "0000000000000009",
		},
	}
	receivers := map[string]*collectors{}
	twins := staticTwins(t, env, 2*len(protocols), func(ports []int) (clusters, listeners []json.RawMessage) {
		kind, c := kinds()[len(receivers)], newCollectors(t)
		receivers[kind] = c
		second := strings.TrimSuffix(string(clusterAt("grpc", c.grpc)), "}") + `,"typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{` +
			`"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}}}`
		for i, p := range protocols {
			listeners = append(listeners, tracedListener(fmt.Sprint("out", i), "OUTBOUND", ports[2*i], "app", fmt.Sprintf(conf, p.config)),
				tracedListener(fmt.Sprint("in", i), "INBOUND", ports[2*i+1], "app", fmt.Sprintf(conf, p.config)))
		}
		return []json.RawMessage{clusterAt("web", c.web.Listener.Addr().String()), clusterAt("app", app.Listener.Addr().String()), json.RawMessage(second)}, listeners
	})
	heard := map[string]http.Header{} // by the application; all asks come first, since collectors are told in batches
	each := func(do func(kind, protocol, path string, i, side int)) {
		for kind := range twins {
			for i, p := range protocols {
				for side, name := range []string{"/out", "/in"} {
					for _, path := range []string{"/root", "/child", "/root/fail"} {
						do(kind, p.name, name+path, i, side)
					}
				}
			}
		}
	}
	each(func(kind, protocol, path string, i, side int) {
		var fields []string
		if strings.HasSuffix(path, "/child") {
			fields = protocols[i].fields
		}
		heard[kind+protocol+path] = askForFields(t, twins[kind].ports[2*i+side], path, fields...)
	})
	all := map[string]map[string]toldSpan{"serai": {}, "envoy": {}}
	each(func(kind, protocol, path string, i, _ int) {
		heard, p := heard[kind+protocol+path], protocols[i]
		s := receivers[kind].find(t, protocol, "http://web.example"+path)
		if kind == "envoy" && protocol == "/api/v2/spans" {
			// It tells these two in the order of its processor; Zipkin reads them as they are handed on.
			s.ID, s.Parent = turned(t, s.ID), turned(t, s.Parent)
		}
		handed := strings.Join([]string{heard.Get("X-B3-Spanid"), heard.Get("Traceparent"), datadogID(heard.Get("X-Datadog-Parent-Id"))}, " ")
		if !strings.Contains(handed, s.ID) || s.ID == "" {
			t.Errorf("%s: %s: span %s, but %q is handed on", kind, protocol, s.ID, handed)
		}
		if strings.HasSuffix(path, "/child") && (s.Trace != p.trace || s.Parent != p.span) {
			t.Errorf("%s: %s: a child of %s in %s", kind, protocol, s.Parent, s.Trace)
		}
		s.Trace, s.ID = fmt.Sprint(len(s.Trace)), ""
		for _, own := range []string{
			"guid:x-request-id", "serai.proxy_us", "serai.upstream_us", "_dd.p.tid", "response_size", "zone", "span.kind", "language", "runtime-id", "version",
		} {
			delete(s.Tags, own)
		}
		for tag := range strings.SplitSeq(heard.Get("X-Datadog-Tags"), ",") {
			name, value, _ := strings.Cut(tag, "=")
			if name == "_dd.p.tid" {
				value = "TID"
			}
			s.Tags["handed on "+name] = value
		}
		all[kind][protocol+" "+path] = s
	})
	for kind, c := range receivers {
		if len(c.broken) > 0 {
			t.Errorf("%s: %q", kind, c.broken)
		}
	}
	eventually(t, "the same to be counted", func(context.Context) error { // a moment after it has come
		theirs, ours := tracingStats(t, twins["envoy"].admin), tracingStats(t, twins["serai"].admin)
		for _, name := range theirs {
			if !slices.Contains(ours, name) {
				return fmt.Errorf("of Envoy's %q we have no %s", theirs, name)
			}
		}
		return nil
	})
	if diff := cmp.Diff(all["envoy"], all["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
}

// tracingStats are the names below tracing. of what has been counted, with those of spans with how many.
func tracingStats(t *testing.T, admin int) []string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+local(admin)+"/stats?filter=^tracing\\.", http.NoBody)
	must(t, err)
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	var all []string
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if strings.HasSuffix(name, "s_sent") && !strings.HasSuffix(name, "reports_sent") {
			name += ": " + value
		}
		all = append(all, name)
	}
	return all
}

// turned is an identifier with its bytes in the other order.
func turned(t *testing.T, id string) string {
	t.Helper()
	b, err := hex.DecodeString(id)
	must(t, err)
	slices.Reverse(b)
	return hex.EncodeToString(b)
}

// datadogID is a decimal identifier in hexadecimal.
func datadogID(text string) string {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%016x", n)
}

// askForFields makes a request and returns what fields the application has heard.
func askForFields(t *testing.T, port int, path string, fields ...string) http.Header {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+local(port)+path, http.NoBody)
	must(t, err)
	req.Host = "web.example"
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	heard := http.Header{}
	must(t, json.NewDecoder(resp.Body).Decode(&heard))
	return heard
}
