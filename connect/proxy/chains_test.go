package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/xds/resource"
)

const inspectors = `,"listener_filters":[{"name":"t","typed_config":{"@type":"` + types + `listener.tls_inspector.v3.TlsInspector"}},` +
	`{"name":"h","typed_config":{"@type":"` + types + `listener.http_inspector.v3.HttpInspector"}}]`

// Trap 5: an update that does not change a chain does not touch its connections,
// whatever comes before it, behind it, or goes.
func TestTrap05ChainsKeepConnections(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a"), "b": says(t, "b"), "c": says(t, "c")})
	address := freeAddress(t)
	update := func(more string, chains ...string) {
		t.Helper()
		d.push(t, resource.ListenerType, nil, listener("l", address, inspectors+more, chains...))
	}
	a := tcpChain(`"source_prefix_ranges":[{"address_prefix":"127.0.0.0","prefix_len":8}]`, "a")
	b := tcpChain(`"application_protocols":["http/1.1"]`, "b")
	c := tcpChain(`"application_protocols":["http/1.0"]`, "c")
	update("", a, b)
	toA, toB := connect(t, address, "a"), reach(t, address)
	expect(t, toB, "GET / HTTP/1.1\r\n", "bGET / HTTP/1.1\r\n")

	update("", c, b, a) // one in front, and another order
	toC := reach(t, address)
	expect(t, toC, "GET / HTTP/1.0\r\n", "cGET / HTTP/1.0\r\n")
	expect(t, toA, "still", "still")
	expect(t, toB, "still", "still")

	// Only what the chain is for by its destination has changed: virtual addresses, say.
	update("", c, tcpChain(`"application_protocols":["http/1.1","h2c"]`, "b"), a)
	connect(t, address, "a")
	expect(t, toB, "still", "still")

	// Who may use it has changed.
	update("", c, tcpChain(`"application_protocols":["http/1.1"],"source_prefix_ranges":[{"address_prefix":"10.0.0.0","prefix_len":8}]`, "b"), a)
	closes(t, toB)
	expect(t, toA, "still", "still")
	expect(t, toC, "still", "still")

	update("", a)
	closes(t, toC)
	expect(t, toA, "still", "still")
	eventually(t, "two connections", func() bool { return d.stat(listening(address)+"downstream_cx_active") == 2 })
}

const rbacTCP = `{"name":"r","typed_config":{"@type":"` + types + `network.rbac.v3.RBAC","stat_prefix":"connect_authz","rules":%s}}`

// everybody are rules that allow all.
const everybody = `{"policies":{"p":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}`

// Changed intentions hold for living connections, too, and no chain is exchanged for them.
func TestTrap05IntentionsOnTCP(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a")})
	address := freeAddress(t)
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tcpChain("", "a", fmt.Sprintf(rbacTCP, everybody))))
	conn := connect(t, address, "a")
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tcpChain("", "a", fmt.Sprintf(rbacTCP, `{"action":"DENY"}`))))
	expect(t, conn, "still", "still")
	d.push(t, resource.ListenerType, nil, listener("l", address, "", tcpChain("", "a", fmt.Sprintf(rbacTCP, "{}"))))
	closes(t, conn)
	closes(t, reach(t, address))
	for name, want := range map[string]int64{
		"tcp.to.a.downstream_cx_total": 2, "tcp.to.a.downstream_cx_rx_bytes_total": 9, "tcp.to.a.downstream_cx_tx_bytes_total": 10,
		"connect_authz.rbac.allowed": 1, "connect_authz.rbac.denied": 1, "tls_inspector.tls_found": 0,
	} {
		eventually(t, name, func() bool { return d.stat(name) == want })
	}
}

