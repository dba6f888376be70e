package extauthz_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"github.com/google/go-cmp/cmp"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/serai-net/serai/connect/filter/extauthz"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// rig is a filter between a request and what is behind it.
type rig struct {
	asked    *authv3.CheckRequest // what a service of gRPC was asked
	http     *wire.Request        // what a service of HTTP was asked
	httpBody string
	passed   *wire.Request // what came through; nil if nothing did
	body     string
	registry stats.Registry
	pinned   bool
	unrouted bool // no route is for the request
}

// grpc answers as a service of gRPC.
func (r *rig) grpc(answer *authv3.CheckResponse) wire.Service {
	return wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		message, err := io.ReadAll(req.Body)
		if err != nil {
			return nil, err
		}
		r.asked = &authv3.CheckRequest{}
		if err := proto.Unmarshal(message[5:], r.asked); err != nil {
			return nil, err
		}
		out, err := proto.Marshal(answer)
		if err != nil {
			return nil, err
		}
		framed := append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(out))), out...)
		resp := &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: wire.NewBytes(framed)}
		resp.Header.Add("grpc-status", "0")
		return resp, nil
	})
}

func (r *rig) plain(status int, body string, fields ...wire.Field) wire.Service {
	return wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		r.http = req
		if req.Body != nil {
			data, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			r.httpBody = string(data)
		}
		resp := &wire.Response{Status: status, ContentLength: int64(len(body)), Body: wire.NewBytes([]byte(body))}
		for _, f := range fields {
			resp.Header.Add(f.Name, f.Value)
		}
		return resp, nil
	})
}

var errDown = errors.New("down")

func down() wire.Service {
	return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return nil, errDown })
}

// outcome is what became of a request.
type outcome struct {
	Status int
	Body   string
	Header string
	Flag   wire.Flag
}

// serve sends a request through a filter.
func (r *rig) serve(t *testing.T, c *mesh.ExtAuthz, service wire.Service, req *wire.Request) (outcome, *wire.Exchange) {
	t.Helper()
	if c.Service.Timeout == 0 {
		c.Service.Timeout = time.Minute
	}
	c.Service.Cluster = "authz"
	layer, err := extauthz.New(c, extauthz.Place{
		Find: func(name string) wire.Service {
			if name != "authz" {
				return nil
			}
			return service
		},
		Stats: r.registry.Scope("ext_authz."), Principal: "spiffe://us", Labels: map[string]string{"a": "b"},
		Pin: func(*wire.Exchange, *wire.Request) bool { r.pinned = true; return !r.unrouted },
	})
	if err != nil {
		t.Fatal(err)
	}
	x := &wire.Exchange{}
	peer := &wire.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:1000"), Local: netip.MustParseAddrPort("10.0.0.2:80"), TLS: true, ServerName: "sni"}
	x.Reset(nil, peer, time.Unix(1000, 0))
	x.GRPC = wire.IsGRPC(&req.Header)
	x.ID = "id"
	resp, err := layer(wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		r.passed = req
		if req.Body != nil {
			data, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			r.body = string(data)
		}
		resp := &wire.Response{Status: 200}
		resp.Header.Add("there", "before")
		return resp, nil
	})).Serve(x, req)
	if err != nil {
		resp = wire.Reply(x, err)
	}
	out := outcome{Status: resp.Status, Flag: x.Flag, Header: text(&resp.Header)}
	if resp.Body != nil {
		data, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		out.Body = string(data)
	}
	x.Done(time.Now())
	return out, x
}

func text(h *wire.Header) string {
	var lines []string
	for name, value := range h.All() {
		lines = append(lines, name+"="+value)
	}
	return strings.Join(lines, " ")
}

func request(body string, fields ...wire.Field) *wire.Request {
	req := &wire.Request{Method: "POST", Scheme: "https", Authority: "api.test", Path: "/a?x=1&y=2", Proto: 1, Minor: 1}
	for _, f := range fields {
		req.Header.Add(f.Name, f.Value)
	}
	if body != "" {
		req.Body, req.ContentLength = wire.NewBytes([]byte(body)), int64(len(body))
	}
	return req
}

