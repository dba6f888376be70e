package stack_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Copies of requests leave once their body is known, and a body that is too long to be kept is not copied.
func TestMirror(t *testing.T) {
	t.Parallel()
	heard := make(chan string, 10)
	app := backend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	copies := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		heard <- fmt.Sprint(r.Method, " ", r.Host, r.URL.Path, " ", len(body), " ", r.Header.Get("X-Own"))
	})
	service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) {
		r.PrefixRewrite, r.HasPrefixRewrite = "/new/", true
		r.Mirrors = []mesh.Mirror{{Cluster: "copies", Share: 1_000_000}, {Cluster: "nowhere", Share: 1_000_000}, {Cluster: "copies"}}
	})}, clusters(t, map[string]string{"c": app, "copies": copies}))
	for _, size := range []int{0, 5, 2 << 20, 1 << 20} {
		req := request("POST", "/x", "x-own", "1")
		if req.Authority = "h:1"; size > 0 {
			req.Body, req.ContentLength = wire.NewBytes(make([]byte, size)), int64(size)
		}
		if got := do(t, service, &wire.Peer{}, req); got.Status != 200 {
			t.Fatalf("%+v", got)
		}
		if size > 1<<20 {
			continue // not to be heard of; what is heard next is of the next
		}
		select {
		case got := <-heard:
			if want := fmt.Sprint("POST h-shadow:1/new/x ", size, " 1"); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no copy of %d bytes", size)
		}
	}
}

