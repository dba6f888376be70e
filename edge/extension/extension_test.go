package extension_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/extension"
	"github.com/serai-net/serai/plugins"
)

const later = "this request cannot be handled now, try later"

func isAcme(name string) bool { return name == "acme" }

func TestAuthenticate(t *testing.T) {
	for _, row := range []struct {
		name     string
		identity *plugins.Identity
		err      error
		open     bool
		consumer string
		status   int // 0: let through
		flag     wire.Flag
		text     string
		header   string // that goes upstream
	}{
		{
			"known", &plugins.Identity{Consumer: "acme", Remove: []string{"signature"}, Set: []plugins.Field{{Name: "x-a", Value: "2"}}}, nil, false,
			"acme", 0, 0, "", "x-a: 2",
		},
		{"unknown", &plugins.Identity{Consumer: "root"}, nil, false, "", 403, wire.FlagDenied, "this consumer is not known here", ""},
		{"unknown, open", &plugins.Identity{Consumer: "root"}, nil, true, "", 403, wire.FlagDenied, "this consumer is not known here", ""},
		{"refused", nil, &plugins.Refusal{Status: 401, Text: "no"}, false, "", 401, wire.FlagUnauthenticated, "no", ""},
		{"refused, open", nil, &plugins.Refusal{Status: 429, Text: "slow"}, true, "", 429, wire.FlagDenied, "slow", ""},
		{"failed", nil, errDown, false, "", 503, wire.FlagPlugin, later, ""},
		{"failed, open", nil, errDown, true, "", 0, 0, "", "x-a: 1, signature: s"},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, up, x := newWorld(row.open, 0), &upstream{}, exchange()
			p := &local{identity: func(*plugins.Request) (*plugins.Identity, error) { return row.identity, row.err }}
			req := request(nil, 0, "x-a", "1", "signature", "s")
			_, err := wire.Stack(up, extension.Authenticate(&w.use, p, isAcme)).Serve(x, req)
			if x.Consumer != row.consumer || up.asked != (row.status == 0) {
				t.Errorf("consumer %q, asked %t", x.Consumer, up.asked)
			}
			if row.status != 0 {
				wantFault(t, err, row.status, row.flag, row.text)
				return
			}
			if got := lines(&req.Header); err != nil || got != row.header {
				t.Errorf("%v, upstream gets %s", err, got)
			}
		})
	}
}

