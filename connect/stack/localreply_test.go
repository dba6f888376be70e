package stack_test

import (
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// The rows are what Envoy 1.36 made of them (integration: TestLocalReplyConfigAsEnvoy).
func TestLocalReply(t *testing.T) {
	t.Parallel()
	layer, err := stack.LocalReply(&mesh.LocalReply{
		Mappers: []mesh.ReplyMapper{
			{Filter: &mesh.LogFilter{Status: &mesh.LogComparison{Value: 404}}, Status: 410, HasText: true, Text: "gone", Set: []mesh.HeaderValue{{Name: "x-added", Text: "%RESPONSE_CODE%"}}},
			{Filter: &mesh.LogFilter{Status: &mesh.LogComparison{Value: 403}}, Body: &mesh.ReplyBody{JSON: map[string]any{"text": "%LOCAL_REPLY_BODY%", "code": "%RESPONSE_CODE%"}, Type: "application/json"}},
		},
		Body: &mesh.ReplyBody{Text: "%RESPONSE_CODE%: %LOCAL_REPLY_BODY%", Type: "text/plain"},
	})
	if err != nil {
		t.Fatal(err)
	}
	type outcome struct{ Status, Body, Type, Added string }
	for path, want := range map[string]outcome{
		"/404":      {"410", "410: gone", "text/plain", "404"},
		"/403":      {"403", `{"code":403,"text":"no"}` + "\n", "application/json", ""},
		"/500":      {"500", "500: Internal Server Error", "text/plain", ""},
		"/upstream": {"404", "own", "", ""},
	} {
		service := wire.Stack(wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			switch req.Path {
			case "/404":
				return nil, &wire.Fault{Status: 404}
			case "/403":
				return nil, &wire.Fault{Status: 403, Text: "no"}
			case "/upstream":
				return &wire.Response{Status: 404, Body: wire.NewBytes([]byte("own")), ContentLength: 3}, nil
			}
			return nil, io.ErrUnexpectedEOF
		}), layer)
		got := do(t, service, &wire.Peer{}, request("GET", path))
		if diff := cmp.Diff(want, outcome{fmt.Sprint(got.Status), got.Body, got.Header.Get("content-type"), got.Header.Get("x-added")}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", path, diff)
		}
	}
	for _, bad := range []*mesh.LocalReply{
		{Body: &mesh.ReplyBody{Text: "%NOPE%"}},
		{Mappers: []mesh.ReplyMapper{{Filter: &mesh.LogFilter{}}}},
		{Mappers: []mesh.ReplyMapper{{Filter: &mesh.LogFilter{Traced: true}, Set: []mesh.HeaderValue{{Name: "a", Text: "%NOPE%"}}}}},
	} {
		if _, err := stack.LocalReply(bad); err == nil {
			t.Errorf("%+v: no error", bad)
		}
	}
	if layer, err := stack.LocalReply(nil); layer != nil || err != nil {
		t.Error("a layer of nothing")
	}
}

// replying makes 410 and a text of another type of an answer of our own with that status.
func replying(t *testing.T, status uint32) wire.Layer {
	t.Helper()
	layer, err := stack.LocalReply(&mesh.LocalReply{
		Mappers: []mesh.ReplyMapper{{Filter: &mesh.LogFilter{Status: &mesh.LogComparison{Value: status}}, Status: 410}},
		Body:    &mesh.ReplyBody{Text: "%RESPONSE_CODE% <%LOCAL_REPLY_BODY%>", Type: "a/b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// An answer of our own is what the configuration makes of it before filters see it.
func TestLocalReplyComesBeforeFilters(t *testing.T) {
	t.Parallel()
	sees := mesh.HTTPFilter{Lua: &mesh.Lua{Code: `function envoy_on_response(handle)
		local h, body = handle:headers(), handle:body()
		h:replace("x-seen", h:get(":status") .. " " .. h:get("content-type") .. " " .. body:getBytes(0, body:length()))
	end`}}
	deny := mesh.HTTPFilter{Intention: &mesh.Intention{Action: mesh.Allow}}
	for name, filters := range map[string][]mesh.HTTPFilter{"in front": {sees, deny}, "behind": {deny, sees}} {
		service := compile(t, &mesh.HTTP{Filters: filters, Route: toward(nil)}, clusters(t, nil))
		got := do(t, wire.Stack(service, replying(t, 403)), &wire.Peer{}, request("GET", "/"))
		if want := "410 a/b 410 <RBAC: access denied>"; got.Status != 410 || got.Header.Get("x-seen") != want {
			t.Errorf("%s: %d, seen %q", name, got.Status, got.Header.Get("x-seen"))
		}
	}
}

// What a filter cannot make sense of in an upstream's answer is no answer of our own; who is turned away before all
// filters gets one.
func TestLocalReplyIsOfOurOwn(t *testing.T) {
	t.Parallel()
	address := backend(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "no JSON") })
	set := clusters(t, map[string]string{"c": address})
	set.CountIn(&stats.Registry{})
	gateway := &mesh.Cluster{Name: "c", Kind: mesh.ClusterStatic, Lambda: true, Endpoints: set.Clusters()[0].Definition.Endpoints}
	commit, err := set.Prepare(map[string]*mesh.Cluster{"c": gateway})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	service := compile(t, &mesh.HTTP{
		Filters: []mesh.HTTPFilter{{Lambda: &mesh.Lambda{ARN: "arn:aws:lambda:us-east-1:1:function:f", Region: "us-east-1", AccessKey: "a", SecretKey: "s"}}},
		Route:   toward(nil),
	}, set)
	if got := do(t, wire.Stack(service, replying(t, 500)), &wire.Peer{}, request("GET", "/")); got.Status != 500 || got.Flag != wire.FlagUpstreamProtocol {
		t.Errorf("%+v", got)
	}
	reject := stack.Conduct(mesh.Conduct{Detect: []mesh.Detection{{Header: "x-real", Reject: 429}}})
	if got := do(t, wire.Stack(service, replying(t, 429), reject), &wire.Peer{}, request("GET", "/")); got.Status != 410 || got.Body != "410 <Too Many Requests>" {
		t.Errorf("%+v", got)
	}
}
