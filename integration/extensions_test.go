package integration_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// extend sets the extensions of a service.
func (w *world) extend(t *testing.T, service, protocol string, extensions ...consulapi.EnvoyExtension) {
	t.Helper()
	w.protocols[service] = protocol
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: service, Protocol: protocol, EnvoyExtensions: extensions,
	}))
}

type object = map[string]any

// luaScript is run by both kinds of proxy.
const luaScript = `
function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get(":path")
  if path == "/x/respond" then
    handle:respond({[":status"] = "418", ["x-lua"] = {"a", "b"}}, "short and stout")
  elseif path == "/x/boom" then
    headers:add("x-lua", "before")
    error("oh no")
  elseif path == "/x/call" then
    local got, body = handle:httpCall("local_app", {[":method"] = "GET", [":path"] = "/x/sub", [":authority"] = "sub.test"}, "", 5000)
    handle:headers():add("x-lua", got[":status"] .. ":" .. body)
  elseif path == "/x/move" then
    headers:replace(":path", "/x/moved?by=lua")
  elseif path == "/x/chunks" then
    local n = 0
    headers:add("x-lua", "first")
    for chunk in handle:bodyChunks() do n = n + chunk:length() end
    handle:logInfo("chunks " .. n)
  else
    local seen = {}
    for key, value in pairs(headers) do
      if key == "x-many" or key == ":method" then table.insert(seen, key .. "=" .. value) end
    end
    local body = handle:body()
    local ssl = handle:connection():ssl()
    local length = 0
    if body then length = body:length() end
    handle:headers():add("x-lua", table.concat(seen, ";") .. ";" .. tostring(length) .. ";" .. ssl:uriSanPeerCertificate()[1]:match("svc/(.*)") .. ";" ..
      handle:streamInfo():protocol() .. ";" .. handle:headers():getNumValues("x-many") .. ";" .. handle:base64Escape("hi"))
    handle:streamInfo():dynamicMetadata():set("lua.test", "key", {a = 1})
  end
end
function envoy_on_response(handle)
  handle:headers():add("x-lua-response", handle:headers():get(":status"))
  if handle:headers():get("x-rewrite") then return end
  handle:headers():remove("x-gone")
end`

// authz is what decides, by HTTP and by gRPC, for both kinds of proxy.
type authz struct {
	authv3.UnimplementedAuthorizationServer
	http, grpc int // ports

	mu    sync.Mutex                      // guards:
	asked map[string]*authv3.CheckRequest // by path, or by "tcp"
	deny  bool                            // connections
}

// serveAuthz starts it.
func serveAuthz(t *testing.T, w *world) *authz {
	t.Helper()
	a := &authz{http: w.ports(t, 2), asked: map[string]*authv3.CheckRequest{}}
	a.grpc = a.http + 1
	server := &http.Server{Handler: http.HandlerFunc(a.byHTTP), ReadHeaderTimeout: patience}
	listener := listenAt(t, a.http)
	t.Cleanup(func() { drop(server) })
	go func() { _ = server.Serve(listener) }()
	speaks := grpc.NewServer()
	authv3.RegisterAuthorizationServer(speaks, a)
	other := listenAt(t, a.grpc)
	t.Cleanup(speaks.Stop)
	go func() { _ = speaks.Serve(other) }()
	return a
}

func (a *authz) byHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	h := w.Header()
	switch r.URL.Path {
	case "/authz/x/denied":
		h.Set("Www-Authenticate", "Basic")
		h.Set("X-Reason", "because")
		h.Set("X-Secret", "no")
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprint(w, "denied by http")
	case "/authz/x/broken":
		w.WriteHeader(http.StatusInternalServerError)
	default:
		h.Set("X-Authz", strings.Join([]string{
			r.Method, r.Host, r.URL.String(), r.Header.Get("X-User"), r.Header.Get("X-Other"), r.Header.Get("Authorization"),
			r.Header.Get("X-Added"), r.Header.Get("X-Envoy-Auth-Partial-Body"), string(body),
		}, "|"))
		h.Set("X-More", "2")
		h.Set("X-Unknown", "no")
		h.Set("X-Client", "yes")
		h.Set("X-Envoy-Auth-Headers-To-Remove", "x-user")
	}
}

