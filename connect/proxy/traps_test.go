package proxy_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/xds/resource"
)

// endpoints is a static cluster of endpoints, each as host:port, those that begin with "!" unhealthy.
func endpoints(t *testing.T, name string, addresses ...string) string {
	t.Helper()
	var all []string
	for _, address := range addresses {
		health := "HEALTHY"
		if bad, ok := strings.CutPrefix(address, "!"); ok {
			address, health = bad, "UNHEALTHY"
		}
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, fmt.Sprintf(`{"health_status":%q,"endpoint":{"address":{"socket_address":{"address":%q,"port_value":%s}}}}`, health, host, port))
	}
	return fmt.Sprintf(`{"name":%q,"type":"STATIC","connect_timeout":"1s","common_lb_config":{"healthy_panic_threshold":{}},
		"load_assignment":{"cluster_name":%q,"endpoints":[{"lb_endpoints":[%s]}]}}`, name, name, strings.Join(all, ","))
}

// listening is the prefix of a listener's counters.
func listening(address string) string {
	return "listener." + strings.ReplaceAll(address, ":", "_") + "."
}

// aggregate is an aggregate cluster.
func aggregate(name string, members ...string) string {
	return fmt.Sprintf(`{"name":%q,"lb_policy":"CLUSTER_PROVIDED","cluster_type":{"name":"envoy.clusters.aggregate","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig","clusters":["%s"]}}}`, name, strings.Join(members, `","`))
}

// Trap 12, on TCP: an aggregate cluster takes the place of a plain one of the same name; living connections stay, new
// ones go to the first member that has a healthy endpoint.
func TestTrap12AggregateOnTCP(t *testing.T) {
	t.Parallel()
	d := newData(t)
	plain, first, second, address := says(t, "p"), says(t, "1"), says(t, "2"), freeAddress(t)
	d.push(t, resource.ClusterType, nil, endpoints(t, "api", plain))
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tcpChain("", "api")))
	old := connect(t, address, "p")
	members := func(one string) []string {
		return []string{aggregate("api", "failover-target~0~api", "failover-target~1~api"), endpoints(t, "failover-target~0~api", one), endpoints(t, "failover-target~1~api", second)}
	}
	d.push(t, resource.ClusterType, nil, members(first)...)
	expect(t, old, "still", "still")
	connect(t, address, "1")
	d.push(t, resource.ClusterType, nil, members("!"+first)...)
	connect(t, address, "2")
	d.push(t, resource.ClusterType, nil, members(first)...)
	connect(t, address, "1")
}

// Trap 18, on TCP: with nothing but unhealthy endpoints a connection is closed, and they are not used after all.
func TestTrap18UnhealthyOnTCP(t *testing.T) {
	t.Parallel()
	d := newData(t)
	app, address := says(t, "a"), freeAddress(t)
	d.push(t, resource.ClusterType, nil, endpoints(t, "api", "!"+app))
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tcpChain("", "api")))
	conn := reach(t, address)
	if got, err := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("got %q, %v", got, err)
	}
	if n := d.stat("cluster.api.upstream_cx_none_healthy"); n != 1 {
		t.Errorf("counted %d", n)
	}
	d.push(t, resource.ClusterType, nil, endpoints(t, "api", app))
	connect(t, address, "a")
}

// Trap 30: a sidecar is there before its application: connections are closed and requests get 503 until it comes, and
// nothing else happens.
func TestTrap30BeforeTheApplication(t *testing.T) {
	t.Parallel()
	d := newData(t)
	app, address, web := freeAddress(t), freeAddress(t), freeAddress(t)
	d.clusters(t, map[string]string{"local_app": app})
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tcpChain("", "local_app")), listener("web", web, "", httpChain("local_app", everybody)))
	closes(t, reach(t, address))
	eventually(t, "503", func() bool { return status(t, web) == 503 })
	l, err := net.Listen("tcp", app)
	if err != nil {
		t.Skipf("SKIPPED %s: somebody has taken the port: %v", t.Name(), err)
	}
	serveAt(t, l, func(conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n") //nolint:errcheck // the test will see
		io.Copy(io.Discard, conn)                                                                 //nolint:errcheck // until it ends
	})
	expect(t, reach(t, address), "x", "HTTP/1.1 200")
	eventually(t, "200", func() bool { return status(t, web) == 200 })
}

// Trap 21: a terminating gateway shows a leaf for each of its services, by server name. The chain for all the rest is
// what a bare TCP check meets: it makes no error, no connection and no line in the log. A server name that nobody
// knows, and plain text, are closed.
func TestTrap21LeafByServerName(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"billing": says(t, "b"), "legacy": says(t, "l")})
	chain := func(service string) string {
		certificate, key := issue(t, service, nil).pem(t)
		plain := tcpChain(fmt.Sprintf(`"server_names":["%s.default.dc1.internal"]`, service), service, fmt.Sprintf(rbacTCP, everybody))
		return secured(plain, certificate, key, "", "")
	}
	sni := `{"name":"s","typed_config":{"@type":"` + types + `network.sni_cluster.v3.SniCluster"}}`
	address := freeAddress(t)
	d.push(t, resource.ListenerType, nil, listener("default", address, inspectors+`,"traffic_direction":"INBOUND"`, chain("billing"), chain("legacy"), tcpChain("", "", sni)))
	for _, service := range []string{"billing", "legacy"} {
		conn, err := shake(t, address, service+".default.dc1.internal", nil)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, conn, "word", service[:1]+"word")
		if got := answering(conn); got != service {
			t.Errorf("%s gets the leaf of %s", service, got)
		}
	}
	before := d.log.String()
	for range 20 {
		reach(t, address).Close()
	}
	eventually(t, "the checks have left", func() bool {
		return d.stat(listening(address)+"downstream_listener_filter_remote_close") == 20
	})
	for _, name := range []string{
		"no_filter_chain_match", "ssl.connection_error", "downstream_listener_filter_error", "downstream_pre_cx_timeout", "downstream_pre_cx_active",
	} {
		if n := d.stat(listening(address) + name); n != 0 {
			t.Errorf("%s is %d", name, n)
		}
	}
	if after := d.log.String(); after != before {
		t.Errorf("logged:\n%s", after[len(before):])
	}
	if _, err := shake(t, address, "other.default.dc1.internal", nil); err == nil {
		t.Error("a handshake with nobody")
	}
	plain := reach(t, address)
	io.WriteString(plain, "hello\r\n") //nolint:errcheck // the end will tell
	closes(t, plain)
}
