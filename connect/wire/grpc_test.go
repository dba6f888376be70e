package wire_test

import (
	"errors"
	"testing"

	"github.com/serai-net/serai/connect/wire"
)

// TestGRPCReply answers gRPC in its own terms: 200, and the status in the head.
func TestGRPCReply(t *testing.T) {
	for _, test := range []struct {
		err             error
		status, message string
	}{
		{&wire.Fault{Status: 400, Text: "bad"}, "13", "bad"},
		{&wire.Fault{Status: 401}, "16", "Unauthorized"},
		{&wire.Fault{Status: 403, Text: "RBAC: access denied"}, "7", "RBAC: access denied"},
		{&wire.Fault{Status: 404}, "12", "Not Found"},
		{&wire.Fault{Status: 429}, "14", "Too Many Requests"},
		{&wire.Fault{Status: 502}, "14", "Bad Gateway"},
		{&wire.Fault{Status: 503, Text: "100% näh\n"}, "14", "100%25 n%C3%A4h%0A"},
		{&wire.Fault{Status: 504}, "14", "Gateway Timeout"},
		{&wire.Fault{Status: 418}, "2", "I'm a teapot"},
		{errors.New("secret"), "2", "Internal Server Error"},
	} {
		x := &wire.Exchange{GRPC: true}
		resp := wire.Reply(x, test.err)
		h := &resp.Header
		if resp.Status != 200 || resp.Body != nil || h.Get("content-type") != "application/grpc" ||
			h.Get("grpc-status") != test.status || h.Get("grpc-message") != test.message {
			t.Errorf("%v: %d %v", test.err, resp.Status, h)
		}
		if !errors.Is(x.Err, test.err) {
			t.Errorf("%v is not noted", test.err)
		}
	}
}

func TestIsGRPC(t *testing.T) {
	for kind, want := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "application/grpc;x=y": false,
		"application/grpc-web": false, "application/json": false, "": false,
	} {
		var h wire.Header
		h.Add("content-type", kind)
		if got := wire.IsGRPC(&h); got != want {
			t.Errorf("%q: %t", kind, got)
		}
	}
}

// warned counts how often it was told that a drain begins.
type warned struct{ times int }

func (w *warned) BeginDrain() { w.times++ }
func (w *warned) CloseIdle()  {}
func (w *warned) Kill()       {}

func TestDrainWarns(t *testing.T) {
	var d wire.Drain
	w := &warned{}
	d.Add(w)
	d.Begin()
	d.Begin()
	d.CloseIdle()
	if w.times != 1 {
		t.Errorf("told %d times", w.times)
	}
}
