package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/xds/resource"
)

// Counters do not go back when what has counted them goes, as long as there is
// something of their name, and two that have one name count together.
func TestTotals(t *testing.T) {
	t.Parallel()
	d := newData(t)
	app := says(t, "app:")
	cluster := func(name string) string {
		host, port := "127.0.0.1", app[len("127.0.0.1:"):]
		return fmt.Sprintf(`{"name":%q,"altStatName":"both","type":"STATIC","loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[
			{"endpoint":{"address":{"socketAddress":{"address":%q,"portValue":%s}}}}]}]}}`, name, name, host, port)
	}
	d.push(t, resource.ClusterType, nil, cluster("one"), cluster("two"))
	chain := func(cluster string) string {
		return fmt.Sprintf(`{"filters":[{"name":"t","typed_config":{"@type":"%snetwork.tcp_proxy.v3.TcpProxy","stat_prefix":"p","cluster":%q}}]}`, types, cluster)
	}
	first, second := freeAddress(t), freeAddress(t)
	const named = `,"stat_prefix":"north"`
	d.push(t, resource.ListenerType, nil, listener("first", first, named, chain("one")), listener("second", second, named, chain("two")))
	says := func(when string, want map[string]int64) {
		t.Helper()
		for name, n := range want {
			eventually(t, fmt.Sprintf("%s: %s is %d", when, name, n), func() bool { return d.stat(name) == n })
		}
	}
	connect(t, first, "app:").Close()
	living := connect(t, second, "app:")
	says("both", map[string]int64{"tcp.p.downstream_cx_total": 2, "tcp.p.downstream_cx_active": 1, "cluster.both.upstream_cx_total": 2, "cluster.both.membership_total": 2})
	says("both listeners", map[string]int64{"listener.north.downstream_cx_total": 2, "listener.north.downstream_cx_active": 1})

	d.push(t, resource.ListenerType, []string{"first"})
	d.push(t, resource.ClusterType, []string{"one"})
	says("the second", map[string]int64{"listener.north.downstream_cx_total": 2, "listener_manager.total_listeners_draining": 0, "tcp.p.downstream_cx_total": 2, "tcp.p.downstream_cx_active": 1, "cluster.both.upstream_cx_total": 2, "cluster.both.membership_total": 1})

	third := freeAddress(t)
	d.push(t, resource.ListenerType, []string{"second"}, listener("third", third, named, chain("two")))
	says("a listener that drains", map[string]int64{
		"listener_manager.total_listeners_draining": 1, "listener.north.downstream_cx_total": 2, "listener.north.downstream_cx_active": 1,
	})
	living.Close()
	says("a listener that has drained", map[string]int64{"listener_manager.total_listeners_draining": 0})
	connect(t, third, "app:").Close()
	says("the third", map[string]int64{"listener.north.downstream_cx_total": 3, "listener.north.downstream_cx_active": 0, "tcp.p.downstream_cx_total": 3})
	d.push(t, resource.ListenerType, []string{"third"}, listener("second", second, named, chain("two")))
	says("no connection", map[string]int64{"listener.north.downstream_cx_total": 3, "tcp.p.downstream_cx_total": 3, "tcp.p.downstream_cx_active": 0})
	d.push(t, resource.ListenerType, []string{"second"}, listener("first", first, "", chain("two")))
	connect(t, first, "app:").Close()
	says("another", map[string]int64{"tcp.p.downstream_cx_total": 4, "cluster.both.upstream_cx_total": 4})

	d.push(t, resource.ListenerType, []string{"first"})
	says("none is left, once more is pushed", map[string]int64{"cluster.both.upstream_cx_total": 4})
}

// What a connection manager has counted is forgotten with the last one of its prefix, and not before.
func TestForgetsManagers(t *testing.T) {
	t.Parallel()
	d := newData(t)
	manager := func(prefix string) string {
		return fmt.Sprintf(`{"filters":[{"name":"h","typed_config":{"@type":"%snetwork.http_connection_manager.v3.HttpConnectionManager","stat_prefix":%q,
			"http_filters":[{"name":"r","typed_config":{"@type":"%shttp.router.v3.Router"}}],"route_config":{"virtual_hosts":[{"name":"v","domains":["*"],
			"routes":[{"match":{"prefix":"/"},"direct_response":{"status":200}}]}]}}}]}`, types, prefix, types)
	}
	first, second := freeAddress(t), freeAddress(t)
	d.push(t, resource.ClusterType, nil)
	d.push(t, resource.ListenerType, nil, listener("first", first, `,"stat_prefix":"north"`, manager("in.a")), listener("second", second, `,"stat_prefix":"south"`, manager("in.a")),
		listener("third", freeAddress(t), "", manager("in")))
	client := &http.Client{Transport: &http.Transport{}}
	eventually(t, "an answer", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+first, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			return false
		}
		return resp.Body.Close() == nil
	})
	client.CloseIdleConnections()
	below := func(prefix string) (n int) {
		for s := range d.proxy.Registry().All() {
			if strings.HasPrefix(s.Name, prefix) {
				n++
			}
		}
		return n
	}
	eventually(t, "the request to be counted", func() bool {
		return d.stat("http.in.a.downstream_rq_2xx") == 1 && d.stat("http.in.a.downstream_cx_active") == 0
	})
	d.push(t, resource.ListenerType, []string{"first"})
	if d.stat("http.in.a.downstream_rq_2xx") != 1 || below("listener.south.http.in.a.") == 0 {
		t.Error("what is still asked for was forgotten")
	}
	if n := below("listener.north.http."); n != 0 {
		t.Errorf("%d names of the listener that is gone", n)
	}
	d.push(t, resource.ListenerType, []string{"second"})
	if n, others := below("http.in.a."), below("http.in."); n != 0 || others == 0 {
		t.Errorf("%d names of the prefix that is gone, and %d of another", n, others)
	}
}