// Trap 22: TLS that a mesh gateway passes on, among thousands of chains: by the server name to the cluster of that
// name, to another datacenter by a wildcard, and nowhere for what is not known.
func TestTrap22MeshGateway(t *testing.T) {
	t.Parallel()
	const local, remote = "service-1234.default.dc1.internal.td.consul", "service-7.default.dc2.internal.td.consul"
	d := newData(t)
	d.clusters(t, map[string]string{local: secure(t, "local"), remote: secure(t, "remote"), "remote": secure(t, "dc2"), "self_admin": secure(t, "admin")})
	sni := `{"name":"s","typed_config":{"@type":"` + types + `network.sni_cluster.v3.SniCluster"}}`
	var chains []string
	for i := range 3000 {
		chains = append(chains, tcpChain(fmt.Sprintf(`"server_names":["service-%d.default.dc1.internal.td.consul"]`, i), "", sni))
	}
	chains = append(chains, tcpChain(`"server_names":["*.dc2.internal.td.consul"]`, "remote"), tcpChain("", "", sni))
	address := freeAddress(t)
	start := time.Now()
	d.push(t, resource.ListenerType, nil, listener("mesh", address, inspectors, chains...))
	t.Logf("%d chains in %v", len(chains), time.Since(start))
	for name, want := range map[string]string{
		local: "local", remote: "dc2", "other.default.dc2.internal.td.consul": "dc2",
		"self_admin": "", "service-1.default.dc1.internal.td.consul": "", "elsewhere.example": "",
	} {
		conn, err := shake(t, address, name, nil)
		if (err == nil) != (want != "") {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want != "" {
			if got := answering(conn); got != want {
				t.Errorf("%s: answered by %q, not %q", name, got, want)
			}
			expect(t, conn, "word", "word")
		}
	}
	plain := reach(t, address)                      // no TLS
	io.WriteString(plain, "GET / HTTP/1.1\r\n\r\n") //nolint:errcheck // the end will tell
	closes(t, plain)
	again := time.Now()
	conn, err := shake(t, address, local, nil)
	if err != nil {
		t.Fatal(err)
	}
	d.push(t, resource.ListenerType, nil, listener("mesh", address, inspectors, append([]string{tcpChain(`"server_names":["new.example"]`, "", sni)}, chains...)...))
	t.Logf("another one in %v", time.Since(again))
	expect(t, conn, "still", "still")
}

// httpChain is one that serves HTTP from a cluster; rules are of its RBAC filter.
func httpChain(cluster, rules string, before ...string) string {
	filters := append(before, fmt.Sprintf(`{"name":"h","typed_config":{"@type":"%[1]snetwork.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"s",
		"route_config":{"name":"r","virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%[2]q,"timeout":"0s"}}]}]},
		"upgrade_configs":[{"upgrade_type":"websocket"}],
		"http_filters":[{"name":"rbac","typed_config":{"@type":"%[1]shttp.rbac.v3.RBAC","rules":%[3]s}},
		 {"name":"router","typed_config":{"@type":"%[1]shttp.router.v3.Router"}}]}}`, types, cluster, rules))
	return fmt.Sprintf(`{"filters":[%s]}`, strings.Join(filters, ","))
}

// A stream that is open when its peer loses all that it was allowed ends soon; one that
// might still be allowed goes on, and new requests are told.
func TestTrap05IntentionsOnHTTP(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	app := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/" {
			return
		}
		flusher, _ := w.(http.Flusher)
		for {
			io.WriteString(w, "more\n") //nolint:errcheck // the test will see
			flusher.Flush()
			select {
			case <-stop:
				return
			case <-r.Context().Done():
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	})}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go app.Serve(l) //nolint:errcheck // until Close
	t.Cleanup(func() { app.Close() })
	t.Cleanup(func() { close(stop) })

	d := newData(t)
	d.clusters(t, map[string]string{"app": l.Addr().String()})
	address := freeAddress(t)
	allow := func(rules string) {
		t.Helper()
		d.push(t, resource.ListenerType, nil, listener("l", address, "", httpChain("app", rules)))
	}
	allow(everybody)
	conn := reach(t, address)
	io.WriteString(conn, "GET /stream HTTP/1.1\r\nHost: a\r\n\r\n") //nolint:errcheck // the answer will tell
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", resp, err)
	}
	defer resp.Body.Close()
	lines := bufio.NewReader(resp.Body)
	more := func() error { _, err := lines.ReadString('\n'); return err }
	allow(`{"policies":{"p":{"permissions":[{"url_path":{"path":{"exact":"/other"}}}],"principals":[{"any":true}]}}}`)
	eventually(t, "the new intentions hold", func() bool { return status(t, address) == http.StatusForbidden })
	deadline := time.Now().Add(2 * time.Second)
	for time.Now().Before(deadline) {
		if err := more(); err != nil {
			t.Fatalf("the stream ended: %v", err)
		}
	}
	allow("{}")
	start := time.Now()
	for more() == nil {
		if time.Since(start) > 20*time.Second { // ten times as long as it may take
			t.Fatal("the stream goes on though nothing is allowed")
		}
	}
	t.Logf("it took %v", time.Since(start))
}

