package xds_test

import (
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

const bootListener = `{"name": "ready", "address": {"socket_address": {"address": "127.0.0.1", "port_value": 21000}},
 "filter_chains": {"filters": {"name": "tcp", "typed_config": {
  "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "a", "cluster": "self_admin"}}}}`

const bootCluster = `{"name": "self_admin", "loadAssignment": {"endpoints": [{"lbEndpoints":
 [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 19000}}}}]}]}}`

// Static resources are in force before the control plane has said a word, and
// it cannot change them.
func TestStaticResources(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, source: &source{started: make(chan struct{})}, store: &mesh.Store{}, sets: map[string]*mesh.EndpointSet{}, dead: map[string]bool{}}
		log := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
		watcher, err := xds.New(xds.Config{
			Source: r.source, Probe: r.probe, ADS: ads.Config{Node: ads.Node{ID: "web1"}},
			Static: xds.Static{
				Clusters:  []json.RawMessage{json.RawMessage(bootCluster)},
				Listeners: []json.RawMessage{json.RawMessage(bootListener), json.RawMessage(`{"name": "mine", "wrong": 1}`)},
			},
		}, r.store, r, []xds.Stage{stage{r, "first"}}, log)
		if err != nil {
			t.Fatal(err)
		}
		go watcher.Run(t.Context()) //nolint:errcheck // it ends with the context
		synctest.Wait()
		now := r.store.Load()
		if now == nil || now.Listeners["ready"] == nil || now.Listeners["ready"].Refusal != "" || now.Clusters["self_admin"] == nil {
			t.Fatalf("in force before the first word: %+v\n%s", now, r.logs.String())
		}
		got := watcher.Status().Refusals
		if len(got) != 1 || got[0].Kind != "listener" || got[0].Name != "mine" || !strings.Contains(got[0].Reason, `unknown field "wrong"`) {
			t.Errorf("refused: %+v", got)
		}
		select {
		case <-watcher.Ready():
			t.Error("ready without the control plane")
		default:
		}

		r.source.handler.Up()
		r.update(resource.ClusterType, edsCluster("self_admin", 1))
		r.update(resource.ListenerType)
		select {
		case <-watcher.Ready():
		default:
			t.Error("not ready, though the control plane has answered")
		}
		if now := r.store.Load(); now.Listeners["ready"] == nil || now.Clusters["self_admin"].Kind != mesh.ClusterStatic {
			t.Errorf("static resources are gone: %+v", now)
		}
	})
}