// The bound of a rule takes the place of its timeout and of the chain's bound.
func TestStreamDuration(t *testing.T) {
	t.Parallel()
	hangs := backend(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	for name, row := range map[string]struct {
		stream  *mesh.StreamDuration
		fields  []string
		details string
	}{
		"the chain's":       {nil, nil, "max_duration_timeout"},
		"the rule's":        {&mesh.StreamDuration{Most: time.Millisecond, HasMost: true}, nil, "max_duration_timeout"},
		"as a client wants": {&mesh.StreamDuration{HasMost: true, GRPC: &mesh.GRPCTimeout{}}, []string{"grpc-timeout", "1m"}, "max_duration_timeout"},
		"less an offset":    {&mesh.StreamDuration{HasMost: true, GRPC: &mesh.GRPCTimeout{Offset: time.Hour}}, []string{"grpc-timeout", "1H"}, "max_duration_timeout"},
		"at most":           {&mesh.StreamDuration{HasMost: true, GRPC: &mesh.GRPCTimeout{Most: time.Millisecond}}, []string{"grpc-timeout", "9H"}, "max_duration_timeout"},
	} {
		h := &mesh.HTTP{MaxStreamDuration: 2 * time.Millisecond, Route: toward(func(r *mesh.Rule) { r.Stream, r.Timeout = row.stream, time.Hour })}
		if row.stream != nil {
			h.MaxStreamDuration = time.Hour
		}
		x := exchange(&wire.Peer{})
		got := finish(t, compile(t, h, clusters(t, map[string]string{"c": hangs})), x, request("GET", "/", row.fields...))
		if got.Status != http.StatusGatewayTimeout || x.Details != row.details {
			t.Errorf("%s: %d, %s", name, got.Status, x.Details)
		}
		x.Done(time.Now())
	}
}

// The rows are what Envoy 1.36 made of them (integration: TestManagerFieldsAsEnvoy).
func TestDetection(t *testing.T) {
	t.Parallel()
	private := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.0.0.0/8")}
	for _, row := range []struct {
		detection []mesh.Detection
		fields    []string
		remote    string
		forwarded string
	}{
		{[]mesh.Detection{{}}, []string{"x-forwarded-for: 1.1.1.1, 2.2.2.2"}, "2.2.2.2:0", "1.1.1.1, 2.2.2.2"},
		{[]mesh.Detection{{Hops: 1, Append: true}}, []string{"x-forwarded-for: 1.1.1.1, 2.2.2.2"}, "1.1.1.1:0", "1.1.1.1, 2.2.2.2,192.0.2.2"},
		{[]mesh.Detection{{Trusted: private}}, []string{"x-forwarded-for: 1.1.1.1, 2.2.2.2, 10.1.1.1"}, "2.2.2.2:0", "1.1.1.1, 2.2.2.2, 10.1.1.1"},
		{[]mesh.Detection{{Trusted: private}}, []string{"x-forwarded-for: 10.2.2.2,10.1.1.1"}, "10.2.2.2:0", "10.2.2.2,10.1.1.1"},
		{[]mesh.Detection{{Trusted: private}}, []string{"x-forwarded-for: 1.1.1.1,junk,10.1.1.1"}, "invalid AddrPort", "1.1.1.1,junk,10.1.1.1"},
		{[]mesh.Detection{{Trusted: private[1:]}}, []string{"x-forwarded-for: 1.1.1.1"}, "invalid AddrPort", "1.1.1.1,192.0.2.2"},
		{[]mesh.Detection{{Header: "x-real"}, {}}, []string{"x-real: 9.9.9.9", "x-forwarded-for: 1.1.1.1"}, "9.9.9.9:0", "1.1.1.1"},
		{[]mesh.Detection{{Header: "x-real"}, {}}, []string{"x-real: junk", "x-forwarded-for: 1.1.1.1"}, "1.1.1.1:0", "1.1.1.1"},
	} {
		x, up, _ := conducted(t, mesh.Conduct{Detect: row.detection, NoRequestID: true}, false, row.fields...)
		forwarded := ""
		for _, field := range up {
			if value, ok := strings.CutPrefix(field, "x-forwarded-for: "); ok {
				forwarded = value
			}
		}
		if got := x.Remote.String(); got != row.remote || forwarded != row.forwarded {
			t.Errorf("%+v, %q: %s, %q", row.detection, row.fields, got, forwarded)
		}
	}
	if x, up, _ := conducted(t, mesh.Conduct{Detect: []mesh.Detection{{Header: "x-real", Reject: 403}}}, false); up != nil || x.Flag != wire.FlagDenied {
		t.Errorf("%v %v", x.Flag, up)
	}
}

// A share that is chosen by a hash sticks to what is hashed, and one by a number to the number.
func TestSharesThatStick(t *testing.T) {
	t.Parallel()
	app := backend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Header.Get("X-Which")) })
	to := func(name string, weight uint32) mesh.Target {
		return mesh.Target{Cluster: "c", Weight: weight, Edit: mesh.HeaderEdit{RequestSet: []mesh.HeaderValue{{Name: "x-which", Value: name}}}}
	}
	number := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) {
		r.Targets, r.WeightHeader = []mesh.Target{to("a", 1), to("b", 2)}, "x-number"
	})}, clusters(t, map[string]string{"c": app}))
	for value, want := range map[string]string{"0": "a", "1": "b", " 2 ": "b", "3": "a", "18446744073709551615": "a"} {
		if got := do(t, number, &wire.Peer{}, request("GET", "/", "x-number", value)); got.Body != want {
			t.Errorf("%s: got %q, want %q", value, got.Body, want)
		}
	}
	hashed := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) {
		r.Targets, r.WeightHash, r.Hash = []mesh.Target{to("a", 1), to("b", 1)}, true, []mesh.HashPolicy{{Header: "x-user"}}
	})}, clusters(t, map[string]string{"c": app}))
	found := map[string]int{}
	for user := range 32 {
		first := do(t, hashed, &wire.Peer{}, request("GET", "/", "x-user", fmt.Sprint(user))).Body
		found[first]++
		for range 3 {
			if got := do(t, hashed, &wire.Peer{}, request("GET", "/", "x-user", fmt.Sprint(user))).Body; got != first {
				t.Fatalf("user %d: %q after %q", user, got, first)
			}
		}
	}
	if found["a"] < 5 || found["b"] < 5 {
		t.Errorf("%v", found)
	}
}
