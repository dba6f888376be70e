package accesslog

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	resourcev1 "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/logfile"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// Envoy's defaults for a batch.
	defaultFlush = time.Second
	defaultSize  = 16 << 10
	// maxWaiting bounds the records that wait for a collector, in bytes.
	maxWaiting = 4 << 20
	// exportTimeout is how long a collector may take for a batch.
	exportTimeout = 10 * time.Second
)

// logsPath is the method of the collector's service.
const logsPath = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"

// collector sends records to one collector of OTLP, in batches.
type collector struct {
	// set by newCollector
	config     *mesh.LogOTLP
	find       call.Find
	log        *slog.Logger
	body       value // nil for none
	attributes []attribute
	resource   *resourcev1.Resource
	records    *call.Batches[*logsv1.LogRecord]
	told       bool // owned by export

	written, dropped, failed atomic.Int64
}

// attribute is a name with what is written for it.
type attribute struct {
	name  string
	value value
}

// value makes a value of OTLP of an exchange.
type value func(in *format.Input) *commonv1.AnyValue

func newCollector(c *mesh.LogOTLP, node Node, find call.Find, log *slog.Logger) (*collector, error) {
	o := &collector{config: c, find: find, log: log, resource: &resourcev1.Resource{}}
	o.records = call.NewBatches(call.Batching[*logsv1.LogRecord]{
		Enough: cmp.Or(c.Size, defaultSize), Most: maxWaiting, Wait: cmp.Or(c.Flush, defaultFlush), Timeout: exportTimeout, Send: o.export,
	})
	var err error
	if c.Body != nil {
		if o.body, err = compileValue(c.Body); err != nil {
			return nil, err
		}
	}
	for _, a := range c.Attributes {
		v, err := compileValue(a.Value)
		if err != nil {
			return nil, err
		}
		o.attributes = append(o.attributes, attribute{a.Name, v})
	}
	if !c.NoBuiltin {
		for _, label := range [][2]string{{"log_name", c.Name}, {"zone_name", node.Zone}, {"cluster_name", node.Cluster}, {"node_name", node.ID}} {
			o.resource.Attributes = append(o.resource.Attributes, &commonv1.KeyValue{Key: label[0], Value: stringValue(label[1])})
		}
	}
	for _, a := range c.Resource {
		v, err := compileValue(a.Value)
		if err != nil {
			return nil, err
		}
		x := &wire.Exchange{Peer: &wire.Peer{}}
		o.resource.Attributes = append(o.resource.Attributes, &commonv1.KeyValue{Key: a.Name, Value: v(&format.Input{Exchange: x})})
	}
	return o, nil
}

func stringValue(s string) *commonv1.AnyValue {
	return &commonv1.AnyValue{Value: &commonv1.AnyValue_StringValue{StringValue: s}}
}

// compileValue reads a value as resource has made it: strings are texts.
func compileValue(of any) (value, error) {
	fixed := func(v *commonv1.AnyValue) (value, error) {
		return func(*format.Input) *commonv1.AnyValue { return v }, nil
	}
	switch of := of.(type) {
	case string:
		text, err := format.Compile(of)
		if err != nil {
			return nil, err
		}
		if plain, ok := text.Plain(); ok {
			return fixed(stringValue(plain))
		}
		return func(in *format.Input) *commonv1.AnyValue {
			var memory [256]byte
			return stringValue(toUTF8(text.Append(memory[:0], in)))
		}, nil
	case bool:
		return fixed(&commonv1.AnyValue{Value: &commonv1.AnyValue_BoolValue{BoolValue: of}})
	case int64:
		return fixed(&commonv1.AnyValue{Value: &commonv1.AnyValue_IntValue{IntValue: of}})
	case float64:
		return fixed(&commonv1.AnyValue{Value: &commonv1.AnyValue_DoubleValue{DoubleValue: of}})
	case nil:
		return fixed(&commonv1.AnyValue{})
	case []any:
		var all []value
		for _, one := range of {
			v, err := compileValue(one)
			if err != nil {
				return nil, err
			}
			all = append(all, v)
		}
		return func(in *format.Input) *commonv1.AnyValue {
			list := &commonv1.ArrayValue{}
			for _, v := range all {
				list.Values = append(list.Values, v(in))
			}
			return &commonv1.AnyValue{Value: &commonv1.AnyValue_ArrayValue{ArrayValue: list}}
		}, nil
	case map[string]any:
		return compileMap(of)
	}
	return nil, fmt.Errorf("a value of type %T", of)
}

