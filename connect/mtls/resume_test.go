package mtls_test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
)

// Sessions go on within their time, where tickets are given out at all, and at whoever
// has the same keys.
func TestResumption(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	key := strings.Repeat("k", 80)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, tt := range []struct {
			first, second mesh.Resumption
			want          bool
		}{
			{mesh.Resumption{Keys: []string{key}}, mesh.Resumption{Keys: []string{key}}, true},
			{mesh.Resumption{Keys: []string{key}}, mesh.Resumption{Keys: []string{"new", key}}, true},
			{mesh.Resumption{Keys: []string{key}}, mesh.Resumption{Keys: []string{"other"}}, false},
			{mesh.Resumption{Keys: []string{key}, Timeout: time.Hour}, mesh.Resumption{Keys: []string{key}, Timeout: time.Hour}, true},
			{mesh.Resumption{Keys: []string{key}, Timeout: time.Nanosecond}, mesh.Resumption{Keys: []string{key}, Timeout: time.Nanosecond}, false},
			{mesh.Resumption{Keys: []string{key}}, mesh.Resumption{Keys: []string{key}, Timeout: time.Hour}, false}, // nobody knows how old it is
			{mesh.Resumption{Off: true, Keys: []string{key}}, mesh.Resumption{Keys: []string{key}}, false},
		} {
			var l mtls.Loader
			u := upstream(ca, ca.leaf(t, web, nil), api)
			u.Params.MaxVersion, u.Params.MinVersion = version, version
			client := clientConfig(t, &l, u)
			resumed := false
			for _, r := range []mesh.Resumption{tt.first, tt.second} {
				d := downstream(ca, ca.leaf(t, api, nil))
				d.Resume = r
				o := connect(t, client, serverConfig(t, &l, d))
				if o.err() != nil {
					t.Fatal(o.err())
				}
				resumed = o.server.DidResume
			}
			if resumed != tt.want {
				t.Errorf("%s, %+v, %+v: resumed %t", tls.VersionName(version), tt.first, tt.second, resumed)
			}
		}
	}
}

// What OCSP has said is shown to who asks.
func TestStaple(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	leaf := ca.leaf(t, api, nil)
	leaf.Staple = "\x30\x03\x0a\x01\x06"
	var l mtls.Loader
	o := connect(t, clientConfig(t, &l, upstream(ca, ca.leaf(t, web, nil), api)), serverConfig(t, &l, downstream(ca, leaf)))
	if o.err() != nil || string(o.client.OCSPResponse) != leaf.Staple {
		t.Errorf("%q, %v", o.client.OCSPResponse, o.err())
	}
}
