package auth_test

import (
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/auth"
)

// keys knows two.
type keys map[string]string

func (k keys) Caller(key string) (string, bool) { name, ok := k[key]; return name, ok }

func serve(layer wire.Layer, req *wire.Request) (*wire.Exchange, error) {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	service := wire.Stack(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return wire.Text(200, "ok"), nil
	}), layer)
	_, err := service.Serve(x, req)
	return x, err
}

func TestAPIKey(t *testing.T) {
	known := keys{"k-1": "acme", "k 2": "beta"}
	inQuery := auth.Config{Kind: "api_key", Query: "api_key"}
	for _, row := range []struct {
		name          string
		config        auth.Config
		path          string
		fields        []wire.Field
		consumer, err string
		left          string // the path, and the keys in the header, that go upstream
	}{
		{"header", auth.Config{Kind: "api_key"}, "/", []wire.Field{{Name: "x-api-key", Value: "k-1"}}, "acme", "", "/"},
		{"own header", auth.Config{Header: "X-Key"}, "/", []wire.Field{{Name: "x-key", Value: "k-1"}}, "acme", "", "/"},
		{
			"other header",
			auth.Config{Header: "X-Key"},
			"/",
			[]wire.Field{{Name: "x-api-key", Value: "k-1"}},
			"",
			"an API key is needed: send it in the header x-key", "/k-1",
		},
		{"forwarded", auth.Config{ForwardKey: true}, "/", []wire.Field{{Name: "x-api-key", Value: "k-1"}}, "acme", "", "/k-1"},
		{"none", inQuery, "/a?b=c", nil, "", "an API key is needed: send it in the header x-api-key", "/a?b=c"},
		{"empty", inQuery, "/?api_key=", nil, "", "an API key is needed: send it in the header x-api-key", "/"},
		{"wrong", inQuery, "/", []wire.Field{{Name: "x-api-key", Value: "K-1"}}, "", "this API key is not known", "/"},
		{"query", inQuery, "/a?x=1&api_key=k-1&y=%2f", nil, "acme", "", "/a?x=1&y=%2f"},
		{"only query", inQuery, "/a?api_key=k-1", nil, "acme", "", "/a"},
		{"encoded query", inQuery, "/a?%61pi_key=k+2", nil, "beta", "", "/a"},
		{"broken query", inQuery, "/a?api_key=%zz", nil, "", "this API key is not known", "/a"},
		{
			"query not wanted",
			auth.Config{},
			"/a?x-api-key=k-1", nil, "",
			"an API key is needed: send it in the header x-api-key", "/a?x-api-key=k-1",
		},
		{"twice", inQuery, "/?api_key=k-1", []wire.Field{{Name: "x-api-key", Value: "k-1"}}, "", "send one API key, not several", "/"},
		{
			"two fields", inQuery, "/",
			[]wire.Field{{Name: "x-api-key", Value: "k-1"}, {Name: "x-api-key", Value: "k-1"}},
			"",
			"send one API key, not several", "/",
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			req := &wire.Request{Method: "GET", Path: row.path}
			for _, f := range row.fields {
				req.Header.Add(f.Name, f.Value)
			}
			x, err := serve(auth.New(row.config, "orders", known), req)
			if x.Consumer != row.consumer {
				t.Errorf("consumer %q, want %q", x.Consumer, row.consumer)
			}
			if left := req.Path + req.Header.Joined("x-api-key"); left != row.left {
				t.Errorf("upstream gets %q, want %q", left, row.left)
			}
			if row.err == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			fault := wire.AsFault(err)
			if fault.Status != 401 || fault.Text != row.err || fault.Flag != wire.FlagUnauthenticated {
				t.Errorf("%d %s %q, want 401 %q", fault.Status, fault.Flag, fault.Text, row.err)
			}
			if len(fault.Header) != 1 || fault.Header[0] != (wire.Field{Name: "www-authenticate", Value: `Key realm="orders"`}) {
				t.Errorf("challenge %v", fault.Header)
			}
		})
	}
}

func TestAPIKeyRealmIsQuoted(t *testing.T) {
	_, err := serve(auth.New(auth.Config{}, "a\"b\\c\nd", keys{}), &wire.Request{Path: "/"})
	if got := wire.AsFault(err).Header[0].Value; got != `Key realm="a_b_c_d"` {
		t.Error(got)
	}
}

func TestAllow(t *testing.T) {
	if auth.Allow(nil) != nil {
		t.Error("no names let nobody through")
	}
	for consumer, allowed := range map[string]bool{"acme": true, "beta": false, "": false} {
		set := func(next wire.Service) wire.Service {
			return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
				x.Consumer = consumer
				return next.Serve(x, req)
			})
		}
		_, err := serve(func(next wire.Service) wire.Service {
			return wire.Stack(next, set, auth.Allow([]string{"acme"}))
		}, &wire.Request{Path: "/"})
		if (err == nil) != allowed {
			t.Errorf("%q: %v", consumer, err)
		}
		if err != nil && wire.AsFault(err).Status != 403 {
			t.Errorf("%q: %d", consumer, wire.AsFault(err).Status)
		}
	}
}

func TestValidate(t *testing.T) {
	for _, row := range []struct {
		config auth.Config
		want   string
	}{
		{auth.Config{Kind: "api_key", Header: "x-key", Query: "key"}, ""},
		{auth.Config{Kind: "jwt", Pos: "a.hcl:1"}, `a.hcl:1: authenticate "jwt" is not known; there is authenticate "api_key" and authenticate "plugin"`},
		{auth.Config{Kind: "api_key", Plugin: "x"}, `authenticate "api_key": plugin, settings and fail_mode go with authenticate "plugin"`},
		{auth.Config{Kind: "plugin", Plugin: "x", FailMode: "open", Settings: map[string]any{"a": 1.0}}, ""},
		{
			auth.Config{Kind: "plugin", Header: "x", FailMode: "ajar"},
			`authenticate "plugin": plugin is missing; name one, such as plugin = "hmac-auth"
authenticate "plugin": header, query and forward_key go with authenticate "api_key"
authenticate "plugin": fail_mode is "ajar"; it can be "closed" or "open"`,
		},
		{auth.Config{Kind: "api_key", Header: "a b"}, `authenticate "api_key": header is "a b", which is no header name; write for example "x-api-key"`},
	} {
		got := ""
		if err := row.config.Validate(); err != nil {
			got = err.Error()
		}
		if got != row.want {
			t.Errorf("%q, want %q", got, row.want)
		}
	}
}
