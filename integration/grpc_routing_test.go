package integration_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// TestGRPCRoutingAsEnvoy has Consul's routers and splitters send calls of gRPC, by our sidecar and by Envoy: by method, by
// metadata, in shares, again after a status, and not beyond a time. What comes of it is told in gRPC's own terms.
func TestGRPCRoutingAsEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "grpc", "echo": "grpc", "other": "grpc", "mix": "grpc", "shut": "grpc", "gone": "grpc"})
	w.allow(t, "web", "echo", "other", "mix", "gone")
	type match = consulapi.ServiceRouteHTTPMatch
	all := match{PathPrefix: "/"}
	asked, shy := all, all
	asked.Header = []consulapi.ServiceRouteHTTPMatchHeader{{Name: "x-to", Exact: "other"}}
	shy.Header = []consulapi.ServiceRouteHTTPMatchHeader{{Name: "x-again", Present: true}}
	w.write(t,
		&consulapi.ServiceRouterConfigEntry{Kind: consulapi.ServiceRouter, Name: "echo", Routes: []consulapi.ServiceRoute{
			route(match{PathExact: grpcCount, Methods: []string{"POST"}}, consulapi.ServiceRouteDestination{Service: "other"}),
			route(match{PathExact: grpcHang}, consulapi.ServiceRouteDestination{RequestTimeout: 3 * time.Second}),
			route(asked, consulapi.ServiceRouteDestination{Service: "other", RequestHeaders: &consulapi.HTTPHeaderModifiers{Set: map[string]string{"x-serai-consumer": "the route"}}}),
			route(shy, consulapi.ServiceRouteDestination{NumRetries: 4, RetryOn: []string{"unavailable"}}),
		}},
		&consulapi.ServiceSplitterConfigEntry{Kind: consulapi.ServiceSplitter, Name: "mix", Splits: []consulapi.ServiceSplit{
			{Weight: 50, Service: "echo"}, {Weight: 50, Service: "other"},
		}},
	)
	for _, id := range []string{"echo-1", "echo-2", "shut-1"} {
		w.run(t, id, id[:len(id)-2])
	}
	other := w.run(t, "other-1", "other")
	for kind, i := range w.twins(t, "web", "echo", "mix", "shut", "gone") {
		t.Run(kind, func(t *testing.T) { testGRPCRouting(t, i, other.app) })
	}
}

// testGRPCRouting makes calls through a sidecar.
func testGRPCRouting(t *testing.T, i *instance, other *app) {
	t.Helper()
	conns := map[string]*grpc.ClientConn{}
	for upstream, port := range i.upstreams {
		conns[upstream] = dialGRPC(t, local(port))
	}
	waitGRPC(t, conns["echo"])
	waitGRPC(t, conns["mix"])
	waitCounted(t, i.admin, "echo", "membership_healthy", "2")
	waitCounted(t, i.admin, "other", "membership_healthy", "1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	with := func(pairs ...string) context.Context {
		return metadata.NewOutgoingContext(ctx, metadata.Pairs(pairs...))
	}
	comes := func(upstream string, ctx context.Context, method, say string) string {
		got, err := callGRPC(ctx, conns[upstream], method, say)
		if err != nil {
			return fmt.Sprintf("%s: %s", status.Code(err), status.Convert(err).Message())
		}
		return got
	}
	t.Run("by method", func(t *testing.T) {
		before := other.hits.Load()
		testCount(ctx, t, conns["echo"], "hello")
		if other.hits.Load() != before+1 {
			t.Error("the other service was not asked")
		}
		if got := comes("echo", ctx, grpcSay, "hello"); !strings.HasPrefix(got, "echo-") {
			t.Errorf("got %q", got)
		}
	})
	t.Run("by metadata", func(t *testing.T) {
		var header metadata.MD
		got, err := callGRPC(with("x-to", "other"), conns["echo"], grpcSay, "hello", grpc.Header(&header))
		must(t, err)
		if got != "other-1 hello" || strings.Join(header.Get("x-consumer"), ",") != "the route" {
			t.Errorf("got %q, %v", got, header)
		}
	})
	t.Run("in shares", func(t *testing.T) {
		found := map[string]int{}
		for range 100 {
			found[comes("mix", ctx, grpcSay, "")[:4]]++
		}
		if found["echo"] < 20 || found["othe"] < 20 || len(found) != 2 {
			t.Errorf("%v", found)
		}
	})
	t.Run("again after a status", func(t *testing.T) {
		for range 20 {
			if got := comes("echo", with("x-again", "1"), grpcShy, "echo-1"); got != "echo-2 echo-1" {
				t.Errorf("got %q", got)
			}
		}
		eventually(t, "some to fail without the policy", func(context.Context) error {
			failed := 0
			for range 20 {
				if comes("echo", ctx, grpcShy, "echo-1") == "Unavailable: not to echo-1" {
					failed++
				}
			}
			if failed == 0 || failed == 20 {
				return fmt.Errorf("%d of 20 do", failed)
			}
			return nil
		})
		if got := comes("echo", with("x-again", "1"), grpcFail, ""); got != "FailedPrecondition: not today: ünï" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("not beyond a time", func(t *testing.T) {
		s, err := conns["echo"].NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, grpcHang)
		must(t, err)
		must(t, errors.Join(s.SendMsg(wrapperspb.String("")), s.CloseSend(), s.RecvMsg(&text{})))
		if err := s.RecvMsg(&text{}); status.Code(err) != codes.Internal {
			t.Errorf("it ends with %v", err)
		}
	})
	t.Run("what did not come there", func(t *testing.T) {
		eventually(t, "nobody to be there", func(context.Context) error {
			if got := comes("gone", ctx, grpcSay, "hello"); got != "Unavailable: no healthy upstream" {
				return errors.New(got)
			}
			return nil
		})
		eventually(t, "an intention to deny", func(context.Context) error {
			if got := comes("shut", ctx, grpcSay, "hello"); got != "PermissionDenied: RBAC: access denied" {
				return errors.New(got)
			}
			return nil
		})
		if got := comes("echo", ctx, "/nobody.Here/Say", "hello"); !strings.HasPrefix(got, "Unimplemented: ") {
			t.Errorf("got %q", got)
		}
	})
}
