package proxy_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// What comes, what is taken of it and what becomes of it is counted by type.
func TestManagerCounts(t *testing.T) {
	t.Parallel()
	d := newData(t)
	eds := `{"name":"e","type":"EDS","edsClusterConfig":{"edsConfig":{"ads":{}}}}`
	nobody := &ads.Update{Type: resource.EndpointsType, Resources: []ads.Resource{{Name: "e", Version: "1", Body: []byte("\x0a\x01e")}}}
	d.push(t, resource.ClusterType, nil, endpoints(t, "a", "127.0.0.1:9"), eds)
	d.send(t, nobody)
	d.send(t, nobody)
	d.push(t, resource.ListenerType, nil, listener("l", freeAddress(t), "", tcpChain("", "a")))
	d.push(t, resource.ClusterType, nil, endpoints(t, "a", "127.0.0.1:10"))
	d.push(t, resource.ClusterType, nil, endpoints(t, "b", "127.0.0.1:10"))
	d.send(t, &ads.Update{Type: resource.ListenerType, Removed: []string{"l"}, Version: "7", ControlPlane: "consul"})

	want := map[string]int64{
		"cluster_manager.cds.update_attempt": 4, "cluster_manager.cds.update_success": 3, "cluster_manager.cds.update_rejected": 0,
		"cluster_manager.cluster_added": 3, "cluster_manager.cluster_modified": 1, "cluster_manager.cluster_removed": 0,
		"listener_manager.lds.update_attempt": 3, "listener_manager.lds.update_success": 2,
		"listener_manager.listener_added": 1, "listener_manager.listener_modified": 0, "listener_manager.listener_removed": 1,
		"cluster.e.update_attempt": 3, "cluster.e.update_success": 2, "cluster.a.membership_change": 2, "cluster.a.update_attempt": 0,
	}
	texts := map[string]string{"control_plane.identifier": "consul", "listener_manager.lds.version_text": "7", "cluster_manager.cds.version_text": ""}
	got, said := map[string]int64{}, map[string]string{}
	for s := range d.proxy.Registry().All() {
		if _, ok := want[s.Name]; ok {
			got[s.Name] = s.Value
		}
		if _, ok := texts[s.Name]; ok {
			said[s.Name] = s.Text
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(texts, said); diff != "" {
		t.Error(diff)
	}
}