// Check implements the protocol.
func (a *authz) Check(ctx context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	told := req.GetAttributes().GetRequest().GetHttp()
	a.mu.Lock()
	defer a.mu.Unlock()
	if told == nil {
		a.asked["tcp"] = req
		if a.deny {
			return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}}, nil
		}
		return &authv3.CheckResponse{}, nil
	}
	a.asked[told.GetPath()] = req
	option := func(name, value string, add bool) *corev3.HeaderValueOption {
		return &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}, Append: wrapperspb.Bool(add)}
	}
	switch told.GetPath() {
	case "/x/denied":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 16}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: typev3.StatusCode_PaymentRequired}, Body: `{"no":1}`,
			Headers: []*corev3.HeaderValueOption{option("content-type", "application/json", false), option("x-reason", "because", false)},
		}}}, nil
	case "/x/plain":
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}}, nil
	}
	md, _ := metadata.FromIncomingContext(ctx)
	return &authv3.CheckResponse{
		DynamicMetadata: &structpb.Struct{Fields: map[string]*structpb.Value{"who": structpb.NewStringValue("me")}},
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				option("x-authz", strings.Join(md.Get("x-initial"), ","), false), option("x-more", "2", true), option("x-none", "no", true),
			},
			HeadersToRemove:         []string{"x-user"},
			ResponseHeadersToAdd:    []*corev3.HeaderValueOption{option("x-client", "yes", false)},
			QueryParametersToSet:    []*corev3.QueryParameter{{Key: "set", Value: "1"}},
			QueryParametersToRemove: []string{"gone"},
		}},
	}, nil
}

