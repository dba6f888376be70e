package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/proxy"
	"github.com/serai-net/serai/connect/xds"
)

const hostile = "a\x1b[2J\u009b1m\u202eb\r\nc\x7f"

// What others have said reaches the terminal as text.
func TestAnswersArePrintable(t *testing.T) {
	t.Parallel()
	encode := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(text) + "\n"
	}
	var out strings.Builder
	tapped := telemetry.Tapped{
		Time: time.Now(), Peer: hostile, Method: hostile, Authority: hostile, Path: hostile, Error: hostile, Cluster: hostile, Endpoint: hostile, Flag: hostile,
	}
	if err := printTap(&out, strings.NewReader(encode(tapped)), false, 1); err != nil {
		t.Error(err)
	}
	e := &proxy.Explanation{Listener: hostile, From: hostile, Refusal: hostile, Chains: []proxy.ChainVerdict{{Match: hostile, Why: hostile, Chosen: true}}}
	if err := read(strings.NewReader(encode(e)), e); err != nil {
		t.Error(err)
	}
	(&explainer{out: &out}).all(e)
	change := &xds.Change{Resources: []xds.ChangedResource{{Kind: "route", Name: hostile, Fields: []string{hostile}}}}
	if err := read(strings.NewReader(encode(change)), change); err != nil {
		t.Error(err)
	}
	printChange(&out, change)
	if strings.ContainsAny(out.String(), "\x1b\r\x7f\u009b\u202e") {
		t.Errorf("%q", out.String())
	}
	if !strings.Contains(out.String(), "a\ufffd[2J") {
		t.Errorf("nothing of it is left: %q", out.String())
	}
}

// A tap that ends by itself tells so.
func TestTapThatEnds(t *testing.T) {
	t.Parallel()
	if err := printTap(&strings.Builder{}, strings.NewReader(""), false, 1); err == nil {
		t.Error("it ended as if all were there")
	}
}

func TestAdminAddress(t *testing.T) {
	t.Parallel()
	for environment, want := range map[string]string{
		"": consulAdmin,
		"NOMAD_ENVOY_ADMIN_ADDR_web=127.0.0.2:19001":                                            "127.0.0.2:19001",
		"NOMAD_ENVOY_ADMIN_ADDR_web=127.0.0.2:19001 NOMAD_ENVOY_ADMIN_ADDR_api=127.0.0.2:19002": consulAdmin,
	} {
		if got := adminAddress(strings.Fields(environment)); got != want {
			t.Errorf("%q: %s, want %s", environment, got, want)
		}
	}
}