// A plugin sees all that the edge knows.
func TestView(t *testing.T) {
	w, x := newWorld(false, 100), exchange()
	x.Consumer = "acme"
	var seen plugins.Request
	p := &local{request: func(r *plugins.Request) (*plugins.RequestChange, error) {
		seen = *r
		return nil, nil //nolint:nilnil // no change
	}}
	if _, err := wire.Stack(&upstream{}, extension.Transform(&w.use, p)).Serve(x, request(wire.NewBytes([]byte("hello")), wire.UnknownLength, "b", "1", "a", "2", "b", "3")); err != nil {
		t.Fatal(err)
	}
	want := plugins.Request{
		ID: "id", Method: "POST", Scheme: "https", Authority: "a.example", Path: "/x?y", Client: "192.0.2.7", Consumer: "acme", API: "shop", Route: "cart",
		Header: []plugins.Field{{Name: "b", Value: "1"}, {Name: "a", Value: "2"}, {Name: "b", Value: "3"}, {Name: "content-length", Value: "5"}},
		Body:   []byte("hello"),
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	w.use.MaxBody = 0
	for length, want := range map[int64]string{5: "content-length 5", wire.UnknownLength: "transfer-encoding chunked"} {
		if _, err := wire.Stack(&upstream{}, extension.Transform(&w.use, p)).Serve(x, request(wire.NewBytes([]byte("hello")), length)); err != nil {
			t.Fatal(err)
		}
		if len(seen.Body) > 0 || len(seen.Header) != 1 || seen.Header[0].Name+" "+seen.Header[0].Value != want {
			t.Errorf("without bodies: %q, %v, want %s", seen.Body, seen.Header, want)
		}
	}
}

func TestTransform(t *testing.T) {
	header := plugins.HeaderChange{
		Remove: []string{"a"}, Set: []plugins.Field{{Name: "b", Value: "7"}}, Add: []plugins.Field{{Name: "c", Value: "8"}, {Name: "c", Value: "9"}},
	}
	w, up, x := newWorld(false, 0), &upstream{}, exchange()
	up.answer = wire.Text(201, "made")
	up.answer.Header.Add("a", "1")
	p := &local{
		request: func(*plugins.Request) (*plugins.RequestChange, error) {
			return &plugins.RequestChange{HeaderChange: header, Path: "/a/%7e/../b?c=%7e"}, nil
		},
		response: func(r *plugins.Request, resp *plugins.Response) (*plugins.ResponseChange, error) {
			if r.Path != "/x?y" || resp.Status != 201 || resp.Get("a") != "1" {
				t.Errorf("%+v of %+v", resp, r)
			}
			return &plugins.ResponseChange{HeaderChange: header, Status: 202}, nil
		},
	}
	req := request(nil, 0, "a", "1", "b", "2", "a", "3", "b", "4")
	resp, err := wire.Stack(up, extension.Transform(&w.use, p)).Serve(x, req)
	if err != nil {
		t.Fatal(err)
	}
	if up.path != "/a/b?c=%7e" {
		t.Errorf("the path is not in normal form: %s", up.path)
	}
	if got := lines(&req.Header); got != "b: 7, c: 8, c: 9" {
		t.Error(got)
	}
	if got := lines(&resp.Header); resp.Status != 202 || got != "content-type: text/plain, b: 7, c: 8, c: 9" {
		t.Errorf("%d %s", resp.Status, got)
	}
}

// Failures of both halves, and what each fail mode makes of them.
func TestTransformFails(t *testing.T) {
	badPath := func(*plugins.Request) (*plugins.RequestChange, error) {
		return &plugins.RequestChange{Path: "/a/%2f"}, nil
	}
	down := func(*plugins.Request) (*plugins.RequestChange, error) { return nil, errDown }
	downAfter := func(*plugins.Request, *plugins.Response) (*plugins.ResponseChange, error) { return nil, errDown }
	anotherStatus := func(*plugins.Request, *plugins.Response) (*plugins.ResponseChange, error) {
		return &plugins.ResponseChange{Status: 200}, nil
	}
	for _, row := range []struct {
		name   string
		plugin *local
		answer *wire.Response
		asked  bool // though it is closed
		log    string
	}{
		{"request", &local{request: down}, nil, false, "plugin is down"},
		{"path", &local{request: badPath}, nil, false, "plugin broke the protocol: the path"},
		{"response", &local{response: downAfter}, nil, true, "plugin is down"},
		{"status of a switch", &local{response: anotherStatus}, &wire.Response{Status: 101, Upgrade: "websocket"}, true, "in the place of a switch of protocols"},
	} {
		t.Run(row.name, func(t *testing.T) {
			for _, open := range []bool{false, true} {
				w, up, x := newWorld(open, 0), &upstream{}, exchange()
				body := &closing{Body: wire.NewBytes([]byte("secret"))}
				up.answer = &wire.Response{Status: 200, ContentLength: 6, Body: body}
				if row.answer != nil {
					again := *row.answer
					up.answer = &again
					up.answer.Body = body
				}
				resp, err := wire.Stack(up, extension.Transform(&w.use, row.plugin)).Serve(x, request(nil, 0))
				closed, opened := w.use.Counters.FailedClosed.Load(), w.use.Counters.FailedOpen.Load()
				if open {
					if err != nil || resp != up.answer || !up.asked || closed != 0 || opened != 1 {
						t.Errorf("open: %v, %v, counted %d and %d", resp, err, closed, opened)
					}
				} else {
					wantFault(t, err, 503, wire.FlagPlugin, later)
					if up.asked != row.asked || body.closed != row.asked || closed != 1 || opened != 0 {
						t.Errorf("closed: asked %t, body closed %t, counted %d and %d", up.asked, body.closed, closed, opened)
					}
				}
				if !strings.Contains(w.log.String(), row.log) {
					t.Errorf("log: %s", w.log.String())
				}
			}
		})
	}
}

// closing knows whether it was closed.
type closing struct {
	wire.Body
	closed bool
}

func (c *closing) Close() error { c.closed = true; return c.Body.Close() }

// A response without a body that becomes one with a body has none to send.
func TestStatusOfEmptyResponse(t *testing.T) {
	w := newWorld(false, 0)
	p := &local{response: func(*plugins.Request, *plugins.Response) (*plugins.ResponseChange, error) {
		return &plugins.ResponseChange{Status: 200}, nil
	}}
	up := &upstream{answer: &wire.Response{Status: 304, ContentLength: 100}}
	resp, err := wire.Stack(up, extension.Transform(&w.use, p)).Serve(exchange(), request(nil, 0))
	if err != nil || resp.Status != 200 || resp.ContentLength != 0 {
		t.Errorf("%+v, %v", resp, err)
	}
}

// Many failures make few lines; the next one tells how many there were.
func TestFailuresAreToldOnce(t *testing.T) {
	w := newWorld(true, 0)
	p := &local{request: func(*plugins.Request) (*plugins.RequestChange, error) { return nil, errDown }}
	for range 100 {
		if _, err := wire.Stack(&upstream{}, extension.Transform(&w.use, p)).Serve(exchange(), request(nil, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(w.log.String(), "\n"); n != 1 || w.use.Counters.FailedOpen.Load() != 100 {
		t.Errorf("%d lines for %d failures:\n%s", n, w.use.Counters.FailedOpen.Load(), w.log.String())
	}
}

// A client that has gone is no failure of the plugin, and open does not let its
// request through.
func TestClientGone(t *testing.T) {
	w, up, x := newWorld(true, 0), &upstream{}, exchange()
	p := &local{request: func(*plugins.Request) (*plugins.RequestChange, error) {
		x.Abort(wire.ErrClientGone)
		return nil, x.Context().Err()
	}}
	_, err := wire.Stack(up, extension.Transform(&w.use, p)).Serve(x, request(nil, 0))
	wantFault(t, err, 499, wire.FlagDownstreamReset, "")
	if up.asked || w.use.Counters.FailedOpen.Load() != 0 || w.log.Len() != 0 {
		t.Errorf("asked %t, log %s", up.asked, w.log.String())
	}
}

// A plugin chooses what its refusals are made of.
func TestRefusalHeader(t *testing.T) {
	w := newWorld(false, 0)
	p := &local{identity: func(*plugins.Request) (*plugins.Identity, error) {
		return nil, &plugins.Refusal{Status: 403, Text: `{"error":1}`, Header: []plugins.Field{{Name: "content-type", Value: "application/json"}, {Name: "x-a", Value: "1"}}}
	}}
	x := exchange()
	_, err := wire.Stack(&upstream{}, extension.Authenticate(&w.use, p, isAcme)).Serve(x, request(nil, 0))
	resp := wire.Reply(x, err)
	if got := lines(&resp.Header); resp.Status != 403 || got != "content-type: application/json, x-a: 1" {
		t.Errorf("%d %s", resp.Status, got)
	}
}

func TestConfig(t *testing.T) {
	for mode, want := range map[string]string{
		"": "", "closed": "", "open": "", "ajar": `a.hcl:3: plugin "p": fail_mode is "ajar"; it can be "closed" or "open"`,
	} {
		c := extension.Config{Name: "p", FailMode: mode, Pos: "a.hcl:3"}
		got := ""
		if err := c.Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s", mode, got)
		}
	}
}
