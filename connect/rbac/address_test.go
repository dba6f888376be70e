package rbac_test

import (
	"net/netip"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/wire"
)

// TestConnectionConditions asks about addresses, ports and names of a connection.
func TestConnectionConditions(t *testing.T) {
	t.Parallel()
	prefix := func(s string) *netip.Prefix { p := netip.MustParsePrefix(s); return &p }
	peer := &wire.Peer{
		Addr: netip.MustParseAddrPort("10.1.2.3:5000"), Local: netip.MustParseAddrPort("[::ffff:10.9.0.1]:443"),
		ServerName: "api.example",
	}
	behind := &wire.Peer{Addr: peer.Addr, Direct: netip.MustParseAddrPort("127.0.0.1:1"), Local: peer.Local}
	unix := &wire.Peer{}
	linkLocal := &wire.Peer{Addr: netip.MustParseAddrPort("[fe80::1%eth0]:5000"), Local: netip.MustParseAddrPort("[fe80::2%eth0]:443")}
	any, all := mesh.Permission{Any: true}, mesh.Principal{Any: true}
	for _, tt := range []struct {
		name       string
		permission mesh.Permission
		principal  mesh.Principal
		peer       *wire.Peer
		want       bool
	}{
		{"source", any, mesh.Principal{Source: prefix("10.1.0.0/16")}, peer, true},
		{"another source", any, mesh.Principal{Source: prefix("10.2.0.0/16")}, peer, false},
		{"source of version 6", any, mesh.Principal{Source: prefix("::/0")}, peer, false},
		{"source with a zone", any, mesh.Principal{Source: prefix("fe80::/10")}, linkLocal, true},
		{"direct with a zone", any, mesh.Principal{Direct: prefix("fe80::1/128")}, linkLocal, true},
		{"remote with a zone", any, mesh.Principal{Remote: prefix("fe80::1/128")}, linkLocal, true},
		{"destination with a zone", mesh.Permission{Destination: prefix("fe80::2/128")}, all, linkLocal, true},
		{"another source with a zone", any, mesh.Principal{Source: prefix("fe80::2/128")}, linkLocal, false},
		{"source of a socket", any, mesh.Principal{Source: prefix("0.0.0.0/0")}, unix, false},
		{"not a source of a socket", any, mesh.Principal{Not: &mesh.Principal{Source: prefix("0.0.0.0/0")}}, unix, true},
		{"direct", any, mesh.Principal{Direct: prefix("10.1.2.3/32")}, peer, true},
		{"direct through a proxy", any, mesh.Principal{Direct: prefix("10.1.2.3/32")}, behind, false},
		{"direct is the proxy", any, mesh.Principal{Direct: prefix("127.0.0.0/8")}, behind, true},
		{"destination", mesh.Permission{Destination: prefix("10.9.0.1/32")}, all, peer, true},
		{"another destination", mesh.Permission{Destination: prefix("10.9.0.2/32")}, all, peer, false},
		{"port", mesh.Permission{Ports: &mesh.PortRange{First: 443, Last: 443}}, all, peer, true},
		{"ports", mesh.Permission{Ports: &mesh.PortRange{First: 400, Last: 442}}, all, peer, false},
		{"port of a socket", mesh.Permission{Ports: &mesh.PortRange{Last: 65535}}, all, unix, false},
		{"server name", mesh.Permission{ServerName: regex(`[a-z]+\.example`)}, all, peer, true},
		{"no server name", mesh.Permission{ServerName: regex(`[a-z]+\.example`)}, all, unix, false},
		{"path without a request", any, mesh.Principal{Path: regex(`/.*`)}, peer, false},
	} {
		p, err := rbac.Compile([]*mesh.Intention{allow(policy("p", tt.permission, tt.principal))})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := p.Decide(rbac.Input{Peer: tt.peer}); got != tt.want {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
	}
	byPath, err := rbac.Compile([]*mesh.Intention{allow(policy("p", any, mesh.Principal{Path: regex(`/a`)}))})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{"/a": true, "/a?b": true, "/ab": false} {
		if got, _ := byPath.Decide(rbac.Input{Peer: peer, Request: request("GET", path)}); got != want {
			t.Errorf("%s: got %v, want %v", path, got, want)
		}
	}
}

// TestActions: the action Log and a filter without rules allow everything.
func TestActions(t *testing.T) {
	t.Parallel()
	all := policy("p", mesh.Permission{Any: true}, mesh.Principal{Any: true})
	for name, tt := range map[string]struct {
		in   *mesh.Intention
		want bool
	}{
		"log":                  {&mesh.Intention{Action: mesh.Log}, true},
		"log what matches":     {&mesh.Intention{Action: mesh.Log, Policies: []mesh.IntentionPolicy{all}}, true},
		"no rules":             {&mesh.Intention{Unenforced: true}, true},
		"no rules and refused": {&mesh.Intention{Unenforced: true, Refusal: "x"}, false},
		"trap 8: empty rules":  {&mesh.Intention{}, false},
	} {
		p, err := rbac.Compile([]*mesh.Intention{tt.in})
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := p.Decide(rbac.Input{Peer: &wire.Peer{}}); got != tt.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