// TestExtensions runs Consul's built-in extensions on our sidecars and on Envoy's, which must agree.
func TestExtensions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http"})
	decides := serveAuthz(t, w)
	target := func(port int) object { return object{"URI": local(port), "Timeout": "5s"} }
	exact := func(names ...string) []object {
		var all []object
		for _, name := range names {
			all = append(all, object{"Exact": name})
		}
		return all
	}
	byHTTP := consulapi.EnvoyExtension{Name: "builtin/ext-authz", Required: true, Arguments: object{"Config": object{
		"StatusOnError": 503, "IncludePeerCertificate": true, "ClearRouteCache": true,
		"WithRequestBody": object{"MaxRequestBytes": 1000},
		"HttpService": object{
			"Target": target(decides.http), "PathPrefix": "/authz",
			"AuthorizationRequest": object{"AllowedHeaders": exact("x-user"), "HeadersToAdd": []object{{"Key": "x-added", "Value": "1"}}},
			"AuthorizationResponse": object{
				"AllowedUpstreamHeaders": exact("x-authz"), "AllowedUpstreamHeadersToAppend": exact("x-more"),
				"AllowedClientHeaders": exact("x-reason"), "AllowedClientHeadersOnSuccess": exact("x-client"),
			},
		},
	}}}
	byGRPC := func(required bool) consulapi.EnvoyExtension {
		return consulapi.EnvoyExtension{Name: "builtin/ext-authz", Required: required, Arguments: object{"Config": object{
			"IncludePeerCertificate": true, "WithRequestBody": object{"MaxRequestBytes": 4, "AllowPartialMessage": true, "PackAsBytes": true},
			"GrpcService": object{"Target": target(decides.grpc), "InitialMetadata": []object{{"Key": "x-initial", "Value": "value"}}},
		}}}
	}
	script := consulapi.EnvoyExtension{Name: "builtin/lua", Arguments: object{"ProxyType": "connect-proxy", "Listener": "inbound", "Script": luaScript}}
	override := consulapi.EnvoyExtension{Name: "builtin/property-override", Required: true, Arguments: object{"ProxyType": "connect-proxy", "Patches": []object{
		{"ResourceFilter": object{"ResourceType": "listener", "TrafficDirection": "inbound"}, "Op": "add", "Path": "/stat_prefix", "Value": "patched"},
		{"ResourceFilter": object{"ResourceType": "cluster", "TrafficDirection": "inbound"}, "Op": "add", "Path": "/upstream_connection_options/tcp_keepalive/keepalive_probes", "Value": 5},
		{"ResourceFilter": object{"ResourceType": "cluster", "TrafficDirection": "inbound"}, "Op": "add", "Path": "/connect_timeout/seconds", "Value": 3},
	}}}
	var names []string
	for _, kind := range kinds() {
		w.extend(t, "script-"+kind, "http", script, override)
		w.extend(t, "http-"+kind, "http", byHTTP)
		w.extend(t, "grpc-"+kind, "http", byGRPC(true))
		w.extend(t, "tcp-"+kind, "tcp", byGRPC(true))
		for _, name := range []string{"script-", "http-", "grpc-", "tcp-"} {
			names = append(names, name+kind)
		}
	}
	module := func(required bool) consulapi.EnvoyExtension {
		return consulapi.EnvoyExtension{Name: "builtin/wasm", Required: required, Arguments: object{"Protocol": "http", "ListenerType": "inbound", "PluginConfig": object{
			"VmConfig": object{"Code": object{"Local": object{"Filename": "/nowhere/filter.wasm"}}},
		}}}
	}
	w.extend(t, "wasm-serai", "http", module(false))
	w.extend(t, "wasm-required-serai", "http", module(true))
	names = append(names, "wasm-serai", "wasm-required-serai")
	// Of AWS Lambda there is none here: what goes out is told in TestLambda and TestTransparent.
	w.extend(t, "function", "http", consulapi.EnvoyExtension{Name: "builtin/aws/lambda", Arguments: object{
		"ARN": lambdaARN, "PayloadPassthrough": true,
	}})
	all := map[string]*instance{}
	for _, name := range names {
		w.allow(t, "web", name)
		kind := "serai"
		if strings.HasSuffix(name, "envoy") {
			kind = "envoy"
		}
		all[name] = w.start(t, kind, w.register(t, name, name))
		sidecarReady(t, all[name])
	}
	web := w.run(t, "web-1", "web", append(names, "function")...)
	sidecarReady(t, web)
	for _, name := range names {
		if !strings.HasPrefix(name, "tcp") && !strings.Contains(name, "required") {
			waitStatus(t, web.url(name, "/"), http.StatusOK)
		}
	}
	t.Run("lua", func(t *testing.T) { scripted(t, web) })
	t.Run("ext-authz by HTTP", func(t *testing.T) { authorizedByHTTP(t, web) })
	t.Run("ext-authz by gRPC", func(t *testing.T) { decides.authorizedByGRPC(t, web) })
	t.Run("ext-authz of connections", func(t *testing.T) { decides.admitted(t, web) })
	t.Run("property-override", func(t *testing.T) {
		for _, kind := range kinds() {
			patched(t, all["script-"+kind].admin)
		}
	})
	t.Run("aws-lambda", func(t *testing.T) {
		if got := get(t, web.url("function", "/")); got.status != http.StatusServiceUnavailable {
			t.Errorf("without credentials: %+v", got)
		}
		if got := get(t, "http://"+local(web.admin)+"/stats?filter=aws_lambda"); !strings.Contains(got.body, "http.upstream.function.default.default.dc1.aws_lambda.server_error: 1") {
			t.Errorf("the filter has not done it: %s", got.body)
		}
		if log := web.sidecar.Log(); strings.Contains(log, "not understood") || strings.Contains(log, "refused:") {
			t.Errorf("something is refused: %s", log)
		}
	})
	t.Run("wasm", func(t *testing.T) {
		if got := get(t, web.url("wasm-serai", "/")); got.status != http.StatusOK {
			t.Errorf("optional: %+v", got)
		}
		waitStatus(t, web.url("wasm-required-serai", "/"), http.StatusServiceUnavailable)
	})
}

// patched looks for what property-override has changed: in what is shown, and in what is counted.
func patched(t *testing.T, admin int) {
	t.Helper()
	if got := get(t, "http://"+local(admin)+"/stats?filter=listener.patched.downstream_cx_total"); !regexp.MustCompile(`patched.downstream_cx_total: [1-9]`).MatchString(got.body) {
		t.Errorf("no connections of the listener by its new name: %q", got.body)
	}
	var dump struct {
		Configs []struct {
			Cluster struct {
				Name    string
				Timeout string `json:"connect_timeout"`
				Options struct {
					Keepalive struct {
						Probes int `json:"keepalive_probes"`
					} `json:"tcp_keepalive"`
				} `json:"upstream_connection_options"`
			}
		}
	}
	must(t, json.Unmarshal([]byte(get(t, "http://"+local(admin)+"/config_dump?resource=dynamic_active_clusters").body), &dump))
	for _, c := range dump.Configs {
		if c.Cluster.Name == "local_app" {
			if c.Cluster.Timeout != "3s" || c.Cluster.Options.Keepalive.Probes != 5 {
				t.Errorf("%+v", c)
			}
			return
		}
	}
	t.Errorf("no local_app among %d clusters", len(dump.Configs))
}

