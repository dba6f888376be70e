package xds_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/resource"
)

// told writes changes in lines.
func told(r *rig, n int) []string {
	var all []string
	for _, c := range r.watcher.Changes(n) {
		for _, res := range c.Resources {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", res.Kind, res.Name, res.What, strings.Join(res.Fields, "; "))))
		}
	}
	return all
}

func TestChanges(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.pass(time.Second)
		slow := edsCluster("api", 1)
		slow.ConnectTimeout = durationpb.New(time.Second)
		r.update(resource.ClusterType, slow, staticCluster("other"))
		want := []string{"cluster api changed connectTimeout: 5s -> 1s", "cluster other added"}
		if diff := cmp.Diff(want, told(r, 1)); diff != "" {
			t.Error(diff)
		}
		r.pass(time.Second)
		r.update(resource.EndpointsType, claWith("api", -1))
		want = []string{"endpoints api changed - [::1]:1001; [::1]:1000 health: healthy -> unhealthy"}
		if diff := cmp.Diff(want, told(r, 1)); diff != "" {
			t.Error(diff)
		}
		r.pass(time.Second)
		r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "other"))
		r.pass(time.Second)
		r.change(resource.ListenerType, []string{"api:1"})
		want = []string{"listener api:1 removed", `listener api:1 changed chains[0].tcp.targets[0].cluster: "api" -> "other"`}
		if diff := cmp.Diff(want, told(r, 2)); diff != "" {
			t.Error(diff)
		}
	})
}

func TestChangesShowNoSecret(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.pass(time.Second)
		r.update(resource.ClusterType, securedCluster(t, time.Now().Add(time.Hour)))
		r.pass(time.Second)
		r.update(resource.ClusterType, securedCluster(t, time.Now().Add(2*time.Hour)))
		got := strings.Join(told(r, 2), "\n")
		if strings.Contains(got, "BEGIN") || !strings.Contains(got, "tls.leaf.keyPEM: (key sha256:") ||
			!strings.Contains(got, "tls.leaf.certificatePEM: (PEM sha256:") || !strings.Contains(got, "tls: added") {
			t.Error(got)
		}
	})
}

// Of what nobody may read, neither what was nor what is is shown.
func TestDifferencesShowNoSecret(t *testing.T) {
	t.Parallel()
	with := func(secret string) *mesh.Listener {
		key := strings.Repeat(secret, 10)
		return &mesh.Listener{Name: "shown " + secret[6:], Chains: []*mesh.FilterChain{{
			TLS: &mesh.DownstreamTLS{Leaves: []mesh.Leaf{{KeyPEM: secret}}, Resume: mesh.Resumption{Keys: []string{key}}},
			HTTP: &mesh.HTTP{
				AccessLogs: []*mesh.AccessLog{{OTLP: &mesh.LogOTLP{Metadata: []mesh.Pair{{Name: "authorization", Value: secret}}}}},
				Tracing:    &mesh.Tracing{Provider: &mesh.TraceProvider{Metadata: []mesh.Pair{{Name: "x-token", Value: secret}}}},
				Filters: []mesh.HTTPFilter{
					{Lambda: &mesh.Lambda{SecretKey: secret, Session: secret}},
					{JWT: &mesh.JWT{Providers: map[string]*mesh.JWTProvider{"a.b[c": {Keys: key}}}},
					{ExtAuthz: &mesh.ExtAuthz{Service: mesh.AuthzService{
						Metadata: []mesh.HeaderValue{{Name: "authorization", Value: secret}},
						HTTP:     &mesh.AuthzHTTP{Add: []mesh.HeaderValue{{Name: "authorization", Value: secret, Text: secret}}},
					}}},
				},
			},
		}}}
	}
	got := xds.Differences(with("SECRET1"), with("SECRET2"))
	for _, line := range got {
		if strings.Contains(line, "SECRET") {
			t.Error(line)
		}
	}
	if len(got) != 11 || got[0] != `name: "shown 1" -> "shown 2"` {
		t.Errorf("%q", got)
	}
}

func TestChangesAreBounded(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		var many []proto.Message
		for i := range 200 {
			many = append(many, staticCluster(fmt.Sprintf("c%d", i)))
		}
		r.pass(time.Second)
		r.update(resource.ClusterType, many...)
		if got := r.watcher.Changes(1)[0]; len(got.Resources)+got.More != 200 || got.More != 150 {
			t.Errorf("%d told, %d more", len(got.Resources), got.More)
		}
		for i := range 100 {
			r.pass(time.Second)
			r.update(resource.EndpointsType, claWith("api", 1+i%2))
			r.update(resource.ListenerType, tcpListener(t, "api:1", uint32(1+i%2), "api"))
		}
		if got := len(r.watcher.Changes(0)); got != 64 {
			t.Errorf("%d remembered", got)
		}
	})
}