// status is that of one request for /; 0 if there was no answer.
func status(t *testing.T, address string) int {
	t.Helper()
	resp, err := http.Get("http://" + address + "/")
	if err != nil {
		return 0
	}
	resp.Body.Close()
	return resp.StatusCode
}

// A connection limit holds on HTTP chains, too.
func TestTrap14LimitOnHTTP(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"app": says(t, "a")})
	address := freeAddress(t)
	limit := `{"name":"c","typed_config":{"@type":"` + types + `network.connection_limit.v3.ConnectionLimit","stat_prefix":"c","max_connections":1}}`
	d.push(t, resource.ListenerType, nil, listener("l", address, "", httpChain("app", "{}", limit)))
	resp, err := http.ReadResponse(bufio.NewReader(ask(t, reach(t, address))), nil)
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("%v, %v", resp, err)
	}
	resp.Body.Close()
	closes(t, reach(t, address))
}

func ask(t *testing.T, conn net.Conn) net.Conn {
	t.Helper()
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return conn
}

// When a listener moves to another address, the new one is there before the old one
// goes, and connections at the old one end.
func TestListenerMoves(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a")})
	before, after := freeAddress(t), freeAddress(t)
	d.push(t, resource.ListenerType, nil, listener("l:"+before, before, "", tcpChain("", "a")))
	old := connect(t, before, "a")
	d.push(t, resource.ListenerType, []string{"l:" + before}, listener("l:"+after, after, "", tcpChain("", "a")))
	connect(t, after, "a")
	closes(t, old)
}

// Chains that no connection could tell apart close all of them, as Envoy refuses the
// listener, and the rest serves.
func TestSameMatchTwice(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a")})
	bad, good := freeAddress(t), freeAddress(t)
	d.push(t, resource.ListenerType, nil, listener("bad", bad, "", tcpChain("", "a"), tcpChain("", "a")), listener("good", good, "", tcpChain("", "a")))
	connect(t, good, "a")
	closes(t, reach(t, bad))
	if log := d.log.String(); !strings.Contains(log, "match the same connections") {
		t.Errorf("nothing is said of it:\n%s", log)
	}
}

// A listener that wants the address of another is refused alone: what the update says of
// all others holds. It has the address when the other one has gone.
func TestOneAddressTwice(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a"), "b": says(t, "b"), "c": says(t, "c")})
	address, elsewhere := freeAddress(t), freeAddress(t)
	denied := tcpChain("", "c", fmt.Sprintf(rbacTCP, "{}"))
	d.push(t, resource.ListenerType, nil, listener("n", address, "", tcpChain("", "a")), listener("z", elsewhere, "", tcpChain("", "c")))
	first, other := connect(t, address, "a"), connect(t, elsewhere, "c")
	d.push(t, resource.ListenerType, nil, listener("b", address, "", tcpChain("", "b")), listener("z", elsewhere, "", denied))
	closes(t, other)
	expect(t, first, "still", "still")
	connect(t, address, "a")
	status := d.proxy.Status()
	if got := fmt.Sprint(status.Refusals); status.LastError != "" || len(status.Refusals) != 1 || !strings.Contains(got, `is that of listener "n"`) {
		t.Errorf("%q, %s", status.LastError, got)
	}
	d.push(t, resource.ListenerType, []string{"n"})
	closes(t, first)
	connect(t, address, "b")
	if got := d.proxy.Status().Refusals; len(got) > 0 {
		t.Errorf("%+v", got)
	}
}

// use_original_dst gives a connection to the listener of its address, also one that
// has no socket; one that was not redirected stays where it is.
func TestUnboundListener(t *testing.T) {
	t.Parallel()
	d := newData(t)
	d.clusters(t, map[string]string{"a": says(t, "a"), "b": says(t, "b")})
	address := freeAddress(t)
	d.push(t, resource.ListenerType, nil,
		listener("front", address, `,"use_original_dst":true`, tcpChain("", "a")),
		listener("behind", address, `,"bind_to_port":false`, tcpChain("", "b")))
	connect(t, address, "a")
}
