package wire_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
)

func TestReply(t *testing.T) {
	t.Parallel()
	secret := errors.New("dial 10.0.0.1: the password is swordfish")
	type answer struct {
		Status int
		Flag   string
		Body   string
		Header []string
		Close  bool
	}
	text := "content-type: text/plain"
	tests := []struct {
		name string
		err  error
		want answer
	}{
		{"plain error", secret, answer{500, "IE", "Internal Server Error\n", []string{text}, false}},
		{"deadline", fmt.Errorf("dial: %w", context.DeadlineExceeded), answer{504, "UT", "upstream request timeout\n", []string{text}, false}},
		{"cancelled", context.Canceled, answer{500, "IE", "Internal Server Error\n", []string{text}, false}},
		{"empty fault", &wire.Fault{Err: secret}, answer{500, "-", "Internal Server Error\n", []string{text}, false}},
		{"status only", &wire.Fault{Status: 404, Flag: wire.FlagNoRoute}, answer{404, "NR", "Not Found\n", []string{text}, false}},
		{"unknown status", &wire.Fault{Status: 499}, answer{499, "-", "\n", []string{text}, false}},
		{
			"all", &wire.Fault{
				Status: http.StatusUnauthorized, Flag: wire.FlagUnauthenticated, Text: "no key", Err: secret, Close: true,
				Header: []wire.Field{{Name: "www-authenticate", Value: "a"}, {Name: "www-authenticate", Value: "b"}},
			},
			answer{401, "UNA", "no key\n", []string{"www-authenticate: a", "www-authenticate: b", text}, true},
		},
		{
			"own content type", &wire.Fault{Status: 403, Flag: wire.FlagPlugin, Text: "{}", Header: []wire.Field{{Name: "content-type", Value: "application/json"}}},
			answer{403, "PLG", "{}\n", []string{"content-type: application/json"}, false},
		},
		{"wrapped fault", fmt.Errorf("layer: %w", &wire.Fault{Status: 403, Flag: wire.FlagDenied}), answer{403, "UAEX", "Forbidden\n", []string{text}, false}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			x := exchange()
			resp := wire.Reply(x, tt.err)
			if !errors.Is(x.Err, tt.err) {
				t.Errorf("the exchange notes %v", x.Err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if int64(len(body)) != resp.ContentLength {
				t.Errorf("content length %d, body of %d bytes", resp.ContentLength, len(body))
			}
			got := answer{resp.Status, x.Flag.String(), string(body), lines(&resp.Header), x.CloseDownstream}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestFaultError(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	tests := []struct {
		fault *wire.Fault
		want  string
	}{
		{&wire.Fault{}, "Internal Server Error"},
		{&wire.Fault{Status: 404}, "Not Found"},
		{&wire.Fault{Text: "text"}, "text"},
		{&wire.Fault{Err: cause}, "cause"},
		{&wire.Fault{Text: "text", Err: cause}, "text: cause"},
	}
	for _, tt := range tests {
		if got := tt.fault.Error(); got != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		if errors.Is(tt.fault, cause) != (tt.fault.Err != nil) {
			t.Errorf("%q: the cause is lost", tt.want)
		}
	}
}

func TestAborted(t *testing.T) {
	t.Parallel()
	type parts struct {
		Status int
		Flag   wire.Flag
		Repeat wire.Repeat
	}
	original := &wire.Fault{Status: 502, Flag: wire.FlagUpstreamReset, Repeat: wire.RepeatAny}
	tests := []struct {
		reason error
		want   parts
	}{
		{wire.ErrClientGone, parts{499, wire.FlagDownstreamReset, wire.RepeatNever}},
		{fmt.Errorf("read: %w", wire.ErrClientGone), parts{499, wire.FlagDownstreamReset, wire.RepeatNever}},
		{original, parts{502, wire.FlagUpstreamReset, wire.RepeatNever}},
		{context.DeadlineExceeded, parts{504, wire.FlagUpstreamTimeout, wire.RepeatNever}},
		{errors.New("other"), parts{500, wire.FlagInternal, wire.RepeatNever}},
	}
	for _, tt := range tests {
		fault := wire.Aborted(tt.reason)
		if diff := cmp.Diff(tt.want, parts{fault.Status, fault.Flag, fault.Repeat}); diff != "" || !errors.Is(fault, tt.reason) && fault.Status != 502 {
			t.Errorf("%v: -want +got:\n%s", tt.reason, diff)
		}
	}
	if original.Repeat != wire.RepeatAny {
		t.Error("the reason itself was changed")
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for f := wire.FlagNone; f <= wire.FlagInternal; f++ {
		if name := f.String(); name == "" || seen[name] {
			t.Errorf("flag %d has the name %q", f, name)
		}
		seen[f.String()] = true
	}
	if got := wire.Flag(200).String(); got != "IE" {
		t.Errorf("an unknown flag is %q", got)
	}
}

func TestText(t *testing.T) {
	t.Parallel()
	resp := wire.Text(200, "abcdef")
	if !wire.BodyBuffered(resp.Body) || !wire.BodyBuffered(nil) {
		t.Error("a text is at hand")
	}
	if resp.Body.Trailer() != nil {
		t.Error("a text has trailers")
	}
	if got := readN(t, resp.Body, 4); got != "abcd" {
		t.Errorf("got %q", got)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if n, err := resp.Body.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("a closed body reads %d, %v", n, err)
	}
}

func TestStack(t *testing.T) {
	t.Parallel()
	var order []string
	layer := func(name string) wire.Layer {
		return func(next wire.Service) wire.Service {
			return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
				order = append(order, name)
				return next.Serve(x, req)
			})
		}
	}
	end := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		order = append(order, "end")
		return wire.Text(200, ""), nil
	})
	if _, err := wire.Stack(end, layer("a"), nil, layer("b")).Serve(exchange(), &wire.Request{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a", "b", "end"}, order); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