func option(name, value string, add bool) *corev3.HeaderValueOption {
	o := &corev3.HeaderValueOption{Header: &corev3.HeaderValue{Key: name, Value: value}}
	if add {
		o.Append = wrapperspb.Bool(true)
	}
	return o
}

// What a route says of it is told to a service of gRPC.
func TestContext(t *testing.T) {
	t.Parallel()
	r := &rig{}
	r.serve(t, &mesh.ExtAuthz{Context: map[string]string{"a": "b"}}, r.grpc(&authv3.CheckResponse{}), request(""))
	if got := r.asked.GetAttributes().GetContextExtensions(); !maps.Equal(got, map[string]string{"a": "b"}) {
		t.Errorf("got %v", got)
	}
}

func TestGRPCConsent(t *testing.T) {
	t.Parallel()
	metadata, err := structpb.NewStruct(map[string]any{"who": "me", "n": 3})
	if err != nil {
		t.Fatal(err)
	}
	answer := &authv3.CheckResponse{
		DynamicMetadata: metadata,
		HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{
				option("X-User", " me\t", false), option("x-list", "two", true), option("x-none", "no", true), option(":path", "/b?y=2", false),
			},
			HeadersToRemove: []string{"Secret", ":method", "host"},
			ResponseHeadersToAdd: []*corev3.HeaderValueOption{
				option("x-added", "1", false),
				{Header: &corev3.HeaderValue{Key: "there", Value: "after"}, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS},
				{Header: &corev3.HeaderValue{Key: "there", Value: "no"}, AppendAction: corev3.HeaderValueOption_ADD_IF_ABSENT},
			},
			QueryParametersToSet:    []*corev3.QueryParameter{{Key: "z", Value: "a b"}},
			QueryParametersToRemove: []string{"y"},
		}},
	}
	r := &rig{}
	req := request("", wire.Field{Name: "x-user", Value: "forged"}, wire.Field{Name: "x-list", Value: "one"}, wire.Field{Name: "secret", Value: "s"})
	got, x := r.serve(t, &mesh.ExtAuthz{}, r.grpc(answer), req)
	if diff := cmp.Diff(outcome{Status: 200, Header: "there=after x-added=1"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if h := text(&r.passed.Header); h != "x-user=me x-list=one x-list=two" || r.passed.Path != "/b?z=a+b" || r.passed.Method != "POST" {
		t.Errorf("passed on: %s %s %s", r.passed.Method, r.passed.Path, h)
	}
	if !r.pinned {
		t.Error("the route was not chosen before the request was changed")
	}
	if who, _ := x.Metadata.Lookup("envoy.filters.http.ext_authz", []string{"who"}); who != "me" {
		t.Errorf("metadata: %v", who)
	}
}

func TestQuestion(t *testing.T) {
	t.Parallel()
	r := &rig{}
	c := &mesh.ExtAuthz{
		Body: &mesh.AuthzBody{Max: 4, Partial: true}, TLSSession: true, Disallowed: []mesh.StringMatch{{Exact: "cookie"}},
	}
	req := request("hello", wire.Field{Name: "a", Value: "1"}, wire.Field{Name: "cookie", Value: "c"}, wire.Field{Name: "a", Value: "\xff2"},
		wire.Field{Name: "x-envoy-auth-partial-body", Value: "forged"})
	if got, _ := r.serve(t, c, r.grpc(&authv3.CheckResponse{}), req); got.Status != 200 {
		t.Fatalf("%+v", got)
	}
	want := &authv3.CheckRequest{}
	if err := prototext.Unmarshal([]byte(`attributes {
		source { address { socket_address { address: "10.0.0.1" port_value: 1000 } } }
		destination { address { socket_address { address: "10.0.0.2" port_value: 80 } } principal: "spiffe://us" labels { key: "a" value: "b" } }
		tls_session { sni: "sni" }
		metadata_context {}
		request { time { seconds: 1000 } http {
			id: "id" method: "POST" path: "/a?x=1&y=2" host: "api.test" scheme: "https" protocol: "HTTP/1.1" body: "hell" size: 4
			headers { key: ":method" value: "POST" } headers { key: ":path" value: "/a?x=1&y=2" }
			headers { key: ":scheme" value: "https" } headers { key: ":authority" value: "api.test" }
			headers { key: "a" value: "1,!2" } headers { key: "content-length" value: "5" }
			headers { key: "x-envoy-auth-partial-body" value: "true" }
		} } }`), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(want, r.asked) {
		t.Errorf("want %v\ngot  %v", want, r.asked)
	}
	if r.body != "hello" {
		t.Errorf("the upstream got %q", r.body)
	}
}

// Nobody is asked about a request that leads nowhere, as with Envoy.
func TestUnrouted(t *testing.T) {
	t.Parallel()
	r := &rig{unrouted: true}
	got, _ := r.serve(t, &mesh.ExtAuthz{}, r.grpc(&authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}}), request(""))
	if got.Status != 200 || r.passed == nil || r.asked != nil {
		t.Errorf("%+v, asked %v", got, r.asked)
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	denied := func(code typev3.StatusCode, body string, headers ...*corev3.HeaderValueOption) *authv3.CheckResponse {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{
			DeniedResponse: &authv3.DeniedHttpResponse{Status: &typev3.HttpStatus{Code: code}, Headers: headers, Body: body},
		}}
	}
	bad := &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: []*corev3.HeaderValueOption{option("x-a", "b\r\nx-c: d", false)},
	}}}
	r := &rig{}
	tests := []struct {
		name    string
		config  *mesh.ExtAuthz
		service wire.Service
		req     *wire.Request
		want    outcome
		passes  bool
		counts  map[string]int64
	}{
		{
			"plain denial", &mesh.ExtAuthz{}, r.grpc(&authv3.CheckResponse{Status: &rpcstatus.Status{Code: 16}}), request(""),
			outcome{Status: 403, Flag: wire.FlagDenied},
			false,
			map[string]int64{"denied": 1},
		},
		{
			"denial", &mesh.ExtAuthz{}, r.grpc(denied(401, "go away", option("X-Why", "so", false), option("set-cookie", "a", false), option("set-cookie", "b", false), option("no", "no", true))), request(""),
			outcome{401, "go away", "x-why=so set-cookie=a set-cookie=b content-type=text/plain", wire.FlagDenied},
			false,
			map[string]int64{"denied": 1},
		},
		{
			"cut denial", &mesh.ExtAuthz{MaxDenied: 2}, r.grpc(denied(401, "go away", option("content-type", "text/html", false))), request(""),
			outcome{401, "go", "content-type=text/html", wire.FlagDenied},
			false,
			map[string]int64{"denied": 1},
		},
		{
			"denial of gRPC", &mesh.ExtAuthz{}, r.grpc(denied(401, "go away")), request("", wire.Field{Name: "content-type", Value: "application/grpc"}),
			outcome{200, "", "content-type=application/grpc grpc-status=16 grpc-message=go away", wire.FlagDenied},
			false,
			map[string]int64{"denied": 1},
		},
		{
			"splitting", &mesh.ExtAuthz{}, r.grpc(bad), request(""),
			outcome{500, "Internal Server Error\n", "content-type=text/plain", wire.FlagDenied},
			false,
			map[string]int64{"invalid": 1},
		},
		{
			"down", &mesh.ExtAuthz{}, down(), request(""),
			outcome{Status: 403, Flag: wire.FlagDenied},
			false,
			map[string]int64{"error": 1},
		},
		{
			"down, other status", &mesh.ExtAuthz{StatusOnError: 503}, down(), request(""),
			outcome{Status: 503, Flag: wire.FlagDenied},
			false,
			map[string]int64{"error": 1},
		},
		{
			"down, open", &mesh.ExtAuthz{FailOpen: true}, down(), request(""),
			outcome{Status: 200, Header: "there=before"},
			true,
			map[string]int64{"error": 1, "failure_mode_allowed": 1},
		},
		{
			"disabled", &mesh.ExtAuthz{Enabled: &mesh.Fraction{Denominator: 100}}, down(), request(""),
			outcome{Status: 200, Header: "there=before"},
			true,
			map[string]int64{"disabled": 1},
		},
		{
			"disabled, denied", &mesh.ExtAuthz{Enabled: &mesh.Fraction{Denominator: 100}, DenyDisabled: true}, down(), request(""),
			outcome{Status: 403, Flag: wire.FlagDenied},
			false,
			map[string]int64{"disabled": 1},
		},
		{
			"too large", &mesh.ExtAuthz{Body: &mesh.AuthzBody{Max: 4}}, down(), request("hello"),
			outcome{Status: 413, Body: "Payload Too Large\n", Header: "content-type=text/plain"},
			false,
			map[string]int64{},
		},
		{
			"as large as may be", &mesh.ExtAuthz{Body: &mesh.AuthzBody{Max: 5}}, r.grpc(&authv3.CheckResponse{}), request("hello"),
			outcome{Status: 200, Header: "there=before"},
			true,
			map[string]int64{"ok": 1},
		},
		{
			"no gRPC there", &mesh.ExtAuthz{}, r.plain(200, ""), request(""),
			outcome{Status: 403, Flag: wire.FlagDenied},
			false,
			map[string]int64{"error": 1},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r.passed, r.registry = nil, stats.Registry{}
			got, x := r.serve(t, tt.config, tt.service, tt.req)
			if tt.passes && x.Err != nil {
				t.Errorf("passed on, as if it had failed: %v", x.Err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" || (r.passed != nil) != tt.passes {
				t.Errorf("passed on: %t; -want +got:\n%s", r.passed != nil, diff)
			}
			counts := map[string]int64{}
			for s := range r.registry.All() {
				if s.Value != 0 {
					counts[strings.TrimPrefix(s.Name, "ext_authz.")] = s.Value
				}
			}
			if diff := cmp.Diff(tt.counts, counts); diff != "" {
				t.Errorf("counted: -want +got:\n%s", diff)
			}
		})
	}
}