// both puts a question to the service behind each kind of proxy.
func bothKinds(t *testing.T, web *instance, service string, questions []question) {
	t.Helper()
	for _, q := range questions {
		for _, kind := range kinds() {
			t.Run(q.name+"/"+kind, func(t *testing.T) {
				q := q
				q.upstream = service + kind
				q.sees = maps.Clone(q.sees)
				for name, value := range q.sees {
					q.sees[name] = strings.NewReplacer("KIND", kind, "HOST", local(web.upstreams[q.upstream])).Replace(value)
				}
				got := q.put(t, web)
				if diff := cmp.Diff(q.want(got), got); diff != "" {
					t.Errorf("%s %s (-want +got):\n%s", q.upstream, q.path, diff)
				}
			})
		}
	}
}

// answers asks for a body that is not the app's.
func answers(t *testing.T, web *instance, service, path, want string) {
	t.Helper()
	for _, kind := range kinds() {
		if got := get(t, web.url(service+kind, path)); got.body != want {
			t.Errorf("%s%s %s: %q", service, kind, path, got.body)
		}
	}
}

func scripted(t *testing.T, web *instance) {
	t.Helper()
	bothKinds(t, web, "script-", []question{
		{
			name: "headers", path: "/x/y", header: map[string]string{"X-Many": "1"},
			sees: map[string]string{"X-Lua": ":method=GET;x-many=1;0;web;HTTP/1.1;1;aGk="}, gets: map[string]string{"X-Lua-Response": "200"},
		},
		{name: "respond", path: "/x/respond", status: 418, gets: map[string]string{"X-Lua": "a,b", "X-Lua-Response": "418"}},
		{name: "error", path: "/x/boom", sees: map[string]string{"X-Lua": "before"}},
		{name: "call", path: "/x/call", sees: map[string]string{"X-Lua": "200:script-KIND"}},
		{name: "path", path: "/x/move", path2: "/x/moved?by=lua"},
	})
	answers(t, web, "script-", "/x/respond", "short and stout")
	for _, kind := range kinds() {
		for path, want := range map[string]string{"/x/body": ":method=POST;5;web;HTTP/1.1;0;aGk=", "/x/chunks": "first"} {
			got := ask(t, http.MethodPost, web.url("script-"+kind, path), strings.NewReader("hello"), func(r *http.Request) { r.Header.Set("X-Show", "1") })
			if got.status != http.StatusOK || !strings.Contains(got.body, `"`+want+`"`) {
				t.Errorf("%s %s: %d %s", kind, path, got.status, got.body)
			}
		}
	}
}

func authorizedByHTTP(t *testing.T, web *instance) {
	t.Helper()
	bothKinds(t, web, "http-", []question{
		{
			name: "allowed", path: "/x/ok?a=b", header: map[string]string{"X-User": "me", "X-Other": "o", "Authorization": "a", "X-More": "1", "X-Authz": "forged"},
			sees: map[string]string{"X-Authz": "GET|HOST|/authz/x/ok?a=b|me||a|1||", "X-More": "1,2", "X-User": "", "X-Other": "o", "X-Unknown": ""},
			gets: map[string]string{"X-Client": "yes", "X-Authz": ""},
		},
		{
			name: "denied", path: "/x/denied", status: http.StatusUnauthorized,
			gets: map[string]string{"X-Reason": "because", "Www-Authenticate": "Basic", "X-Secret": ""},
		},
		{name: "broken", path: "/x/broken", status: http.StatusServiceUnavailable},
	})
	answers(t, web, "http-", "/x/denied", "denied by http")
	for _, kind := range kinds() {
		url := web.url("http-"+kind, "/x/body")
		show := func(r *http.Request) { r.Header.Set("X-Show", "1") }
		if got := ask(t, http.MethodPost, url, strings.NewReader("hello"), show); got.status != http.StatusOK || !strings.Contains(got.body, "|false|hello") {
			t.Errorf("%s: a body: %d %s", kind, got.status, got.body)
		}
		if got := ask(t, http.MethodPost, url, bytes.NewReader(make([]byte, 1001)), show); got.status != http.StatusRequestEntityTooLarge {
			t.Errorf("%s: too large a body: %d %s", kind, got.status, got.body)
		}
	}
}