func compileMap(of map[string]any) (value, error) {
	var all []attribute
	for name, one := range of {
		v, err := compileValue(one)
		if err != nil {
			return nil, err
		}
		all = append(all, attribute{name, v})
	}
	slices.SortFunc(all, func(a, b attribute) int { return cmp.Compare(a.name, b.name) })
	return func(in *format.Input) *commonv1.AnyValue {
		list := &commonv1.KeyValueList{}
		for _, a := range all {
			list.Values = append(list.Values, &commonv1.KeyValue{Key: a.name, Value: a.value(in)})
		}
		return &commonv1.AnyValue{Value: &commonv1.AnyValue_KvlistValue{KvlistValue: list}}
	}, nil
}

// toUTF8 is b as a string that may stand in protobuf.
func toUTF8(b []byte) string { return string([]rune(string(b))) }

// add takes a record of an exchange.
func (o *collector) add(in *format.Input) {
	r := &logsv1.LogRecord{TimeUnixNano: uint64(in.Exchange.Start.UnixNano())} //nolint:gosec // after 1970
	if o.body != nil {
		r.Body = o.body(in)
	}
	for i := range o.attributes {
		r.Attributes = append(r.Attributes, &commonv1.KeyValue{Key: o.attributes[i].name, Value: o.attributes[i].value(in)})
	}
	if id, err := hex.DecodeString(in.TraceID); err == nil && len(id) == 16 {
		r.TraceId = id
	}
	if !o.records.Add(r, proto.Size(r)) {
		o.dropped.Add(1)
	}
}

func (o *collector) stats() logfile.Stats {
	return logfile.Stats{Written: o.written.Load(), Dropped: o.dropped.Load(), Failed: o.failed.Load()}
}

// export sends records.
func (o *collector) export(ctx context.Context, records []*logsv1.LogRecord, _ bool) {
	// It is as ExportLogsServiceRequest on the wire, whose package would bring a
	// gateway of gRPC along.
	message, err := proto.Marshal(&logsv1.LogsData{ResourceLogs: []*logsv1.ResourceLogs{{
		Resource: o.resource, ScopeLogs: []*logsv1.ScopeLogs{{LogRecords: records}},
	}}})
	if err == nil {
		err = o.send(ctx, message)
	}
	if err != nil {
		o.failed.Add(int64(len(records)))
		o.tell(ctx, len(records), err)
		return
	}
	o.told = false
	o.written.Add(int64(len(records)))
}

// tell says once that a collector takes nothing, until it does.
func (o *collector) tell(ctx context.Context, records int, err error) {
	level := slog.LevelWarn
	if o.told {
		level = slog.LevelDebug
	}
	o.told = true
	o.log.Log(ctx, level, "records of an access log are lost as long as their collector does not take them: look at its cluster",
		"cluster", o.config.Cluster, "records", records, "err", err)
}

func (o *collector) send(ctx context.Context, message []byte) error {
	c := o.config
	to, authority := o.find(c.Cluster), cmp.Or(c.Authority, c.Cluster)
	if c.HTTP == "" {
		var metadata []wire.Field
		for _, m := range c.Metadata {
			metadata = append(metadata, wire.Field{Name: m.Name, Value: m.Value})
		}
		_, err := call.Unary(ctx, to, authority, logsPath, metadata, message)
		return err
	}
	r := call.Request{Method: http.MethodPost, Authority: authority, Path: c.HTTP, Body: message, MaxBody: -1}
	r.Header.Add("content-type", "application/x-protobuf")
	for _, m := range c.Metadata {
		r.Header.Set(m.Name, m.Value)
	}
	resp, err := call.Do(ctx, to, r)
	if err == nil && resp.Status/100 != 2 {
		err = fmt.Errorf("status %d", resp.Status)
	}
	return err
}