func TestHTTPService(t *testing.T) {
	t.Parallel()
	one := func(name string) []mesh.StringMatch { return []mesh.StringMatch{{Exact: name}} }
	config := func() *mesh.ExtAuthz {
		return &mesh.ExtAuthz{
			Allowed: one("x-in"), Body: &mesh.AuthzBody{Max: 100, Raw: true},
			Service: mesh.AuthzService{HTTP: &mesh.AuthzHTTP{
				PathPrefix: "/authz", Add: []mesh.HeaderValue{{Name: "x-add", Value: "1"}}, Upstream: one("x-up"),
				UpstreamAppend: one("x-more"), Client: one("x-no"), ClientOK: one("x-yes"), Metadata: one("x-meta"),
			}},
		}
	}
	fields := []wire.Field{
		{Name: "x-up", Value: "u"},
		{Name: "x-more", Value: "2"},
		{Name: "x-no", Value: "n"},
		{Name: "x-yes", Value: "y"},
		{Name: "x-meta", Value: "m"},
		{Name: "x-other", Value: "o"},
		{Name: "location", Value: "/login"},
		{Name: "x-envoy-auth-headers-to-remove", Value: "x-gone, , other"},
	}
	in := []wire.Field{
		{Name: "x-in", Value: "i"}, {Name: "x-out", Value: "o"}, {Name: "authorization", Value: "a"}, {Name: "x-more", Value: "1"}, {Name: "x-gone", Value: "g"},
	}
	r := &rig{}
	got, x := r.serve(t, config(), r.plain(200, "ignored", fields...), request("hello", in...))
	if diff := cmp.Diff(outcome{Status: 200, Header: "there=before x-yes=y"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if r.http.Method != "POST" || r.http.Path != "/authz/a?x=1&y=2" || r.http.Authority != "api.test" || r.httpBody != "hello" {
		t.Errorf("asked %+v with body %q", r.http, r.httpBody)
	}
	if h := text(&r.http.Header); h != "x-in=i authorization=a x-envoy-auth-partial-body=false x-add=1" {
		t.Errorf("asked with %s", h)
	}
	if h := text(&r.passed.Header); h != "x-in=i x-out=o authorization=a x-more=1 x-up=u x-more=2" || r.body != "hello" {
		t.Errorf("passed on: %s with body %q", h, r.body)
	}
	if m, _ := x.Metadata.Lookup("envoy.filters.http.ext_authz", []string{"x-meta"}); m != "m" {
		t.Errorf("metadata %v", m)
	}
	got, _ = r.serve(t, config(), r.plain(302, "over there", fields...), request(""))
	if diff := cmp.Diff(outcome{302, "over there", "x-no=n location=/login content-type=text/plain", wire.FlagDenied}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	open := config()
	open.Service.HTTP.Client = nil
	got, _ = r.serve(t, open, r.plain(403, "", fields...), request(""))
	if got.Status != 403 || !strings.Contains(got.Header, "x-other=o") {
		t.Errorf("all fields go to the client if none are chosen: %+v", got)
	}
	if got, _ = r.serve(t, config(), r.plain(500, ""), request("")); got.Status != http.StatusForbidden {
		t.Errorf("a service that is broken: %+v", got)
	}
}

func TestGate(t *testing.T) {
	t.Parallel()
	r := &rig{}
	for _, tt := range []struct {
		name    string
		service wire.Service
		open    bool
		ok      bool
		counts  string
	}{
		{"allowed", r.grpc(&authv3.CheckResponse{}), false, true, "ok total"},
		{"denied", r.grpc(&authv3.CheckResponse{Status: &rpcstatus.Status{Code: 7}}), true, false, "cx_closed denied total"},
		{"down", down(), false, false, "cx_closed error total"},
		{"down, open", down(), true, true, "error failure_mode_allowed total"},
		{"over", down(), true, false, "total"}, // which is no failure of the service
	} {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		if tt.name == "over" {
			cancel()
		}
		r.registry = stats.Registry{}
		gate, err := extauthz.NewGate(&mesh.ExtAuthz{FailOpen: tt.open, Service: mesh.AuthzService{Cluster: "c", Timeout: time.Minute}}, extauthz.Place{
			Find: func(string) wire.Service { return tt.service }, Stats: r.registry.Scope(""),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := gate.Admit(ctx, &wire.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:1")}); (err == nil) != tt.ok {
			t.Errorf("%s: %v", tt.name, err)
		}
		counts := map[string]bool{}
		for s := range r.registry.All() {
			if s.Value != 0 {
				counts[s.Name] = true
			}
		}
		if got := strings.Join(slices.Sorted(maps.Keys(counts)), " "); got != tt.counts {
			t.Errorf("%s: counted %s, want %s", tt.name, got, tt.counts)
		}
	}
}

// FuzzAnswer: whatever a service answers, what is passed on is a valid request.
func FuzzAnswer(f *testing.F) {
	for _, seed := range []*authv3.CheckResponse{
		{},
		{Status: &rpcstatus.Status{Code: 7}, HttpResponse: &authv3.CheckResponse_DeniedResponse{DeniedResponse: &authv3.DeniedHttpResponse{
			Status: &typev3.HttpStatus{Code: 401}, Body: "b", Headers: []*corev3.HeaderValueOption{option("a", "b", false)},
		}}},
		{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
			Headers: []*corev3.HeaderValueOption{option(":path", "/x", false), option("a", "b\n", true), option("host", "a b", false)}, HeadersToRemove: []string{"x"},
			QueryParametersToSet: []*corev3.QueryParameter{{Key: "k\x00", Value: "&="}}, QueryParametersToRemove: []string{"x"},
		}}},
	} {
		data, err := proto.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		answer := &authv3.CheckResponse{}
		if proto.Unmarshal(data, answer) != nil {
			return
		}
		r := &rig{}
		got, _ := r.serve(t, &mesh.ExtAuthz{}, r.grpc(answer), request("", wire.Field{Name: "x", Value: "1"}))
		if got.Status < 200 || got.Status > 599 {
			t.Errorf("status %d", got.Status)
		}
		if r.passed == nil {
			return
		}
		check := *r.passed
		for _, f := range []wire.Field{{Name: ":path", Value: check.Path}, {Name: ":authority", Value: check.Authority}, {Name: ":method", Value: check.Method}} {
			if err := check.Put(f.Name, f.Value); err != nil {
				t.Error(err)
			}
		}
		for name, value := range check.Header.All() {
			if err := wire.CheckField(name, value); err != nil {
				t.Error(err)
			}
		}
	})
}
