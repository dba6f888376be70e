package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
	commonv1 "go.opentelemetry.io/proto/otlp/common/v1"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// otlpLogs is a receiver of OTLP over gRPC. Its messages are LogsData, which is as ExportLogsServiceRequest on the wire.
type otlpLogs struct {
	port int

	mu   sync.Mutex
	data []*logsv1.LogsData
}

func serveOTLP(t *testing.T, port int) *otlpLogs {
	t.Helper()
	o := &otlpLogs{port: port}
	server := grpc.NewServer()
	server.RegisterService(&grpc.ServiceDesc{
		ServiceName: "opentelemetry.proto.collector.logs.v1.LogsService", HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Export", Handler: func(_ any, _ context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
			data := &logsv1.LogsData{}
			if err := decode(data); err != nil {
				return nil, err
			}
			o.mu.Lock()
			defer o.mu.Unlock()
			o.data = append(o.data, data)
			return &emptypb.Empty{}, nil
		}}},
	}, nil)
	l := listenAt(t, port)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	return o
}

// attributesOf are attributes as text, sorted, without what cannot be the same for two proxies.
func attributesOf(list []*commonv1.KeyValue) []string {
	var all []string
	mask := regexp.MustCompile(`127\.0\.0\.1:\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`)
	for _, kv := range list {
		all = append(all, kv.GetKey()+"="+mask.ReplaceAllString(kv.GetValue().GetStringValue(), "M"))
		all[len(all)-1] = strings.NewReplacer("-serai", "-KIND", "-envoy", "-KIND").Replace(all[len(all)-1])
	}
	slices.Sort(all)
	return all
}

// find waits for the record whose body begins with text.
func (o *otlpLogs) find(t *testing.T, text string) (body string, attributes, resource []string) {
	t.Helper()
	eventually(t, "a record of "+text, func(context.Context) error {
		o.mu.Lock()
		defer o.mu.Unlock()
		for _, data := range o.data {
			for _, r := range data.GetResourceLogs() {
				for _, s := range r.GetScopeLogs() {
					for _, record := range s.GetLogRecords() {
						if body = record.GetBody().GetStringValue(); strings.HasPrefix(body, text) {
							attributes, resource = attributesOf(record.GetAttributes()), attributesOf(r.GetResource().GetAttributes())
							return nil
						}
					}
				}
			}
		}
		return errors.New("none")
	})
	return body, attributes, resource
}

// TestOTelAccessLogging runs Consul's built-in extension builtin/otel-access-logging on sidecars of both kinds.
func TestOTelAccessLogging(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http"})
	received := map[string]*otlpLogs{}
	for _, kind := range kinds() {
		received[kind] = serveOTLP(t, w.ports(t, 1))
		w.extend(t, "api-"+kind, "http", consulapi.EnvoyExtension{Name: "builtin/otel-access-logging", Required: true, Arguments: object{"Config": object{
			"LogName": "a-log", "GrpcService": object{"Target": object{"URI": local(received[kind].port)}}, "BufferFlushInterval": 100_000_000,
			"Body": "%REQ(:PATH)% %RESPONSE_CODE% %RESPONSE_FLAGS% %REQ(none)%", "Attributes": object{"method": "%REQ(:METHOD)%", "fixed": "100%%", "upstream": "%UPSTREAM_CLUSTER%"},
			"ResourceAttributes": object{"type": "compute"},
		}}})
		w.allow(t, "web", "api-"+kind)
		sidecarReady(t, w.start(t, kind, w.register(t, "api-"+kind, "api-"+kind)))
	}
	web := w.run(t, "web-1", "web", "api-serai", "api-envoy")
	sidecarReady(t, web)
	told := map[string][]string{}
	for _, kind := range kinds() {
		waitStatus(t, web.url("api-"+kind, "/x/up"), http.StatusOK)
		waitStatus(t, web.url("api-"+kind, "/x/logged"), http.StatusOK)
		body, attributes, resource := received[kind].find(t, "/x/logged ")
		told[kind] = append(append([]string{body}, attributes...), fmt.Sprint("of ", resource))
	}
	if diff := cmp.Diff(told["envoy"], told["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%q", told["envoy"])
}