func (a *authz) authorizedByGRPC(t *testing.T, web *instance) {
	t.Helper()
	bothKinds(t, web, "grpc-", []question{
		{
			name: "allowed", path: "/x/ok?gone=1&a=b", header: map[string]string{"X-User": "me", "X-More": "1"}, path2: "/x/ok?a=b&set=1",
			sees: map[string]string{"X-Authz": "value", "X-More": "1,2", "X-User": "", "X-None": ""}, gets: map[string]string{"X-Client": "yes"},
		},
		{
			name: "denied", path: "/x/denied", status: http.StatusPaymentRequired,
			gets: map[string]string{"X-Reason": "because", "Content-Type": "application/json"},
		},
		{name: "plainly denied", path: "/x/plain", status: http.StatusForbidden},
	})
	answers(t, web, "grpc-", "/x/denied", `{"no":1}`)
	answers(t, web, "grpc-", "/x/plain", "")
	told := map[string]object{}
	for _, kind := range kinds() {
		got := ask(t, http.MethodPost, web.url("grpc-"+kind, "/x/told"), strings.NewReader("hello"), func(r *http.Request) {
			r.Header.Set("X-Show", "1")
			r.Header.Add("X-Many", "1")
			r.Header.Add("X-Many", "2")
		})
		if got.status != http.StatusOK {
			t.Errorf("%s: %d %s", kind, got.status, got.body)
		}
		told[kind] = a.told("/x/told")
	}
	if diff := cmp.Diff(told["envoy"], told["serai"]); diff != "" {
		t.Errorf("what the service is told (-Envoy +ours):\n%s", diff)
	}
	if told["serai"]["certificate"] != true || told["serai"]["body"] != "hell" {
		t.Errorf("what the service is told: %v", told["serai"])
	}
}

// told is what the service was told of a path, as far as it must not differ between proxies.
func (a *authz) told(path string) object {
	a.mu.Lock()
	defer a.mu.Unlock()
	attributes := a.asked[path].GetAttributes()
	told := attributes.GetRequest().GetHttp()
	spiffe := func(s string) string { // without the trust domain, and the kind of proxy that is a part of the name
		_, name, _ := strings.Cut(s, "/ns/")
		return strings.NewReplacer("-serai", "", "-envoy", "").Replace(name)
	}
	headers := map[string]string{}
	for _, name := range []string{":method", ":path", ":scheme", "content-length", "x-many", "x-show", "x-envoy-auth-partial-body", "content-type"} {
		headers[name] = told.GetHeaders()[name]
	}
	return object{
		"method": told.GetMethod(), "path": told.GetPath(), "scheme": told.GetScheme(), "protocol": told.GetProtocol(), "body": string(told.GetRawBody()),
		"headers": headers, "query": told.GetQuery(), "fragment": told.GetFragment(), "has time": attributes.GetRequest().GetTime().IsValid() == (told != nil),
		"source": spiffe(attributes.GetSource().GetPrincipal()), "destination": spiffe(attributes.GetDestination().GetPrincipal()),
		"from": attributes.GetSource().GetAddress().GetSocketAddress().GetAddress(), "certificate": strings.HasPrefix(attributes.GetSource().GetCertificate(), "-----BEGIN%20CERTIFICATE-----%0A"),
		"to": attributes.GetDestination().GetAddress().GetSocketAddress().GetAddress(), "host": told.GetHost() != "", "id": told.GetId() != "" || told == nil,
	}
}

// admitted looks at connections: with the service's consent they go on, without they end.
func (a *authz) admitted(t *testing.T, web *instance) {
	t.Helper()
	talk := func(kind string) error {
		dialer := net.Dialer{Timeout: patience}
		conn, err := dialer.DialContext(t.Context(), "tcp", local(web.upstreams["tcp-"+kind]))
		if err != nil {
			return err
		}
		defer conn.Close()
		must(t, conn.SetDeadline(time.Now().Add(patience)))
		if _, err := io.WriteString(conn, "hello"); err != nil {
			return err
		}
		back := make([]byte, 5)
		_, err = io.ReadFull(conn, back)
		return err
	}
	told := map[string]object{}
	for _, kind := range kinds() {
		within(t, patience, "a connection through "+kind, func(context.Context) error { return talk(kind) })
		told[kind] = a.told("tcp")
		a.mu.Lock()
		a.deny = true
		a.mu.Unlock()
		if err := talk(kind); err == nil {
			t.Errorf("%s: a connection that is not allowed", kind)
		}
		a.mu.Lock()
		a.deny = false
		a.mu.Unlock()
	}
	if diff := cmp.Diff(told["envoy"], told["serai"]); diff != "" {
		t.Errorf("what the service is told (-Envoy +ours):\n%s", diff)
	}
}
