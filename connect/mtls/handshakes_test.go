package mtls_test

import (
	"crypto/tls"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/stats"
)

// Why a handshake failed is counted by Envoy's names, on the side that found it.
func TestHandshakes(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	for _, tt := range []struct {
		name           string
		client, server mesh.Leaf
		change         func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS)
		ours, theirs   map[string]int64 // of the server, of the client
	}{
		{
			"good", ca.leaf(t, web, nil), ca.leaf(t, api, nil), nil,
			map[string]int64{"ssl.handshake": 1},
			map[string]int64{"ssl.handshake": 1},
		},
		{
			"nobody",
			mesh.Leaf{},
			ca.leaf(t, api, nil), func(d *mesh.DownstreamTLS, _ *mesh.UpstreamTLS) { d.RequireClient = false; d.Roots = mesh.Roots{} },
			map[string]int64{"ssl.handshake": 1, "ssl.no_certificate": 1},
			map[string]int64{"ssl.handshake": 1},
		},
		{
			"no client certificate",
			mesh.Leaf{},
			ca.leaf(t, api, nil), nil,
			map[string]int64{"ssl.connection_error": 1, "ssl.fail_verify_no_cert": 1},
			nil,
		},
		{
			"client of another root", other.leaf(t, web, nil), ca.leaf(t, api, nil), nil,
			map[string]int64{"ssl.connection_error": 1, "ssl.fail_verify_error": 1},
			nil,
		},
		{
			"client of another name", ca.leaf(t, web, nil), ca.leaf(t, api, nil), func(d *mesh.DownstreamTLS, _ *mesh.UpstreamTLS) {
				d.Names = []mesh.PeerName{{Kind: mesh.NameURI, Value: exact(api)}}
			},
			map[string]int64{"ssl.connection_error": 1, "ssl.fail_verify_san": 1},
			nil,
		},
		{
			"server of another name", ca.leaf(t, web, nil), ca.leaf(t, web, nil), nil,
			map[string]int64{"ssl.connection_error": 1},
			map[string]int64{"ssl.connection_error": 1, "ssl.fail_verify_san": 1},
		},
		{
			"server of another root", ca.leaf(t, web, nil), other.leaf(t, api, nil), nil,
			map[string]int64{"ssl.connection_error": 1},
			map[string]int64{"ssl.connection_error": 1, "ssl.fail_verify_error": 1},
		},
		{
			"another server than that of the hash", ca.leaf(t, web, nil), ca.leaf(t, api, nil), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
				u.Pins.Certificates = []string{strings.Repeat("ab", 32)}
			},
			map[string]int64{"ssl.connection_error": 1},
			map[string]int64{"ssl.connection_error": 1, "ssl.fail_verify_cert_hash": 1},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d, u := downstream(ca, tt.server), upstream(ca, tt.client, api)
			if tt.change != nil {
				tt.change(d, u)
			}
			u.Params.MaxVersion = tls.VersionTLS12 // a client of TLS 1.3 is done before it is believed
			var l mtls.Loader
			o := connect(t, clientConfig(t, &l, u), serverConfig(t, &l, d))
			if o.serverErr == nil {
				for _, side := range []map[string]int64{tt.ours, tt.theirs} {
					// One of version 1.2, with a key of ECDSA.
					side["ssl.ciphers.ECDHE-ECDSA-AES128-GCM-SHA256"], side["ssl.curves.X25519"] = 1, 1
				}
			}
			if diff := cmp.Diff(tt.ours, counted(&o.server, o.serverErr)); diff != "" {
				t.Error("server", diff)
			}
			if tt.theirs != nil {
				if diff := cmp.Diff(tt.theirs, counted(&o.client, o.clientErr)); diff != "" {
					t.Error("client", diff)
				}
			}
		})
	}
}

func counted(state *tls.ConnectionState, err error) map[string]int64 {
	var h mtls.Handshakes
	if err != nil {
		h.Failed(err)
	} else {
		h.Succeeded(state)
	}
	all := map[string]int64{}
	h.Each(func(s stats.Stat) bool {
		if s.Value != 0 && s.Name != "ssl.versions.TLSv1.2" {
			all[s.Name] = s.Value
		}
		return true
	})
	return all
}
